/**
 * Calls on an RPC connection for what is asked often: each costs what is sent and what comes back, and neither a fiber nor a scope nor headers. They
 * go beside those of an `RpcClient` on the same connection.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Rpc from "effect/rpc/Rpc"
import type * as RpcClient from "effect/rpc/RpcClient"
import type { RpcClientError } from "effect/rpc/RpcClientError"
import { type FromServerEncoded, RequestId } from "effect/rpc/RpcMessage"
import type * as RpcSerialization from "effect/rpc/RpcSerialization"
import * as Schema from "effect/Schema"

/** No `RpcClient` has it: they count from 0. */
const clientId = -1

interface Waiting {
  readonly answered: (exit: unknown) => void
  readonly failed: (exit: Exit.Exit<never, RpcClientError>) => void
}

const defects = (codecFor: RpcSerialization.CodecFor) => Schema.decodeUnknownSync(codecFor(Schema.Defect()))

export const make = Effect.fnUntraced(function*(protocol: RpcClient.Protocol["Service"]) {
  const { codecFor, run, send } = protocol
  const decodeDefect = defects(codecFor)
  const waiting = new Map<unknown, Waiting>()
  // An `RpcClient` counts upwards.
  let lastId = 0
  let isClosed = false

  const failAll = (exit: Exit.Exit<never, RpcClientError>): void => {
    const all = [...waiting.values()]
    waiting.clear()
    for (const { failed } of all) failed(exit)
  }

  const receive = (message: FromServerEncoded): void => {
    switch (message._tag) {
      case "Exit": {
        const call = waiting.get(message.requestId)
        waiting.delete(message.requestId)
        return call?.answered(message.exit)
      }
      case "Defect":
        return failAll(Exit.die(decodeDefect(message.defect)))
      case "ClientProtocolError":
        return failAll(Exit.fail(message.error))
      default:
    }
  }
  yield* Effect.forkScoped(run(clientId, (message) => Effect.sync(() => receive(message))), { startImmediately: true })

  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      isClosed = true
      failAll(Exit.interrupt())
    })
  )

  /** Calls `rpc`, which is no stream. */
  return <
    Tag extends string,
    Payload extends Schema.Codec<unknown, unknown>,
    Success extends Schema.Codec<unknown, unknown>,
    Error extends Schema.Codec<unknown, unknown>
  >(rpc: Rpc.Rpc<Tag, Payload, Success, Error>) => {
    const encode = Schema.encodeSync(codecFor(rpc.payloadSchema))
    // What `Rpc.exitSchema` makes of an RPC that is no stream and has no middleware.
    const exits = Schema.Exit(rpc.successSchema, Schema.Union([rpc.errorSchema]), Schema.Defect())
    const decode = Schema.decodeUnknownExit(codecFor(exits))
    return (payload: Payload["Type"]): Effect.Effect<Success["Type"], Error["Type"] | RpcClientError> =>
      Effect.suspend(() => {
        if (isClosed) return Effect.interrupt
        const id = --lastId
        const answer = Deferred.makeUnsafe<Success["Type"], Error["Type"] | RpcClientError>()
        waiting.set(id, {
          answered: (encoded) => {
            const decoded = decode(encoded)
            Deferred.doneUnsafe(answer, Exit.isSuccess(decoded) ? decoded.value : Exit.die(Cause.squash(decoded.cause)))
          },
          failed: (exit) => void Deferred.doneUnsafe(answer, exit)
        })
        const request = { _tag: "Request", id, tag: rpc._tag, payload: encode(payload), headers: [] } as const
        return send(clientId, request).pipe(
          Effect.andThen(Deferred.await(answer)),
          Effect.onExit((exit) => {
            // What was answered is none of the server's business any more.
            if (!waiting.delete(id) || !Exit.hasInterrupts(exit)) return Effect.void
            return Effect.ignore(send(clientId, { _tag: "Interrupt", requestId: RequestId(id) }))
          })
        )
      })
  }
})
