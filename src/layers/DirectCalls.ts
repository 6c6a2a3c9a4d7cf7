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

/** The calls of a connection that wait for an answer. */
class Calls {
  readonly #waiting = new Map<unknown, Waiting>()
  readonly #decodeDefect: (defect: unknown) => unknown
  #lastId = 0
  isClosed = false

  constructor(codecFor: RpcSerialization.CodecFor) {
    this.#decodeDefect = Schema.decodeUnknownSync(codecFor(Schema.Defect()))
  }

  /** Downwards: an `RpcClient` counts upwards. */
  add(call: Waiting): number {
    this.#waiting.set(--this.#lastId, call)
    return this.#lastId
  }

  /** Whether it still waited. */
  remove(id: number): boolean {
    return this.#waiting.delete(id)
  }

  receive(message: FromServerEncoded): void {
    switch (message._tag) {
      case "Exit": {
        const call = this.#waiting.get(message.requestId)
        this.#waiting.delete(message.requestId)
        return call?.answered(message.exit)
      }
      case "Defect":
        return this.#fail(Exit.die(this.#decodeDefect(message.defect)))
      case "ClientProtocolError":
        return this.#fail(Exit.fail(message.error))
      default:
    }
  }

  close(): void {
    this.isClosed = true
    this.#fail(Exit.interrupt())
  }

  #fail(exit: Exit.Exit<never, RpcClientError>): void {
    const all = [...this.#waiting.values()]
    this.#waiting.clear()
    for (const { failed } of all) failed(exit)
  }
}

/** How to call one RPC. */
const codecs = <
  Tag extends string,
  P extends Schema.Codec<unknown, unknown>,
  A extends Schema.Codec<unknown, unknown>,
  E extends Schema.Codec<unknown, unknown>
>(
  codecFor: RpcSerialization.CodecFor,
  rpc: Rpc.Rpc<Tag, P, A, E>
) => {
  // What `Rpc.exitSchema` makes of an RPC that is no stream and has no middleware.
  const exits = Schema.Exit(rpc.successSchema, Schema.Union([rpc.errorSchema]), Schema.Defect())
  const decode = Schema.decodeUnknownExit(codecFor(exits))
  return {
    encode: Schema.encodeSync(codecFor(rpc.payloadSchema)),
    decode: (encoded: unknown): Exit.Exit<A["Type"], E["Type"]> => {
      const decoded = decode(encoded)
      return Exit.isSuccess(decoded) ? decoded.value : Exit.die(Cause.squash(decoded.cause))
    }
  }
}

/** Gives what calls an RPC, which is no stream, as long as the scope lasts. */
export const make = Effect.fnUntraced(function*({ codecFor, run, send }: RpcClient.Protocol["Service"]) {
  const calls = new Calls(codecFor)
  const running = run(clientId, (message) => Effect.sync(() => calls.receive(message)))
  yield* Effect.forkScoped(running, { startImmediately: true })
  yield* Effect.addFinalizer(() => Effect.sync(() => calls.close()))

  return <
    Tag extends string,
    P extends Schema.Codec<unknown, unknown>,
    A extends Schema.Codec<unknown, unknown>,
    E extends Schema.Codec<unknown, unknown>
  >(rpc: Rpc.Rpc<Tag, P, A, E>) => {
    const { decode, encode } = codecs(codecFor, rpc)
    return (payload: P["Type"]): Effect.Effect<A["Type"], E["Type"] | RpcClientError> =>
      Effect.suspend(() => {
        if (calls.isClosed) return Effect.interrupt
        const encoded = encode(payload)
        const answer = Deferred.makeUnsafe<A["Type"], E["Type"] | RpcClientError>()
        const id = calls.add({
          answered: (exit) => void Deferred.doneUnsafe(answer, decode(exit)),
          failed: (exit) => void Deferred.doneUnsafe(answer, exit)
        })
        const asked = Effect.andThen(
          send(clientId, { _tag: "Request", id, tag: rpc._tag, payload: encoded, headers: [] }),
          Deferred.await(answer)
        )
        return Effect.onExitPrimitive(asked, (exit) => {
          // What was answered is none of the server's business any more.
          if (!calls.remove(id) || !Exit.hasInterrupts(exit)) return undefined
          return Effect.ignore(send(clientId, { _tag: "Interrupt", requestId: RequestId(id) }))
        })
      })
  }
})
