/**
 * A whole cluster of your state machine in memory, with the invariants on: every step of every node is checked by `checkState` and
 * `checkStep`, and all nodes together by the properties of the paper's Figure 3. A finding stops the node that made it, and fails the
 * test when its scope closes. Under TestClock nothing happens until the test moves the time.
 *
 * ```ts
 * const cluster = yield* TestCluster.make({ size: 3, stateMachine: Counter.layer, seed: 1 })
 * yield* TestClock.adjust("1 second")
 * const leader = yield* cluster.leader
 * yield* cluster.partition(["n1"], ["n2", "n3"])
 * ```
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as Configuration from "../domain/Configuration.ts"
import type { NodeId } from "../domain/NodeId.ts"
import type { Settings } from "../domain/Settings.ts"
import * as StorageMemory from "../layers/StorageMemory.ts"
import * as TransportMemory from "../layers/TransportMemory.ts"
import * as RaftClient from "../services/RaftClient.ts"
import * as RaftNode from "../services/RaftNode.ts"
import { StateMachine } from "../services/StateMachine.ts"
import type { Storage, StorageError } from "../services/Storage.ts"
import { connect } from "./Connection.ts"
import { Figure3, type Violation } from "./Figure3.ts"
import { Nodes } from "./Nodes.ts"
import { Process } from "./Process.ts"
import { type Observed, Watch } from "./Watch.ts"

export type { Observed } from "./Watch.ts"

export interface Options {
  /** Nodes n1 … n(size), the voters that the cluster begins with. */
  readonly size: number
  /** So many further nodes, n(size + 1) and so on, run and belong to no cluster until they are added (`RaftNode.reconfigure`). Default 0. */
  readonly spares?: number
  readonly stateMachine: Layer.Layer<StateMachine>
  /** Of everything random: election timeouts and the network. */
  readonly seed: number
  readonly settings?: Partial<Settings>
  readonly network?: Omit<TransportMemory.NetworkOptions, "seed" | "tap">
  readonly requestTimeoutMs?: number
  readonly waitingRequestsMax?: number
  /**
   * Puts another storage in place of a node's memory disk, or around it. What such a disk holds cannot be looked at, so that the checks of
   * what is durable are off.
   */
  readonly storage?: (
    id: NodeId,
    memory: Layer.Layer<Storage, StorageError>
  ) => Layer.Layer<Storage, StorageError>
  /** Sees what became of every message. */
  readonly tap?: TransportMemory.NetworkOptions["tap"]
  /** Sees every step of every node, once it was checked. */
  readonly observe?: (observed: Observed) => void
}

export interface TestCluster {
  /** Of all nodes, spare ones included. */
  readonly ids: ReadonlyArray<NodeId>
  readonly network: TransportMemory.Network
  readonly disks: ReadonlyMap<NodeId, StorageMemory.Disk>
  readonly processes: ReadonlyMap<NodeId, Process>
  readonly figure3: Figure3
  /** A node that is up; a defect otherwise. */
  readonly node: (id: NodeId) => RaftNode.RaftNode["Service"]
  /** Finds the leader and follows it, as a program outside of the cluster would; its calls need time to pass. */
  readonly client: RaftClient.RaftClient["Service"]
  /** A node's own state machine, past Raft: what it holds, stale or not. A defect where the node is down. */
  readonly machine: (id: NodeId) => StateMachine["Service"]
  readonly running: () => ReadonlyArray<NodeId>
  /** Runs a check of the test's own; what it throws is the cluster's violation, unless there is one already. */
  readonly guard: (check: () => void) => void
  /** The first property that did not hold, or defect that stopped a node. */
  readonly violation: () => Violation | undefined
  /** Takes the violation out, where a test provokes one: its scope closes without it. */
  readonly takeViolation: Effect.Effect<Violation | undefined>
  /** Cuts every link between nodes of different groups; nodes that no group names form one more. Replaces the earlier partition. */
  readonly partition: (...groups: ReadonlyArray<ReadonlyArray<NodeId>>) => Effect.Effect<void>
  /** Cuts every link of a node. */
  readonly isolate: (id: NodeId) => Effect.Effect<void>
  /** Joins every link again. */
  readonly heal: Effect.Effect<void>
  /** Stops a node as SIGSTOP does: time goes on, what comes waits. */
  readonly pause: (id: NodeId) => Effect.Effect<void>
  readonly resume: (id: NodeId) => Effect.Effect<void>
  /**
   * Loses everything in memory, and what the disk has not synced but for its first `keepUnits` (see `StorageMemory.Disk.tear`; default 0).
   * Whoever waits for the node is told. A node that is starting does not come up; for one that is down nothing happens.
   */
  readonly crash: (id: NodeId, keepUnits?: number) => Effect.Effect<void>
  /** Starts a node that is down, with what its disk has. Where it is starting already, waits for that. */
  readonly restart: (id: NodeId) => Effect.Effect<void, StorageError>
  /** Every configuration that may be in force: the committed one, and later ones that nodes go by which are up. */
  readonly mayBeInForce: Effect.Effect<ReadonlyArray<Configuration.Configuration>>
  /** Of the nodes that are up, paused ones included. */
  readonly statuses: Effect.Effect<ReadonlyArray<RaftNode.Status>>
  /** The leader of the latest term among the nodes that are up and run. */
  readonly leader: Effect.Effect<NodeId | undefined>
}

