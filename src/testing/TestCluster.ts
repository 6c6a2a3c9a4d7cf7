/**
 * A whole cluster in memory, with the invariants on: every step of every node is checked by `checkState` and `checkStep`, and a finding
 * stops the node that made it. Under TestClock nothing happens until the test moves the time.
 *
 * ```ts
 * const cluster = yield* TestCluster.make({ size: 3, stateMachine: Counter.layer, seed: 1 })
 * yield* TestClock.adjust("1 second")
 * const leader = yield* cluster.leader
 * ```
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as Configuration from "../domain/Configuration.ts"
import { broken, checkState, checkStep } from "../domain/Invariants.ts"
import type { NodeId } from "../domain/NodeId.ts"
import type { Settings } from "../domain/Settings.ts"
import { step } from "../domain/Step.ts"
import * as StorageMemory from "../layers/StorageMemory.ts"
import * as TransportMemory from "../layers/TransportMemory.ts"
import * as RaftNode from "../services/RaftNode.ts"
import type { StateMachine } from "../services/StateMachine.ts"
import type { Storage, StorageError } from "../services/Storage.ts"
import type { Transport } from "../services/Transport.ts"

/** `step`, checked: a property that does not hold is a defect that names it. */
export const checkedStep: typeof step = (state, event, nowMs) => {
  const stepped = step(state, event, nowMs)
  const found = [...checkState(stepped.state), ...checkStep(state, stepped.state, stepped.commands)]
  if (found.length > 0) throw broken(found.join("; "), `${state.id} after ${event._tag}`)
  return stepped
}

export interface Options {
  /** Nodes n1 … n(size). */
  readonly size: number
  readonly stateMachine: Layer.Layer<StateMachine>
  /** Of everything random: election timeouts and the network. */
  readonly seed: number
  readonly settings?: Partial<Settings>
  readonly network?: Partial<TransportMemory.Faults>
  readonly requestTimeoutMs?: number
  /** Puts another storage in place of a node's memory disk, or around it. */
  readonly storage?: (
    id: NodeId,
    memory: Layer.Layer<Storage, StorageError>
  ) => Layer.Layer<Storage, StorageError>
  /** Sees what became of every message. */
  readonly tap?: TransportMemory.NetworkOptions["tap"]
}

interface Running {
  readonly node: RaftNode.RaftNode["Service"]
  readonly scope: Scope.Closeable
}

export interface TestCluster {
  readonly ids: ReadonlyArray<NodeId>
  readonly network: TransportMemory.Network
  readonly disks: ReadonlyMap<NodeId, StorageMemory.Disk>
  /** A node that is up; a defect otherwise. */
  readonly node: (id: NodeId) => RaftNode.RaftNode["Service"]
  readonly running: () => ReadonlyArray<NodeId>
  /** Loses what the disk has not synced and everything in memory. */
  readonly crash: (id: NodeId) => Effect.Effect<void>
  /** Starts a node that is down, with what its disk has. */
  readonly restart: (id: NodeId) => Effect.Effect<void>
  /** The leader of the latest term among the nodes that are up. */
  readonly leader: Effect.Effect<NodeId | undefined>
}

const layerOf = (
  options: Options,
  ids: ReadonlyArray<NodeId>,
  storage: Layer.Layer<Storage, StorageError>,
  transport: Layer.Layer<Transport>
) =>
  RaftNode.layer({
    configuration: Configuration.ofVoters(ids),
    ...(options.settings === undefined ? {} : { settings: options.settings }),
    ...(options.requestTimeoutMs === undefined ? {} : { requestTimeoutMs: options.requestTimeoutMs })
  }).pipe(
    Layer.provide([storage, transport, Layer.fresh(options.stateMachine), Layer.succeed(RaftNode.Core)(checkedStep)])
  )

export const make = Effect.fnUntraced(function*(options: Options) {
  const ids = Array.from({ length: options.size }, (_, i) => `n${i + 1}`)
  const network = TransportMemory.makeNetwork({
    seed: options.seed,
    ...options.network,
    ...(options.tap === undefined ? {} : { tap: options.tap })
  })
  const disks = new Map(
    ids.map((id) => [id, StorageMemory.makeDisk({ clusterId: "test", nodeId: id })] as const)
  )
  const up = new Map<NodeId, Running>()
  const parent = yield* Scope.Scope
  let starts = 0

  const diskOf = (id: NodeId): StorageMemory.Disk => {
    const disk = disks.get(id)
    if (disk === undefined) throw new Error(`the cluster has no node ${id}`)
    return disk
  }

  const start = Effect.fnUntraced(function*(id: NodeId) {
    if (up.has(id)) return
    const scope = yield* Scope.fork(parent)
    const memory = StorageMemory.layer({ disk: diskOf(id) })
    const storage = options.storage === undefined ? memory : options.storage(id, memory)
    const layer = layerOf(options, ids, storage, TransportMemory.layer({ network, id }))
    const context = yield* Layer.buildWithScope(layer, scope).pipe(
      Random.withSeed(`${options.seed} ${id} ${++starts}`),
      Effect.orDie
    )
    up.set(id, { scope, node: Context.get(context, RaftNode.RaftNode) })
  })

  const crash = Effect.fnUntraced(function*(id: NodeId) {
    const running = up.get(id)
    if (running === undefined) return
    up.delete(id)
    yield* diskOf(id).crash
    yield* Scope.close(running.scope, Exit.void)
  })

  const node = (id: NodeId) => {
    const running = up.get(id)
    if (running === undefined) throw new Error(`${id} is down`)
    return running.node
  }

  yield* Effect.forEach(ids, start, { discard: true })
  const cluster: TestCluster = {
    ids,
    network,
    disks,
    node,
    running: () => [...up.keys()],
    crash,
    restart: start,
    leader: Effect.map(
      Effect.suspend(() => Effect.forEach([...up.values()], (running) => running.node.status)),
      (all) => all.filter((status) => status.role === "Leader").toSorted((a, b) => b.term - a.term)[0]?.id
    )
  }
  return cluster
})
