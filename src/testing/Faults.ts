/**
 * What can go wrong around a cluster, as data: each fault begins and ends at a set time, so that a run can be repeated with any of them
 * left out.
 */
import * as Effect from "effect/Effect"
import { isVoter } from "../domain/Configuration.ts"
import type { NodeId } from "../domain/NodeId.ts"
import type * as TransportMemory from "../layers/TransportMemory.ts"
import { groupsOf } from "./Majorities.ts"
import type { TestCluster } from "./TestCluster.ts"

/** A node, or whoever leads when the fault begins. */
export type Target = NodeId | "leader"

/** How a node dies: `keepUnits` of what its disk was writing survive (see `StorageMemory.Disk.tear`). */
interface Death {
  readonly node: Target
  readonly keepUnits: number
}

export type Fault =
  // The network
  | { readonly _tag: "Loss"; readonly probability: number }
  | { readonly _tag: "Duplication"; readonly probability: number }
  | { readonly _tag: "Delay"; readonly delayMsMin: number; readonly delayMsMax: number }
  | { readonly _tag: "Stragglers"; readonly probability: number; readonly delayMsMax: number }
  | { readonly _tag: "CutOneWay"; readonly from: NodeId; readonly to: NodeId }
  | { readonly _tag: "Cut"; readonly a: NodeId; readonly b: NodeId }
  | { readonly _tag: "Isolate"; readonly node: Target }
  /** It is heard and hears nobody. */
  | { readonly _tag: "Deaf"; readonly node: Target }
  /** It hears and nobody hears it. */
  | { readonly _tag: "Mute"; readonly node: Target }
  | { readonly _tag: "Partition"; readonly groups: ReadonlyArray<ReadonlyArray<NodeId>> }
  /** Each is linked to its neighbours only: A–B–C. */
  | { readonly _tag: "Chain"; readonly order: ReadonlyArray<NodeId> }
  | { readonly _tag: "SlowLink"; readonly from: NodeId; readonly to: NodeId; readonly byMs: number }
  | { readonly _tag: "Reconnect"; readonly a: NodeId; readonly b: NodeId }
  // Nodes
  | ({ readonly _tag: "Crash" } & Death)
  | { readonly _tag: "Pause"; readonly node: Target }
  | { readonly _tag: "ClockRate"; readonly node: NodeId; readonly rate: number }
  | { readonly _tag: "ClockJump"; readonly node: Target; readonly byMs: number }
  | { readonly _tag: "WallClock"; readonly node: Target; readonly byMs: number }
  // Disks
  | { readonly _tag: "SlowDisk"; readonly node: Target; readonly syncMs: number }
  | { readonly _tag: "FailedSync"; readonly node: Target }
  | { readonly _tag: "FullDisk"; readonly node: Target }
  /** The node dies, and cannot read its disk until the fault ends. */
  | ({ readonly _tag: "UnreadableSector" } & Death)
  /** The node dies, and what its snapshot says is another when it starts again. */
  | ({ readonly _tag: "DamagedSnapshot" } & Death)

export type Kind = Fault["_tag"]

/** Times are milliseconds since the start of the run. */
export interface Planned {
  /** Among the faults of its run, from 1: its name when a run is repeated without some of them. */
  readonly number: number
  readonly fromMs: number
  readonly toMs: number
  readonly fault: Fault
}

/** `Isolate leader`, `Partition n1 | n2 n3`. */
export const describe = (fault: Fault): string => {
  const { _tag, ...fields } = fault
  const words = Object.values(fields).map((field: unknown) =>
    Array.isArray(field)
      ? field.map((part: unknown) => Array.isArray(part) ? part.join(" ") : String(part)).join(" | ")
      : typeof field === "number"
      ? String(Math.round(field * 1000) / 1000)
      : String(field)
  )
  return [_tag, ...words].join(" ")
}

/** How a cluster is when nothing is wrong with it. */
export interface Calm {
  readonly network: TransportMemory.Faults
  readonly syncDelayMs: number
  readonly clockRates: ReadonlyMap<NodeId, number>
}

/** How long a node that stopped by itself stays down before it is started again. */
const restartMs = 100

/** A fault that is under way, and the node it was found to concern, if it is one node. */
interface Active {
  readonly fault: Fault
  readonly node: NodeId | undefined
}

const activeText = ({ fault, node }: Active): string =>
  node === undefined || describe(fault).includes(node) ? describe(fault) : `${describe(fault)} (${node})`

/**
 * Lets faults happen to a cluster. Several may be under way at a time, of one kind and on one node too: where they contradict each other the
 * latest one counts, and when it ends the one before it does.
 */
export class Injector {
  readonly #cluster: TestCluster
  readonly #calm: Calm
  readonly #tell: (line: string) => void
  readonly #active = new Set<Active>()
  readonly #starting = new Set<NodeId>()
  /** Nodes that were to be started while they were starting: that may come to nothing. */
  readonly #again = new Set<NodeId>()
  /** Nodes whose snapshot was damaged, until another has come from the leader. */
  readonly #damaged = new Set<NodeId>()
  /** How many changes are under way after which there may be too few voters for one of them to lose its state. */
  #damageHolds = 0
  /** Nodes that are down because somebody wants them to be. */
  readonly #laidDown = new Set<NodeId>()

