/**
 * One server as a Layer: storage, transport, node and HTTP, put together.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import type { ServeError } from "effect/http/HttpServerError"
import * as Layer from "effect/Layer"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import * as Configuration from "../domain/Configuration.ts"
import type { NodeId } from "../domain/NodeId.ts"
import type { Settings } from "../domain/Settings.ts"
import * as ClientHttp from "../layers/ClientHttp.ts"
import * as KvHttp from "../layers/kv/Http.ts"
import * as Protocol from "../layers/kv/Protocol.ts"
import * as Store from "../layers/kv/Store.ts"
import { PeerInbox } from "../layers/PeerRpc.ts"
import * as RaftHttp from "../layers/RaftHttp.ts"
import * as StorageFile from "../layers/StorageFile.ts"
import * as TransportHttp from "../layers/TransportHttp.ts"
import * as TransportSocket from "../layers/TransportSocket.ts"
import * as RaftNode from "../services/RaftNode.ts"
import type { UrlOf } from "../services/ServerStatus.ts"
import type { StorageError } from "../services/Storage.ts"
import type { Cluster } from "./Cluster.ts"

/** How a server calls the others; it takes both. */
export const peerProtocols = ["rpc", "frames"] as const
export type PeerProtocol = (typeof peerProtocols)[number]

const transports = { rpc: TransportHttp.layer, frames: TransportSocket.layer }

export interface Options {
  readonly cluster: Cluster
  /** Of the data directory, or of the cluster that this server begins or has joined. */
  readonly clusterId: string
  readonly directory: string
  readonly settings: Partial<Settings>
  readonly valueBytesMax: number
  readonly peerProtocol: PeerProtocol
}

const early = (_: IncomingMessage, response: ServerResponse): void => {
  response.writeHead(503, { "content-type": "application/json", "retry-after": "1", connection: "close" })
  response.end(JSON.stringify({ _tag: "NoLeader", outcome: "not-applied" }))
}

/**
 * A server that answers from its first connection on. It listens before its routes are attached, and without any listener a request
 * would wait for good.
 */
export const listener = (): Server => {
  const server = createServer({ maxHeaderSize: KvHttp.maxHeaderSize, requestTimeout: requestTimeoutMs })
  const onNewListener = (event: string | symbol): void => {
    if (event !== "request") return
    server.off("newListener", onNewListener)
    server.off("request", early)
  }
  server.on("request", early)
  server.on("newListener", onNewListener)
  return server
}

/** Where servers are: as the flags say, which are this server's own view of the network, or as the configuration in force does. */
const urlsOf = (urls: ReadonlyMap<NodeId, string>, { status }: RaftNode.RaftNode["Service"]): UrlOf => (id) =>
  urls.get(id) ?? Effect.runSync(status).configuration.addresses.get(id)

/**
 * A member without an address is not reached: this server may stand apart from its own cluster, and does not know where to send clients. Where the others
 * are enough it is of use all the same, and an address may come with the log.
 */
const warnOfUnknownAddresses = (urls: ReadonlyMap<NodeId, string>) =>
  Layer.effectDiscard(Effect.gen(function*() {
    const node = yield* RaftNode.RaftNode
    const urlOf = urlsOf(urls, node)
    const { configuration, id } = yield* node.status
    const missing = Configuration.members(configuration).filter((one) => urlOf(one) === undefined)
    if (missing.length === 0) return
    const text = "members whose address nobody said are not reached: give each a --peer, or titan member add ID URL"
    yield* Effect.annotateLogs(Effect.logWarning(text), { node: id, members: missing.join(" ") })
  }))

/** How long a client may take to send a request, its body included. */
const requestTimeoutMs = 30_000

/** More than a command takes beyond its key and its value. */
const commandOverheadBytes = 256

/** Everything the routes need is provided around `serve`: what is first built inside of it exists once more there. */
export const layer = (
  options: Options
): Layer.Layer<RaftNode.RaftNode | PeerInbox, StorageError | RaftNode.SettingsError | ServeError> => {
  const { begins, id, listen, urls } = options.cluster
  const storage = StorageFile.layer({ directory: options.directory, clusterId: options.clusterId, nodeId: id })
  const transport = transports[options.peerProtocol]({ id, urls })
  const configuration = begins._tag === "Join"
    ? Configuration.unknown
    : Configuration.ofVoters([...urls.keys()].toSorted(), urls)
  // Clients at /rpc send commands as bytes: the limit on values holds there as a limit on commands.
  const commandBytesMax = options.valueBytesMax + Protocol.keyBytesMax + commandOverheadBytes
  const node = RaftNode.layer({ configuration, settings: options.settings, commandBytesMax }).pipe(
    Layer.provide(Store.layer),
    Layer.provideMerge(transport),
    Layer.provide(storage)
  )
  const routes = Layer.unwrap(Effect.gen(function*() {
    const { isRefusedBy } = yield* PeerInbox
    const urlOf = urlsOf(urls, yield* RaftNode.RaftNode)
    // Never send a client where this server was refused: it would write to another cluster.
    const trusted: UrlOf = (peer) => isRefusedBy(peer) ? undefined : urlOf(peer)
    return Layer.mergeAll(
      KvHttp.layer({ urlOf: trusted, valueBytesMax: options.valueBytesMax }),
      ClientHttp.layer({ urlOf: trusted }),
      RaftHttp.layer
    )
  }))
  const http = NodeHttpServer.layer(listener, {
    host: listen.host,
    port: listen.port,
    // Whoever waited for an answer has one by then; what is left are connections that nobody else would end.
    gracefulShutdownTimeout: "200 millis",
    websocket: RaftHttp.websocket
  })
  return HttpRouter.serve(routes, {
    routerConfig: KvHttp.routerConfig,
    disableLogger: true,
    disableListenLog: true
  }).pipe(
    Layer.provide(http),
    Layer.provide(warnOfUnknownAddresses(urls)),
    // Built first: nobody is let in before the log is read.
    Layer.provideMerge(node)
  )
}
