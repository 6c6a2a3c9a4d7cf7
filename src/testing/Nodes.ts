/**
 * The nodes of a test's cluster: how they start, each on a process and a disk of its own, and how they are crashed, at any point of that.
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
import * as Configuration from "../domain/Configuration.ts"
import type { NodeId } from "../domain/NodeId.ts"
import * as StorageMemory from "../layers/StorageMemory.ts"
import * as TransportMemory from "../layers/TransportMemory.ts"
import * as RaftNode from "../services/RaftNode.ts"
import { StateMachine } from "../services/StateMachine.ts"
import { Storage, type StorageError } from "../services/Storage.ts"
import { Transport } from "../services/Transport.ts"
import type { Process } from "./Process.ts"
import type { Options } from "./TestCluster.ts"
import type { Watch } from "./Watch.ts"

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

const nodeLayer = (options: Options, configuration: Configuration.Configuration, watch: Watch) => {
  const { requestTimeoutMs, settings, waitingRequestsMax } = options
  return RaftNode.layer({
    configuration,
    ...(settings === undefined ? {} : { settings }),
    ...(requestTimeoutMs === undefined ? {} : { requestTimeoutMs }),
    ...(waitingRequestsMax === undefined ? {} : { waitingRequestsMax })
  }).pipe(Layer.provide(Layer.succeed(RaftNode.Core)(watch.step)))
}

/** The nodes and how they start; what their scopes do is in `make`. */
const makeStart = (
  options: Options,
  parts: {
    readonly first: Configuration.Configuration
    readonly network: TransportMemory.Network
    readonly watch: Watch
    readonly diskOf: (id: NodeId) => StorageMemory.Disk
  }
) => {
  const { diskOf, first, network, watch } = parts
  const [member, spare] = [nodeLayer(options, first, watch), nodeLayer(options, Configuration.unknown, watch)]
  return (id: NodeId, scope: Scope.Scope) => {
    const raft = Configuration.isMember(first, id) ? member : spare
    const memory = StorageMemory.layer({ disk: diskOf(id) })
    const storage = Layer.effect(Storage, Effect.map(Storage, watch.storage(id))).pipe(
      Layer.provide(options.storage === undefined ? memory : options.storage(id, memory))
    )
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

interface Parts {
  readonly ids: ReadonlyArray<NodeId>
  /** What the cluster begins with. */
  readonly first: Configuration.Configuration
  readonly network: TransportMemory.Network
  readonly watch: Watch
  readonly disks: ReadonlyMap<NodeId, StorageMemory.Disk>
  readonly processes: ReadonlyMap<NodeId, Process>
  /** What the nodes run in. */
  readonly parent: Scope.Scope
}

export class Nodes {
  readonly up = new Map<NodeId, Running>()
  readonly #starting = new Map<NodeId, Starting>()
  /** Crashed, and not ended yet. */
  readonly #dying = new Map<NodeId, Deferred.Deferred<void>>()
  readonly #options: Options
  readonly #parts: Parts
  readonly #build: ReturnType<typeof makeStart>
  #starts = 0

  constructor(options: Options, parts: Parts) {
    this.#options = options
    this.#parts = parts
    const diskOf = (id: NodeId) => this.of(parts.disks, id)
    this.#build = makeStart(options, { first: parts.first, network: parts.network, watch: parts.watch, diskOf })
  }

  /** What `map` has for a node; a defect where it has nothing. */
  readonly of = <A>(map: ReadonlyMap<NodeId, A>, id: NodeId): A => {
    const found = map.get(id)
    if (found !== undefined) return found
    throw new Error(this.#parts.ids.includes(id) ? `${id} is down` : `the cluster has no node ${id}`)
  }

  /** The name, if a node has it. */
  readonly known = (id: NodeId): NodeId => this.of(this.#parts.disks, id).identity.nodeId

  readonly start = (id: NodeId): Effect.Effect<void, StorageError> =>
    Effect.suspend(() => {
      if (this.up.has(id)) return Effect.void
      const dying = this.#dying.get(id)
      // What a crash has not ended yet must not be taken for what starts.
      if (dying !== undefined) return Effect.andThen(Deferred.await(dying), this.start(id))
      const under = this.#starting.get(id)
      if (under !== undefined) return Deferred.await(under.done)
      const mine: Starting = { done: Deferred.makeUnsafe(), fiber: undefined, isCrashed: false }
      this.#starting.set(id, mine)
      return Effect.ensuring(
        this.#bringUp(id, mine),
        Effect.suspend(() => {
          this.#starting.delete(id)
          return Deferred.succeed(mine.done, undefined)
        })
      )
    })

  #bringUp(id: NodeId, mine: Starting): Effect.Effect<void, StorageError> {
    const { disks, parent, processes, watch } = this.#parts
    return Effect.gen({ self: this }, function*() {
      const process = this.of(processes, id)
      const scope = yield* Scope.fork(parent)
      watch.started(id, process.nowMs)
      // A fiber of its own, so that a crash can end it.
      const fiber = yield* Effect.forkDetach(
        this.#build(id, scope).pipe(
          Random.withSeed(`${this.#options.seed} ${id} ${++this.#starts}`),
          Effect.provideService(Clock.Clock, process.clock),
          Effect.provideService(Scheduler.Scheduler, process),
          Effect.catchTag("SettingsError", (error) => Effect.die(error))
        )
      )
      mine.fiber = fiber
      if (mine.isCrashed) yield* Fiber.interrupt(fiber)
      const exit = yield* Fiber.await(fiber)
      const halted = (node: object, cause: Cause.Cause<unknown>) =>
        watch.halted(id, node, cause, this.of(disks, id).misuse())
      if (Exit.isSuccess(exit) && !mine.isCrashed) {
        const { node } = exit.value
        this.up.set(id, { scope, ...exit.value })
        const watching = Effect.catchCause(node.halted, (cause) => Effect.sync(() => halted(node, cause)))
        return yield* Effect.asVoid(Effect.forkIn(watching, scope))
      }
      yield* Scope.close(scope, Exit.void)
      if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return
      halted(mine, exit.cause)
      return yield* Effect.failCause(exit.cause)
    })
  }

  readonly crash = (id: NodeId, keepUnits = 0): Effect.Effect<void> =>
    Effect.suspend(() => {
      const running = this.up.get(id)
      const under = this.#starting.get(id)
      if (running === undefined && under === undefined) return Effect.void
      // In one instant: whoever finds the node down may start it, on a disk that must be free.
      this.up.delete(id)
      Effect.runSync(this.of(this.#parts.disks, id).tear(keepUnits))
      // What a paused process held meets a disk and a network that are gone.
      this.of(this.#parts.processes, id).resume()
      if (under !== undefined) under.isCrashed = true
      const dead = Deferred.makeUnsafe<void>()
      this.#dying.set(id, dead)
      const starting = under?.fiber === undefined ? Effect.void : Fiber.interrupt(under.fiber)
      return Effect.ensuring(
        Effect.andThen(starting, running === undefined ? Effect.void : Scope.close(running.scope, Exit.void)),
        Effect.suspend(() => {
          if (this.#dying.get(id) === dead) this.#dying.delete(id)
          return Deferred.succeed(dead, undefined)
        })
      )
    })

  readonly statuses = Effect.suspend(() => Effect.forEach([...this.up.values()], ({ node }) => node.status))

  /** The leader of the latest term among the nodes that are up and run. */
  readonly leader = Effect.map(
    Effect.suspend(() => {
      const running = [...this.up].filter(([id]) => !this.of(this.#parts.processes, id).isPaused)
      return Effect.forEach(running, ([, { node }]) => node.status)
    }),
    (all) => all.filter((status) => status.role === "Leader").toSorted((a, b) => b.term - a.term)[0]?.id
  )

  /** Has whoever stopped just now seen: it tells its callers first. */
  readonly poll = Effect.gen({ self: this }, function*() {
    yield* Effect.yieldNow
    for (const [id, { node }] of this.up) {
      const halted = yield* Effect.forkDetach(Effect.exit(node.halted), { startImmediately: true })
      const exit = halted.pollUnsafe()
      if (exit === undefined) yield* Fiber.interrupt(halted)
      else if (Exit.isSuccess(exit) && Exit.isFailure(exit.value)) {
        this.#parts.watch.halted(id, node, exit.value.cause, this.of(this.#parts.disks, id).misuse())
      }
    }
  })
}
