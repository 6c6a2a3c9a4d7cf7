/** A `RaftNode` of one server that applies at once, and whose answers a test may replace. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import type * as Etag from "effect/http/Etag"
import type * as HttpPlatform from "effect/http/HttpPlatform"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import type * as Path from "effect/Path"
import type * as Scope from "effect/Scope"
import { createServer } from "node:http"
import * as Configuration from "../../src/domain/Configuration.ts"
import type { Sequenced } from "../../src/domain/Entry.ts"
import * as Snapshot from "../../src/domain/Snapshot.ts"
import * as KvHttp from "../../src/layers/kv/Http.ts"
import * as Protocol from "../../src/layers/kv/Protocol.ts"
import * as Store from "../../src/layers/kv/Store.ts"
import {
  type ChangeError,
  ChangeRefused,
  type Consistency,
  type OpenError,
  type ProposeError,
  RaftNode,
  type ReadError,
  type SessionExpired,
  type StaleReadError,
  type Status,
  type Stopped
} from "../../src/services/RaftNode.ts"

export interface FakeNode {
  readonly service: RaftNode["Service"]
  /** Instead of applying a command: what it does, until set back to `undefined`. */
  onPropose: Effect.Effect<never, ProposeError> | undefined
  onSequenced: Effect.Effect<Uint8Array, ProposeError | SessionExpired> | undefined
  onOpenSession: Effect.Effect<never, OpenError> | undefined
  /** Instead of changing the configuration at once. */
  onChange: Effect.Effect<never, ChangeError> | undefined
  /** Instead of letting n2 lead at once. */
  onTransfer: Effect.Effect<void, ChangeError> | undefined
  onRead: Effect.Effect<Uint8Array, ReadError> | undefined
  onReadStale: Effect.Effect<never, StaleReadError> | undefined
  onTakeSnapshot: Effect.Effect<never, Stopped> | undefined
  status: Status
  leaderContactAgeMs: number | undefined
  proposed: number
  reads: number
  /** What reads asked for, in order. */
  readonly consistencies: Array<Consistency | undefined>
  readonly minIndices: Array<number | undefined>
  /** The sessions' commands, in order. */
  readonly sequenced: Array<Sequenced>
  /** To whom leadership was to go, in order. */
  readonly successors: Array<string | undefined>
}

