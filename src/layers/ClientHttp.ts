/**
 * Answers clients at `/rpc` from this process's node. Merge it into the routes of an HTTP server; provide `RaftNode` outside of
 * `HttpRouter.serve`, which would otherwise build a node of its own.
 *
 * ```ts
 * HttpRouter.serve(ClientHttp.layer({ urlOf: (id) => urls[id] })).pipe(Layer.provide(raftNode), Layer.provide(httpServer))
 * ```
 */
import * as Effect from "effect/Effect"
import type * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import * as RpcServer from "effect/rpc/RpcServer"
import { Redirected } from "../services/RaftClient.ts"
import { type NotLeader, RaftNode } from "../services/RaftNode.ts"
import { report, type UrlOf } from "../services/ServerStatus.ts"
import * as SnapshotReport from "../services/SnapshotReport.ts"
import { ClientRpcs, path, serialization } from "./ClientRpc.ts"
import * as WebSocketRoute from "./WebSocketRoute.ts"

const redirected = (urlOf: UrlOf) => (error: NotLeader): Effect.Effect<never, Redirected> => {
  const { leader } = error
  if (leader === undefined) return Effect.fail(new Redirected())
  const url = urlOf(leader)
  return Effect.fail(new Redirected(url === undefined ? { leader } : { leader, url }))
}

/** The handlers alone. `urlOf` finds the base URL of a server, for redirects and status. */
export const handlers = (options: { readonly urlOf: UrlOf }) =>
  ClientRpcs.toLayer(Effect.gen(function*() {
    const node = yield* RaftNode
    const redirect = redirected(options.urlOf)
    return ClientRpcs.of({
      Propose: ({ command }) => Effect.catchTag(node.propose(command), "NotLeader", redirect),
      Read: (payload) => Effect.catchTag(node.read(payload.query, payload), "NotLeader", redirect),
      ReadStale: (payload) => node.readStale(payload.query, payload),
      Status: () => Effect.map(node.status, (status) => report(status, options.urlOf)),
      TakeSnapshot: () => SnapshotReport.take(node)
    })
  }))

/** The route `/rpc`. */
export const layer = (
  options: { readonly urlOf: UrlOf }
): Layer.Layer<never, never, RaftNode | HttpRouter.HttpRouter> =>
  RpcServer.layer(ClientRpcs, { disableTracing: true, disableFatalDefects: true }).pipe(
    Layer.provide([WebSocketRoute.protocol({ path, purpose: "clients of the cluster talk here" }), handlers(options)]),
    Layer.provide(serialization)
  )
