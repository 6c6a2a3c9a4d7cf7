/** Servers' network sides for tests, on 127.0.0.1, and a caller that says whatever a test makes it say. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeWS from "@effect/platform-node/NodeWS"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Queue from "effect/Queue"
import * as References from "effect/References"
import type * as Rpc from "effect/rpc/Rpc"
import * as RpcClient from "effect/rpc/RpcClient"
import type * as RpcGroup from "effect/rpc/RpcGroup"
import * as Socket from "effect/socket/Socket"
import { createServer } from "node:http"
import { ofVoters } from "../../src/domain/Configuration.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import * as PeerRpc from "../../src/layers/PeerRpc.ts"
import * as RaftHttp from "../../src/layers/RaftHttp.ts"
import * as StorageMemory from "../../src/layers/StorageMemory.ts"
import * as TransportHttp from "../../src/layers/TransportHttp.ts"
import * as TransportSocket from "../../src/layers/TransportSocket.ts"
import { Storage, type StorageError } from "../../src/services/Storage.ts"
import { Transport } from "../../src/services/Transport.ts"

export interface NodeOptions extends Partial<TransportHttp.Limits> {
  readonly id: NodeId
  readonly urls: Map<NodeId, string>
  readonly clusterId?: string
  /** Where it listens; by default, where its url says, or on any free port. */
  readonly port?: number
  /** Its disk; by default a new one. */
  readonly disk?: StorageMemory.Disk
  /** In place of one on `disk`. */
  readonly storage?: Layer.Layer<Storage, StorageError>
  /** How it calls others; by default by RPC. */
  readonly layer?: typeof TransportHttp.layer
}

type Shared = Partial<TransportHttp.Limits> & Pick<NodeOptions, "layer">

const quickly: Partial<TransportHttp.Limits> = { retryMsMin: 5, retryMsMax: 20, refusedRetryMs: 20 }

/** The server side of peer traffic alone, on any free port by default. */
export const serving = Effect.fnUntraced(function*(inbox: PeerRpc.PeerInbox["Service"], port = 0) {
  const server = NodeHttpServer.layer(() => createServer(), {
    host: "127.0.0.1",
    port,
    gracefulShutdownTimeout: "10 millis",
    websocket: RaftHttp.websocket
  })
  const context = yield* Layer.build(
    HttpRouter.serve(RaftHttp.layer, { disableLogger: true, disableListenLog: true }).pipe(
      Layer.provideMerge([server, Layer.succeed(PeerRpc.PeerInbox, inbox)])
    )
  )
  const { address } = Context.get(context, HttpServer.HttpServer)
  return { url: address._tag === "InetAddressV4" ? `http://127.0.0.1:${address.port}` : "" }
})

/** A whole server's network side, as the program composes it. Its url is added to `urls` unless it is there already. */
export const startNode = Effect.fnUntraced(function*(options: NodeOptions) {
  const { clusterId = "c1", id, layer = TransportHttp.layer, port, urls, ...limits } = options
  const { disk = StorageMemory.makeDisk({ clusterId, nodeId: id }) } = options
  const { storage = StorageMemory.layer({ disk }) } = options
  const knownPort = Number(new URL(urls.get(id) ?? "http://127.0.0.1:0").port)
  const context = yield* Layer.build(
    layer({ id, urls, ...quickly, ...limits }).pipe(Layer.provide(storage))
  )
  const inbox = Context.get(context, PeerRpc.PeerInbox)
  const { url } = yield* serving(inbox, port ?? knownPort)
  if (!urls.has(id)) urls.set(id, url)
  const { diskRefused, isRefusedBy } = inbox
  return { ...Context.get(context, Transport), url, diskRefused, isRefusedBy }
})

/** A disk of `nodeId` that takes part already, as that of every server does but at its very first start. */
export const admittedDisk = Effect.fnUntraced(function*(nodeId: NodeId, clusterId = "c1") {
  const disk = StorageMemory.makeDisk({ clusterId, nodeId })
  yield* Effect.scoped(
    Effect.flatMap(Storage, (storage) => storage.rememberDisks({ isAdmitted: true, disks: new Map() })).pipe(
      Effect.provide(StorageMemory.layer({ disk }))
    )
  )
  return disk
}, Effect.orDie)