export const make = Effect.fnUntraced(function*(options: Options) {
  const ids = Array.from({ length: options.size + (options.spares ?? 0) }, (_, i) => `n${i + 1}`)
  const first = Configuration.ofVoters(ids.slice(0, options.size))
  const outer = { scheduler: yield* Scheduler.Scheduler, clock: yield* Clock.Clock }
  const outside = Effect.runForkWith(yield* Effect.context<never>())
  const network = TransportMemory.makeNetwork({
    seed: options.seed,
    // In the test's time: what a node has sent travels on while it is paused, and whatever its clock does.
    after: (delayMs, arrive) => outside(Effect.andThen(Effect.sleep(delayMs), Effect.sync(arrive))),
    ...options.network,
    ...(options.tap === undefined ? {} : { tap: options.tap })
  })
  const disks = new Map(ids.map((id) => [id, StorageMemory.makeDisk({ clusterId: "test", nodeId: id })] as const))
  const processes = new Map(ids.map((id) => [id, new Process(outer)] as const))
  const diskOf = (id: NodeId) => options.storage === undefined ? disks.get(id)?.durable() : undefined
  const figure3 = new Figure3(diskOf)
  figure3.configuration = first
  const watch = new Watch(figure3, diskOf, options.observe)
  const nodes = new Nodes(options, { ids, first, network, watch, disks, processes, parent: yield* Scope.Scope })
  const { of, up } = nodes
  yield* Effect.addFinalizer(() =>
    Effect.andThen(
      nodes.poll,
      Effect.suspend(() => watch.violation === undefined ? Effect.void : Effect.die(watch.violation))
    )
  )
  yield* Effect.orDie(Effect.forEach(ids, nodes.start, { discard: true }))
  const node = (id: NodeId) => of(up, id).node
  const running = () => [...up.keys()]
  const client = yield* RaftClient.make({ endpoints: ids }, connect({ node, running }))
  const cluster: TestCluster = {
    ids,
    client,
    network,
    disks,
    processes,
    figure3,
    node,
    machine: (id) => of(up, id).machine,
    running,
    guard: (check) => watch.guard(check),
    violation: () => watch.violation,
    takeViolation: Effect.sync(() => watch.take()),
    partition: (...groups) => Effect.sync(() => network.partition(groups.map((group) => group.map(nodes.known)))),
    isolate: (id) => Effect.sync(() => network.isolate(nodes.known(id))),
    heal: Effect.sync(() => network.heal()),
    pause: (id) => Effect.sync(() => of(processes, id).pause()),
    resume: (id) => Effect.sync(() => of(processes, id).resume()),
    crash: nodes.crash,
    restart: nodes.start,
    mayBeInForce: Effect.map(nodes.statuses, (statuses) => [
      figure3.committedConfiguration ?? first,
      ...statuses.filter(({ configurationIndex }) => configurationIndex > figure3.committed.length)
        .map(({ configuration }) => configuration)
    ]),
    statuses: nodes.statuses,
    leader: nodes.leader
  }
  return cluster
})

/** What `whileTimePasses` waits for at most, in milliseconds of TestClock. */
const patienceMs = 60_000

/**
 * Runs `effect` under TestClock while time passes, 10 ms at a time, until it ends; a defect if it does not within a minute. What waits for an
 * election or for a message needs that.
 */
export const whileTimePasses = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
    for (let ms = 0; fiber.pollUnsafe() === undefined; ms += 10) {
      if (ms > patienceMs) return yield* Effect.die(new Error(`nothing came of it in ${patienceMs} ms`))
      yield* TestClock.adjust(10)
    }
    return yield* Fiber.join(fiber)
  })
