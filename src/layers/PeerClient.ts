/**
 * One connection to a peer, from its opening to whatever ends it: used once, never repaired (`TransportHttp.ts` says
 * why).
 */
import * as NodeWS from "@effect/platform-node/NodeWS"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as RpcClient from "effect/rpc/RpcClient"
import type { RpcClientError } from "effect/rpc/RpcClientError"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Socket from "effect/socket/Socket"
import * as PeerRpc from "./PeerRpc.ts"
import * as WebSocketRoute from "./WebSocketRoute.ts"

/** A peer's url is none. `message` quotes it. */
export class AddressError extends Data.TaggedError("AddressError")<{ readonly message: string }> {}

/**
 * Node's `ws`: it can pause reading, and the mask, of no use between servers, can be left zero, which spares a pass
 * over each byte.
 */
const webSocketConstructor: Socket.WebSocketConstructor["Service"] = (url) =>
  new NodeWS.WebSocket(url, {
    maxPayload: PeerRpc.frameBytesMax,
    perMessageDeflate: false,
    generateMask: (mask) => void mask.fill(0)
  })

/** Fails where the constructor would throw. */
const webSocketUrl = (base: string): Effect.Effect<string, AddressError> => {
  const found = WebSocketRoute.address(base, PeerRpc.path)
  return "url" in found ? Effect.succeed(found.url) : Effect.fail(new AddressError({ message: found.problem }))
}

export interface Conversation {
  /** Delivers a frame of messages, and ends when it and all before it have been heard. */
  readonly deliver: (messages: Uint8Array) => Effect.Effect<void, PeerRpc.Refused | RpcClientError>
  /** The same without an answer, which spares both sides a message: ends as soon as it is on its way. */
  readonly notify: (messages: Uint8Array) => Effect.Effect<void, RpcClientError>
  readonly welcome: PeerRpc.Welcome
  /** Fails with whatever ends the connection. */
  readonly broken: Deferred.Deferred<never, unknown>
}

export interface ConnectOptions {
  readonly url: string
  readonly hello: PeerRpc.Greeting
  readonly pingIntervalMs: number
  readonly pingTimeoutMs: number
  readonly connectTimeoutMs: number
}

/**
 * A fresh connection to `url`, with `Hello` answered, that lasts as long as the scope. Fails with `PeerRpc.Refused`,
 * `AddressError`, `RpcClientError` or a timeout.
 */
export const connect = Effect.fnUntraced(function*(options: ConnectOptions) {
  const broken = Deferred.makeUnsafe<never, unknown>()
  const settled = Deferred.makeUnsafe<void>()
  const hooks: RpcClient.ConnectionHooks["Service"] = {
    onConnect: Effect.sync(() => Deferred.doneUnsafe(settled, Exit.void)),
    onDisconnect: Effect.sync(() => {
      Deferred.doneUnsafe(settled, Exit.void)
      Deferred.doneUnsafe(broken, Exit.fail("the connection closed"))
    })
  }
  const url = yield* webSocketUrl(options.url)
  const socket = yield* Socket.makeWebSocket(url, { openTimeout: options.connectTimeoutMs }).pipe(
    Effect.provideService(Socket.WebSocketConstructor, webSocketConstructor)
  )
  const protocol = yield* RpcClient.makeProtocolSocket({
    retryPolicy: Schedule.recurs(0),
    pingInterval: options.pingIntervalMs,
    pingTimeout: options.pingTimeoutMs
  }).pipe(
    Effect.provideService(Socket.Socket, socket),
    Effect.provideService(RpcClient.ConnectionHooks, hooks),
    Effect.provide(PeerRpc.layerSerialization)
  )
  const client = yield* RpcClient.make(PeerRpc.PeerRpcs, { disableTracing: true }).pipe(
    Effect.provideService(RpcClient.Protocol, protocol)
  )
  // Only then: a call that is interrupted before waits for a connection to say so on, which would hold up a shutdown.
  yield* Deferred.await(settled)
  const { token, ...welcome } = yield* client.Hello(options.hello)
  const encode = Schema.encodeEffect(protocol.codecFor(PeerRpc.Deliver.payloadSchema))
  return {
    welcome,
    broken,
    deliver: (messages) => client.Deliver({ token, messages }),
    // `RpcClient` has no calls of this kind yet, and the protocol does.
    notify: (messages) =>
      Effect.flatMap(
        Effect.orDie(encode({ token, messages })),
        (payload) =>
          protocol.send(0, { _tag: "Request", id: "", tag: "Deliver", payload, headers: [], isNotification: true })
      )
  } satisfies Conversation
}, (effect, options) => Effect.timeout(effect, options.connectTimeoutMs * 2))

/** The refusal in `cause`, if that is what it is. */
export const refusalOf = (cause: Cause.Cause<unknown>): PeerRpc.Refused | undefined => {
  const error = Cause.squash(cause)
  return error instanceof PeerRpc.Refused ? error : undefined
}

/** Why a connection ended, for the log: the innermost cause says most, as `connect ECONNREFUSED 127.0.0.1:7102`. */
export const describe = (cause: Cause.Cause<unknown>): string => {
  if (Cause.hasInterruptsOnly(cause)) return "the other side is shutting down"
  let error: unknown = Cause.squash(cause)
  let text = String(error)
  for (let depth = 0; depth < 8 && typeof error === "object" && error !== null; depth++) {
    if ("message" in error && typeof error.message === "string" && error.message !== "") text = error.message
    error = "reason" in error
      ? error.reason
      : "error" in error
      ? error.error
      : "cause" in error
      ? error.cause
      : undefined
  }
  return text
}
