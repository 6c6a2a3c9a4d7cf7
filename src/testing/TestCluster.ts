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
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
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
import { Transport } from "../services/Transport.ts"
import { connect } from "./Connection.ts"
import { Figure3, type Violation } from "./Figure3.ts"
import { Process } from "./Process.ts"
import { type Observed, Watch } from "./Watch.ts"

export type { Observed } from "./Watch.ts"

export interface Options {
  /** Nodes n1 … n(size). */
  readonly size: number
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

/** A node on its way up. */
interface Starting {
  readonly done: Deferred.Deferred<void>
  fiber: Fiber.Fiber<unknown, unknown> | undefined
  isCrashed: boolean
}

interface Running {
  readonly node: RaftNode.RaftNode["Service"]
  readonly machine: StateMachine["Service"]
  readonly scope: Scope.Closeable
}

export interface TestCluster {
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
  /** Of the nodes that are up, paused ones included. */
  readonly statuses: Effect.Effect<ReadonlyArray<RaftNode.Status>>
  /** The leader of the latest term among the nodes that are up and run. */
  readonly leader: Effect.Effect<NodeId | undefined>
}

const nodeLayer = (options: Options, ids: ReadonlyArray<NodeId>, watch: Watch) => {
  const { requestTimeoutMs, settings, waitingRequestsMax } = options
  return RaftNode.layer({
    configuration: Configuration.ofVoters(ids),
    ...(settings === undefined ? {} : { settings }),
    ...(requestTimeoutMs === undefined ? {} : { requestTimeoutMs }),
    ...(waitingRequestsMax === undefined ? {} : { waitingRequestsMax })
  }).pipe(Layer.provide(Layer.succeed(RaftNode.Core)(watch.step)))
}

/** The nodes and how they start; what their scopes do is in `make`. */
const makeStart = (
  options: Options,
  parts: {
    readonly ids: ReadonlyArray<NodeId>
    readonly network: TransportMemory.Network
    readonly watch: Watch
    readonly diskOf: (id: NodeId) => StorageMemory.Disk
  }
) => {
  const { diskOf, ids, network, watch } = parts
  const raft = nodeLayer(options, ids, watch)
  return (id: NodeId, scope: Scope.Scope) => {
    const memory = StorageMemory.layer({ disk: diskOf(id) })
    const storage = options.storage === undefined ? memory : options.storage(id, memory)
    const watched = Layer.mergeAll(
      Layer.effect(Transport, Effect.map(Transport, watch.transport(id))).pipe(
        Layer.provide(TransportMemory.layer({ network, id }))
      ),
      Layer.effect(StateMachine, Effect.map(StateMachine, watch.machine(id))).pipe(
        Layer.provide(Layer.fresh(options.stateMachine))
      )
    )
    const layer = raft.pipe(Layer.provideMerge(Layer.merge(storage, watched)))
    return Layer.buildWithScope(layer, scope).pipe(
      Effect.map((context) => ({
        node: Context.get(context, RaftNode.RaftNode),
        machine: Context.get(context, StateMachine)
      }))
    )
  }
}

export const make = Effect.fnUntraced(function*(options: Options) {
  const ids = Array.from({ length: options.size }, (_, i) => `n${i + 1}`)
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
  const watch = new Watch(figure3, diskOf, options.observe)
  const up = new Map<NodeId, Running>()
  const starting = new Map<NodeId, Starting>()
  const parent = yield* Scope.Scope
  let starts = 0

  const of = <A>(map: ReadonlyMap<NodeId, A>, id: NodeId): A => {
    const found = map.get(id)
    if (found === undefined) throw new Error(ids.includes(id) ? `${id} is down` : `the cluster has no node ${id}`)
    return found
  }

  const build = makeStart(options, { ids, network, watch, diskOf: (id) => of(disks, id) })
  const bringUp = Effect.fnUntraced(function*(id: NodeId, mine: Starting) {
    const process = of(processes, id)
    const scope = yield* Scope.fork(parent)
    watch.started(id, process.nowMs)
    // A fiber of its own, so that a crash can end it.
    const fiber = yield* Effect.forkDetach(
      build(id, scope).pipe(
        Random.withSeed(`${options.seed} ${id} ${++starts}`),
        Effect.provideService(Clock.Clock, process.clock),
        Effect.provideService(Scheduler.Scheduler, process),
        Effect.catchTag("SettingsError", (error) => Effect.die(error))
      )
    )
    mine.fiber = fiber
    if (mine.isCrashed) yield* Fiber.interrupt(fiber)
    const exit = yield* Fiber.await(fiber)
    const halted = (node: object, cause: Cause.Cause<unknown>) => watch.halted(id, node, cause, of(disks, id).misuse())
    if (Exit.isSuccess(exit) && !mine.isCrashed) {
      up.set(id, { scope, ...exit.value })
      const watching = Effect.catchCause(
        exit.value.node.halted,
        (cause) => Effect.sync(() => halted(exit.value.node, cause))
      )
      return yield* Effect.asVoid(Effect.forkIn(watching, scope))
    }
    yield* Scope.close(scope, Exit.void)
    if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return
    halted(mine, exit.cause)
    return yield* Effect.failCause(exit.cause)
  })

  const start = (id: NodeId): Effect.Effect<void, StorageError> =>
    Effect.suspend(() => {
      if (up.has(id)) return Effect.void
      const under = starting.get(id)
      if (under !== undefined) return Deferred.await(under.done)
      const mine: Starting = { done: Deferred.makeUnsafe(), fiber: undefined, isCrashed: false }
      starting.set(id, mine)
      return Effect.ensuring(
        bringUp(id, mine),
        Effect.suspend(() => {
          starting.delete(id)
          return Deferred.succeed(mine.done, undefined)
        })
      )
    })

  const crash = Effect.fnUntraced(function*(id: NodeId, keepUnits = 0) {
    const [disk, process] = [of(disks, id), of(processes, id)]
    const running = up.get(id)
    const under = starting.get(id)
    if (running === undefined && under === undefined) return
    up.delete(id)
    yield* disk.tear(keepUnits)
    // What a paused process held meets a disk and a network that are gone.
    process.resume()
    if (under !== undefined) {
      under.isCrashed = true
      if (under.fiber !== undefined) yield* Fiber.interrupt(under.fiber)
    }
    if (running !== undefined) yield* Scope.close(running.scope, Exit.void)
  })

  yield* Effect.addFinalizer(() =>
    Effect.gen(function*() {
      // A node that has just stopped tells its callers first.
      yield* Effect.yieldNow
      for (const [id, { node }] of up) {
        const halted = yield* Effect.forkDetach(Effect.exit(node.halted), { startImmediately: true })
        const exit = halted.pollUnsafe()
        if (exit === undefined) yield* Fiber.interrupt(halted)
        else if (Exit.isSuccess(exit) && Exit.isFailure(exit.value)) {
          watch.halted(id, node, exit.value.cause, of(disks, id).misuse())
        }
      }
      if (watch.violation !== undefined) return yield* Effect.die(watch.violation)
    })
  )
  yield* Effect.orDie(Effect.forEach(ids, start, { discard: true }))
  const node = (id: NodeId) => of(up, id).node
  const running = () => [...up.keys()]
  const cluster: TestCluster = {
    ids,
    client: RaftClient.make({ endpoints: ids }, connect({ node, running })),
    network,
    disks,
    processes,
    figure3,
    node,
    machine: (id) => of(up, id).machine,
    running,
    violation: () => watch.violation,
    takeViolation: Effect.sync(() => {
      const { violation } = watch
      watch.violation = undefined
      return violation
    }),
    partition: (...groups) =>
      Effect.sync(() => {
        for (const id of groups.flat()) of(disks, id)
        network.partition(groups)
      }),
    isolate: (id) => Effect.sync(() => network.isolate(of(disks, id).identity.nodeId)),
    heal: Effect.sync(() => network.heal()),
    pause: (id) => Effect.sync(() => of(processes, id).pause()),
    resume: (id) => Effect.sync(() => of(processes, id).resume()),
    crash,
    restart: start,
    statuses: Effect.suspend(() => Effect.forEach([...up.values()], ({ node }) => node.status)),
    leader: Effect.map(
      Effect.suspend(() => {
        const running = [...up].filter(([id]) => !of(processes, id).isPaused)
        return Effect.forEach(running, ([, { node }]) => node.status)
      }),
      (all) => all.filter((status) => status.role === "Leader").toSorted((a, b) => b.term - a.term)[0]?.id
    )
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
