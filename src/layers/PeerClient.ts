/**
 * One connection to a peer, from its opening to whatever ends it: used once, never repaired (`peer/PeerTransport.ts`
 * says why).
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as RpcClient from "effect/rpc/RpcClient"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Socket from "effect/socket/Socket"
import { joined } from "./MessageFrame.ts"
import { addressOf, type ConnectOptions, type Conversation } from "./peer/Conversation.ts"
import * as PeerRpc from "./PeerRpc.ts"
import * as WebSocketRoute from "./WebSocketRoute.ts"

/** A `Connect`. */
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
  const { url } = yield* addressOf(options.url)
  const socket = yield* Socket.makeWebSocket(url, { openTimeout: options.connectTimeoutMs }).pipe(
    Effect.provide(WebSocketRoute.layerConstructor)
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
    protocol: "rpc",
    welcome,
    broken,
    deliver: (messages) => client.Deliver({ token, messages: joined(messages) }),
    // `RpcClient` has no calls of this kind yet, and the protocol does.
    notify: (messages) =>
      Effect.flatMap(
        Effect.orDie(encode({ token, messages: joined(messages) })),
        (payload) =>
          protocol.send(0, { _tag: "Request", id: "", tag: "Deliver", payload, headers: [], isNotification: true })
      )
  } satisfies Conversation
}, (effect, options) => Effect.timeout(effect, options.connectTimeoutMs * 2))