  constructor(cluster: TestCluster, calm: Calm, tell: (line: string) => void) {
    this.#cluster = cluster
    this.#calm = calm
    this.#tell = tell
  }

  /** Lets `planned` happen, from its beginning to its end. */
  readonly inject = (planned: Planned): Effect.Effect<void> =>
    Effect.gen({ self: this }, function*() {
      yield* Effect.sleep(planned.fromMs)
      const active: Active = { fault: planned.fault, node: yield* this.#nodeOf(planned.fault) }
      this.#tell(`fault ${planned.number} begins: ${activeText(active)}`)
      this.#active.add(active)
      yield* this.#begin(active)
      yield* Effect.sleep(planned.toMs - planned.fromMs)
      this.#active.delete(active)
      this.#tell(`fault ${planned.number} ends: ${activeText(active)}`)
      yield* this.#end(active)
    })

  /** Puts the cluster in its calm state and starts what is down; where no fault is under way, all is well from then on. */
  readonly calm = Effect.suspend(() => this.#settle())

  /** Where nobody leads, the first node stands in. */
  #nodeOf(fault: Fault): Effect.Effect<NodeId | undefined> {
    const [first] = this.#cluster.ids
    const nobody: NodeId | undefined = undefined
    if (!("node" in fault)) return Effect.succeed(nobody)
    return fault.node === "leader"
      ? Effect.map(this.#cluster.leader, (leader) => leader ?? first)
      : Effect.succeed(fault.node)
  }

  #begin(active: Active): Effect.Effect<void> {
    const { fault, node } = active
    if (fault._tag === "Reconnect") return Effect.sync(() => this.#cluster.network.reconnect(fault.a, fault.b))
    if (node === undefined) return this.#settle()
    const process = this.#cluster.processes.get(node)
    switch (fault._tag) {
      case "Pause":
        return this.#cluster.pause(node)
      case "ClockJump":
        return Effect.sync(() => process?.jump(fault.byMs))
      case "WallClock":
        return Effect.sync(() => process?.setWallClock(fault.byMs))
      case "Crash":
        return this.#kill(node, fault.keepUnits)
      case "DamagedSnapshot":
        return Effect.andThen(this.#damage(node, fault.keepUnits), this.#settle())
      case "UnreadableSector":
        // It tries to start, and says why it cannot.
        return Effect.andThen(this.#kill(node, fault.keepUnits), this.start(node))
      default:
        return this.#settle()
    }
  }

  #end(active: Active): Effect.Effect<void> {
    const settled = this.#settle()
    const { fault, node } = active
    if (fault._tag !== "Pause" || node === undefined || this.#isUnder(node, ["Pause"])) return settled
    return Effect.andThen(settled, this.#cluster.resume(node))
  }

  #kill(node: NodeId, keepUnits: number): Effect.Effect<void> {
    return Effect.andThen(this.#cluster.crash(node, keepUnits), this.#settle())
  }

  /** Stops a node for good; it loses what a crash loses. */
  readonly layDown = (node: NodeId): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (this.#laidDown.has(node)) return Effect.void
      this.#laidDown.add(node)
      return this.#cluster.crash(node)
    })

  /** Starts it again, unless a fault is under way that keeps it down. */
  readonly takeUp = (node: NodeId): Effect.Effect<void> =>
    Effect.suspend(() => this.#laidDown.delete(node) ? this.#settle() : Effect.void)

  /** There may be fewer voters soon: until `releaseDamage` nobody loses its state. */
  holdDamage(): void {
    this.#damageHolds++
  }

  releaseDamage(): void {
    this.#damageHolds--
  }

  /** Voters, in any configuration that may be in force, that have lost their state and wait for a leader's. */
  readonly damagedVoters: Effect.Effect<ReadonlyArray<NodeId>> = Effect.gen({ self: this }, function*() {
    for (const { id, prevLogIndex, snapshot } of yield* this.#cluster.statuses) {
      if (prevLogIndex <= snapshot.last.index) this.#damaged.delete(id)
    }
    const possible = yield* this.#cluster.mayBeInForce
    return [...this.#damaged].filter((id) => possible.some((one) => isVoter(one, id)))
  })

  /**
   * One at a time, and where a majority is left: who has lost its state does not stand for election, and those who have not may need each
   * other's votes.
   */
  #damage(node: NodeId, keepUnits: number): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const damaged = yield* this.damagedVoters
      const possible = yield* this.#cluster.mayBeInForce
      yield* this.#cluster.crash(node, keepUnits)
      const isEnough = possible.every((one) => groupsOf(one).every((voters) => voters.length >= 3))
      if (!isEnough || damaged.length > 0 || this.#damageHolds > 0) return
      this.#damaged.add(node)
      this.#cluster.disks.get(node)?.damageSnapshot()
    })
  }

  #isUnder(node: NodeId, kinds: ReadonlyArray<Kind>): boolean {
    for (const active of this.#active) if (active.node === node && kinds.includes(active.fault._tag)) return true
    return false
  }

  /** Makes the cluster what the faults under way say, and starts whatever is down for no reason. */
  #settle(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#settleNetwork()
      this.#settleNodes()
      const startable = this.#cluster.ids.filter((id) =>
        !this.#cluster.running().includes(id) && !this.#laidDown.has(id)
        && !this.#isUnder(id, ["Crash", "UnreadableSector", "FullDisk"])
      )
      return Effect.forEach(startable, (id) => this.start(id), { discard: true })
    })
  }

