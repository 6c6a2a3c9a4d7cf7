/**
 * The server side of peer traffic, at `/raft` of the node's HTTP server: Effect RPC over a WebSocket (`PeerRpc.ts`), or frames over the bare connection
 * (`PeerSocket.ts`), as the caller asks. What is said is the same (`peer/Callers.ts`).
 *
 * RPC starts handlers in the order their frames arrived, and batches that nobody waits for are heard at once, without one. Whatever arrives spoils
 * only the connection it came on.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import * as RpcServer from "effect/rpc/RpcServer"
import * as Schema from "effect/Schema"
import * as Callers from "./peer/Callers.ts"
import * as PeerFrames from "./PeerFrames.ts"
import * as PeerRpc from "./PeerRpc.ts"
import * as PeerSocket from "./PeerSocket.ts"
import * as WebSocketRoute from "./WebSocketRoute.ts"

/** For `NodeHttpServer.layer({ …, websocket })`: the largest frame the node reads. */
export const websocket = { maxPayload: WebSocketRoute.frameBytesMax }

const handlers = (callers: Callers.Callers) =>
  PeerRpc.PeerRpcs.toLayer({
    Hello: (hello) => callers.greet(hello),
    Deliver: ({ messages, token }) => Effect.suspend(() => callers.hear(token, messages) ?? Effect.void)
  })

/** Hears a batch that nobody waits for. A refusal has nobody to go to: the next batch that asks for an answer gets it. */
const notified = (callers: Callers.Callers): WebSocketRoute.Notified => (codecFor) => {
  const decode = Schema.decodeUnknownExit(codecFor(PeerRpc.Deliver.payloadSchema))
  return (tag, payload) => {
    if (tag !== PeerRpc.Deliver._tag) return undefined
    const decoded = decode(payload)
    if (Exit.isFailure(decoded)) return undefined
    const { messages, token } = decoded.value
    return Effect.ignore(callers.hear(token, messages) ?? Effect.void)
  }
}

const routes = (callers: Callers.Callers) => {
  const protocol = WebSocketRoute.protocol({
    path: PeerRpc.path,
    purpose: "servers of the cluster talk here",
    notified: notified(callers),
    bare: { protocol: PeerFrames.protocol, serve: PeerSocket.serve(callers) }
  })
  return RpcServer.layer(PeerRpc.PeerRpcs, { disableTracing: true, disableFatalDefects: true }).pipe(
    Layer.provide([protocol, handlers(callers)]),
    Layer.provide(PeerRpc.layerSerialization)
  )
}

/**
 * The route, for `HttpRouter.serve(...)`. It needs the `PeerInbox` of the node's transport, which must be
 * provided outside `serve`: layers first built inside it are private to it, and the node would listen to another
 * instance.
 */
export const layer: Layer.Layer<never, never, HttpRouter.HttpRouter | PeerRpc.PeerInbox> = Layer.unwrap(
  Effect.map(PeerRpc.PeerInbox, (inbox) => routes(Callers.make(inbox)))
)