export const make = (id = "n1"): FakeNode => {
  const machine = Protocol.wire.serve(Store.make())
  const configuration = Configuration.make({ voters: [id], learners: [] })
  let index = 0
  /** What becomes of the configuration; what is no configuration is refused as the core refuses it. */
  const changed = (changes: ReadonlyArray<Configuration.Change>) =>
    Effect.suspend(() => {
      if (fake.onChange !== undefined) return fake.onChange
      const next = Configuration.after(fake.status.configuration, changes)
      return typeof next === "string"
        ? Effect.fail(new ChangeRefused({ reason: "Invalid", message: next }))
        : Effect.succeed(next)
    })
  const fake: FakeNode = {
    onPropose: undefined,
    onSequenced: undefined,
    onOpenSession: undefined,
    onChange: undefined,
    onTransfer: undefined,
    onRead: undefined,
    onReadStale: undefined,
    onTakeSnapshot: undefined,
    status: {
      id,
      clusterId: "c",
      role: "Leader",
      term: 1,
      leaderId: id,
      commitIndex: 0,
      lastApplied: 0,
      prevLogIndex: 0,
      lastLogIndex: 0,
      snapshot: Snapshot.none(configuration),
      configuration,
      configurationIndex: 0,
      isConfigurationCommitted: true,
      followers: [],
      transferringTo: undefined,
      sending: [],
      receiving: undefined
    },
    leaderContactAgeMs: 7.4,
    proposed: 0,
    reads: 0,
    consistencies: [],
    minIndices: [],
    sequenced: [],
    successors: [],
    service: RaftNode.of({
      propose: (command) =>
        Effect.suspend(() => {
          fake.proposed++
          if (fake.onPropose !== undefined) return fake.onPropose
          return Effect.map(
            machine.apply([{ index: ++index, term: 1, command }]),
            ([result]) => result ?? new Uint8Array()
          )
        }),
      proposeInSession: (command, sequenced) =>
        Effect.suspend(() => {
          fake.sequenced.push(sequenced)
          if (fake.onSequenced !== undefined) return fake.onSequenced
          return Effect.map(
            machine.apply([{ index: ++index, term: 1, command }]),
            ([result]) => result ?? new Uint8Array()
          )
        }),
      proposeAll: (commands) =>
        Effect.forEach(commands, ({ command, sequenced }) =>
          Effect.exit(
            sequenced === undefined
              ? fake.service.propose(command)
              : fake.service.proposeInSession(command, sequenced)
          ), { concurrency: "unbounded" }),
      readAll: (queries, options) =>
        Effect.forEach(queries, (query) => Effect.exit(fake.service.read(query, options)), {
          concurrency: "unbounded"
        }),
      openSession: Effect.suspend(() => fake.onOpenSession ?? Effect.succeed(++index)),
      reconfigure: (changes) =>
        Effect.tap(changed(changes), (next) =>
          Effect.sync(() => {
            fake.status = { ...fake.status, configuration: next, configurationIndex: ++index }
          })),
      previewReconfigure: (changes) => changed(changes),
      transferLeadership: (to) =>
        Effect.suspend(() => {
          fake.successors.push(to)
          if (fake.onTransfer !== undefined) return fake.onTransfer
          fake.status = { ...fake.status, role: "Follower", leaderId: to ?? "n2", term: 2 }
          return Effect.void
        }),
      handOver: Effect.void,
      read: (query, options) =>
        Effect.suspend(() => {
          fake.reads++
          fake.consistencies.push(options?.consistency)
          return fake.onRead ?? machine.query(query)
        }),
      readStale: (query, options) =>
        Effect.suspend(() => {
          fake.reads++
          fake.minIndices.push(options?.minIndex)
          if (fake.onReadStale !== undefined) return fake.onReadStale
          const { leaderContactAgeMs } = fake
          return Effect.map(machine.query(query), (answer) => ({ answer, appliedIndex: index, leaderContactAgeMs }))
        }),
      takeSnapshot: Effect.suspend(() =>
        fake.onTakeSnapshot ?? Effect.succeed({ last: { term: 1, index }, configuration, sizeBytes: 100 })
      ),
      status: Effect.sync(() => fake.status),
      halted: Effect.never
    })
  }
  return fake
}

type Platform = Etag.Generator | FileSystem.FileSystem | HttpPlatform.HttpPlatform | Path.Path

/** Serves `routes` with `node` behind them on a free port; answers the base URL. Ends with the scope. */
export const serve = (
  node: FakeNode,
  routes: Layer.Layer<never, never, RaftNode | HttpRouter.HttpRouter | Platform>,
  options: { readonly port?: number } = {}
): Effect.Effect<string, never, Scope.Scope> =>
  Effect.gen(function*() {
    const http = NodeHttpServer.layer(() => createServer({ maxHeaderSize: KvHttp.maxHeaderSize }), {
      host: "127.0.0.1",
      port: options.port ?? 0,
      gracefulShutdownTimeout: 0
    })
    const app = HttpRouter.serve(routes, {
      disableLogger: true,
      disableListenLog: true,
      routerConfig: KvHttp.routerConfig
    }).pipe(
      Layer.provide(Layer.succeed(RaftNode, node.service)),
      Layer.provideMerge(http)
    )
    const scope = yield* Effect.scope
    const context = yield* Layer.buildWithScope(app, scope)
    const { address } = yield* HttpServer.HttpServer.pipe(Effect.provideContext(context))
    return "port" in address ? `http://127.0.0.1:${address.port}` : yield* Effect.die("not a TCP address")
  }).pipe(Effect.orDie)