  #settleNetwork(): void {
    const { ids, network } = this.#cluster
    network.heal()
    const changed: { -readonly [K in keyof TransportMemory.Faults]?: number } = {}
    for (const { fault, node } of this.#active) {
      const others = ids.filter((id) => id !== node)
      switch (fault._tag) {
        case "Loss":
          changed.lossProbability = fault.probability
          break
        case "Duplication":
          changed.duplicateProbability = fault.probability
          break
        case "Delay":
          changed.delayMsMin = fault.delayMsMin
          changed.delayMsMax = fault.delayMsMax
          break
        case "Stragglers":
          changed.stragglerProbability = fault.probability
          changed.stragglerDelayMsMax = fault.delayMsMax
          break
        case "CutOneWay":
          network.cut(fault.from, fault.to)
          break
        case "Cut":
          network.cut(fault.a, fault.b)
          network.cut(fault.b, fault.a)
          break
        case "Isolate":
          if (node !== undefined) network.isolate(node)
          break
        case "Deaf":
          if (node !== undefined) { for (const other of others) network.cut(other, node) }
          break
        case "Mute":
          if (node !== undefined) { for (const other of others) network.cut(node, other) }
          break
        case "Partition":
          network.partition(fault.groups)
          break
        case "Chain":
          cutAllButNeighbours(network, fault.order)
          break
        case "SlowLink":
          network.slow(fault.from, fault.to, fault.byMs)
          break
        default:
      }
    }
    network.setFaults({ ...this.#calm.network, ...changed })
  }

  #settleNodes(): void {
    for (const [id, disk] of this.#cluster.disks) {
      const process = this.#cluster.processes.get(id)
      const concerning = [...this.#active].filter((active) => active.node === id).map(({ fault }) => fault)
      const slow = concerning.findLast((fault) => fault._tag === "SlowDisk")
      disk.syncDelayMs = slow?.syncMs ?? this.#calm.syncDelayMs
      disk.isUnreadable = concerning.some((fault) => fault._tag === "UnreadableSector")
      const isFull = concerning.some((fault) => fault._tag === "FullDisk")
      const isFailing = concerning.some((fault) => fault._tag === "FailedSync")
      disk.nextFailure = isFull ? "DiskFull" : isFailing ? "Failed" : undefined
      const rate = concerning.findLast((fault) => fault._tag === "ClockRate")?.rate ?? this.#calm.clockRates.get(id) ??
        1
      process?.setClockRate(rate)
    }
  }

  /** Starts a node and looks after it: one that stops because its disk failed is started again. */
  readonly start = (id: NodeId): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (this.#starting.has(id)) {
        this.#again.add(id)
        return Effect.void
      }
      this.#starting.add(id)
      return Effect.asVoid(Effect.forkDetach(this.#bringUp(id)))
    })

  #bringUp(id: NodeId): Effect.Effect<void> {
    return this.#cluster.restart(id).pipe(
      // A disk that cannot be read or written: the fault that made it so starts the node again when it ends.
      Effect.catch((error) => Effect.sync(() => this.#tell(`${id} does not start: ${error.message}`))),
      Effect.andThen(Effect.suspend(() => {
        this.#starting.delete(id)
        const isWanted = this.#again.delete(id)
        if (!this.#cluster.running().includes(id)) return isWanted ? this.#settle() : Effect.void
        const paused = this.#isUnder(id, ["Pause"]) ? this.#cluster.pause(id) : Effect.void
        return Effect.andThen(paused, this.watch(id))
      }))
    )
  }

  /** Starts `id` again whenever it stops by itself. */
  readonly watch = (id: NodeId): Effect.Effect<void> => {
    if (!this.#cluster.running().includes(id)) return Effect.void
    return this.#cluster.node(id).halted.pipe(
      Effect.catch((error) =>
        Effect.suspend(() => {
          this.#tell(`${id} has stopped: ${error.message}`)
          return Effect.andThen(this.#cluster.crash(id), Effect.sleep(restartMs))
        })
      ),
      Effect.andThen(this.#settle()),
      // A defect is a finding, which the cluster keeps.
      Effect.ignoreCause,
      Effect.forkDetach,
      Effect.asVoid
    )
  }
}

const cutAllButNeighbours = (network: TransportMemory.Network, order: ReadonlyArray<NodeId>): void => {
  for (const [i, from] of order.entries()) {
    for (const [j, to] of order.entries()) {
      if (Math.abs(i - j) > 1) network.cut(from, to)
    }
  }
}