const makeDisks = () => {
  const disks = new Map<NodeId, StorageMemory.Disk>()
  return (id: NodeId): Effect.Effect<StorageMemory.Disk> =>
    Effect.suspend(() => {
      const disk = disks.get(id)
      if (disk !== undefined) return Effect.succeed(disk)
      return Effect.tap(admittedDisk(id), (made) => Effect.sync(() => disks.set(id, made)))
    })
}

/** Servers that are told where all of them are. Each keeps its disk when it starts again. */
export const cluster = (limits: Shared = {}) =>
  Effect.sync(() => {
    const urls = new Map<NodeId, string>()
    const diskOf = makeDisks()
    const start = Effect.fnUntraced(function*(id: NodeId) {
      return yield* startNode({ id, urls, disk: yield* diskOf(id), ...limits })
    }, Effect.orDie)
    return { urls, start, configuration: (...voters: ReadonlyArray<NodeId>) => ofVoters(voters) }
  })

/** Servers each of which is told only where it is itself. */
export const strangers = (limits: Shared = {}) =>
  Effect.sync(() => {
    const urls = new Map<NodeId, string>()
    const diskOf = makeDisks()
    const start = Effect.fnUntraced(function*(id: NodeId) {
      const node = yield* startNode({ id, urls: new Map(), disk: yield* diskOf(id), ...limits })
      urls.set(id, node.url)
      return node
    }, Effect.orDie)
    const configuration = (...voters: ReadonlyArray<NodeId>) =>
      ofVoters(voters, new Map(voters.map((id) => [id, urls.get(id) ?? "http://127.0.0.1:1"])))
    return { urls, start, configuration }
  })

/** Both ways to call others. */
export const layers: ReadonlyArray<readonly [string, typeof TransportHttp.layer]> = [
  ["Effect RPC", TransportHttp.layer],
  ["bare connections", TransportSocket.layer]
]

/** The same servers, calling in that way. */
export const over = (layer: typeof TransportHttp.layer) => ({
  startNode: (options: NodeOptions) => startNode({ layer, ...options }),
  cluster: (limits: Partial<TransportHttp.Limits> = {}) => cluster({ layer, ...limits }),
  strangers: (limits: Partial<TransportHttp.Limits> = {}) => strangers({ layer, ...limits })
})

export interface Line {
  readonly level: string
  readonly text: string
  readonly annotations: Readonly<Record<string, unknown>>
}

/** Runs `body` with every log line in a queue. */
export const withLog = <A, E, R>(
  body: (lines: Queue.Dequeue<Line>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.flatMap(Queue.unbounded<Line>(), (lines) => {
    const logger = Logger.make(({ fiber, logLevel, message }) => {
      Queue.offerUnsafe(lines, {
        level: logLevel,
        text: String(message),
        annotations: fiber.getRef(References.CurrentLogAnnotations)
      })
    })
    return Effect.provide(body(lines), Logger.layer([logger]))
  })

export const takeLine = (lines: Queue.Dequeue<Line>, node: NodeId, text: string) =>
  Queue.take(lines).pipe(Effect.repeat({ until: (line) => line.annotations["node"] === node && line.text === text }))

/** A caller that is no `TransportHttp`: it says what the test makes it say. */
export const rawClient = Effect.fnUntraced(
  function*<Rpcs extends Rpc.Any>(url: string, group: RpcGroup.RpcGroup<Rpcs>) {
    const protocol = RpcClient.layerProtocolSocket().pipe(
      Layer.provide(Layer.effect(Socket.Socket)(Socket.makeWebSocket(`${url.replace("http", "ws")}/raft`))),
      Layer.provide([NodeWS.layerWebSocketConstructor, PeerRpc.layerSerialization])
    )
    return yield* Effect.provideContext(RpcClient.make(group, { disableTracing: true }), yield* Layer.build(protocol))
  }
)

export const hello = {
  protocolVersion: PeerRpc.protocolVersion,
  clusterId: "c1",
  from: "n3",
  to: "n2",
  diskId: "3".repeat(32)
}
