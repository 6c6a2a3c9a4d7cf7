/**
 * Everything about one run that its seed decides: how large the cluster is, its settings, how busy its clients are, and which faults happen
 * when. Most kinds of fault are absent from most runs, so that rare mixes of few of them happen too (swarm testing; Groce et al.,
 * ISSTA 2012).
 */
import type { NodeId } from "../domain/NodeId.ts"
import * as Settings from "../domain/Settings.ts"
import * as TransportMemory from "../layers/TransportMemory.ts"
import { Draws } from "./Draws.ts"
import type { Calm, Fault, Kind, Planned, Target } from "./Faults.ts"
import { actKinds, type OperatorPlan, type PlannedAct } from "./Operator.ts"

/** What the clients of a run do; what they ask is the workload's. */
export interface Clients {
  readonly count: number
  /** The longest pause between two requests of one client, in milliseconds. */
  readonly pauseMsMax: number
  /** How many of the requests are reads, from 0 to 1. */
  readonly readRatio: number
  /** How many of the clients use `RaftClient`; the others ask any node directly, deposed leaders among them. */
  readonly followingRatio: number
  /** How many of the requests are a burst of `burst` writes to one node, which nobody waits for. */
  readonly burstRatio: number
  readonly burst: number
  /** A client waits no longer than this for an answer, in milliseconds. */
  readonly patienceMs: number
  /** How many of the clients write through a session, and send again what is not answered; so many of them share one. */
  readonly sessionRatio: number
  readonly sessionShare: number
}

export interface Plan {
  readonly seed: number
  readonly size: number
  readonly settings: Partial<Settings.Settings>
  readonly requestTimeoutMs: number
  readonly waitingRequestsMax: number
  /** See `Simulator`. */
  readonly yieldEveryOps: number
  readonly calm: Calm
  readonly clients: Clients
  /** How long faults last, in milliseconds; afterwards the cluster has to recover. */
  readonly faultyMs: number
  /** In the order of their beginning. */
  readonly faults: ReadonlyArray<Planned>
  /** Who changes the cluster, if anybody does. */
  readonly operator: OperatorPlan | undefined
}

/** What a run can be told instead of drawing it. */
export interface Overrides {
  readonly size?: number
  readonly settings?: Partial<Settings.Settings>
  readonly faultyMs?: number
  /** Which kinds of fault may happen. */
  readonly kinds?: ReadonlyArray<Kind>
  /** Of the faults and the operator's acts drawn, only those with these numbers. */
  readonly keep?: ReadonlyArray<number>
  /** Whether there is an operator. Default: in most runs. */
  readonly operator?: boolean
  /** Whether all clients have sessions, or none. Default: some of them, in most runs. */
  readonly sessions?: boolean
}

export const kinds: ReadonlyArray<Kind> = [
  "Loss",
  "Duplication",
  "Delay",
  "Stragglers",
  "CutOneWay",
  "Cut",
  "Isolate",
  "Deaf",
  "Mute",
  "Partition",
  "Chain",
  "SlowLink",
  "Reconnect",
  "Crash",
  "Pause",
  "ClockRate",
  "ClockJump",
  "WallClock",
  "SlowDisk",
  "FailedSync",
  "FullDisk",
  "UnreadableSector",
  "DamagedSnapshot"
]

/** What makes a leader lose its followers. */
const deposers: ReadonlyArray<Kind> = ["Isolate", "Isolate", "Deaf", "Mute", "Partition", "Chain", "Crash", "Pause"]

const idsOf = (size: number): ReadonlyArray<NodeId> => Array.from({ length: size }, (_, i) => `n${i + 1}`)

/** Odd sizes are the usual ones; one and even ones happen. */
const drawSize = (draws: Draws): number => draws.pick([3, 3, 3, 3, 5, 5, 5, 1, 2, 4, 6, 7])

/** Mostly so often and in such small pieces that there is always one under way. */
const drawSnapshots = (draws: Draws): Partial<Settings.Settings> => {
  const isRare = draws.happens(0.2)
  const [snapshotEntries, logTailEntriesMax] = [draws.pick([1, 3, 10, 30]), draws.pick([0, 0, 1, 5, 20])]
  const [snapshotChunkBytes, snapshotBytesPerSecondMax] = [draws.pick([32, 100, 1000]), draws.pick([10_000, 1 << 20])]
  const snapshotGrowthPercent = draws.pick([0, 0, 50])
  return isRare
    ? {}
    : { snapshotEntries, logTailEntriesMax, snapshotGrowthPercent, snapshotChunkBytes, snapshotBytesPerSecondMax }
}

/** What leases assume in a run that uses them: clocks run between 0.9 and 1.1 times as fast as the test's. */
const clockDriftPercentMax = 20
const clockRatesOfLeases = [0.9, 0.95, 1.05, 1.1]

/** What is given decides what depends on it. */
const drawSettings = (draws: Draws, given: Partial<Settings.Settings>): Partial<Settings.Settings> => {
  const drawnMs = draws.pick([50, 100, 150, 150, 300])
  const electionTimeoutMsMin = given.electionTimeoutMsMin ?? drawnMs
  const isSmall = draws.happens(0.5)
  const appendBytesMax = draws.pick([64, 256, 4096])
  // Safety needs neither pre-vote nor check-quorum nor stickiness, and a whole cluster gets on without any of them.
  const isBare = draws.happens(0.25)
  const [preVote, checkQuorum, leaderStickiness] = [draws.happens(0.4), draws.happens(0.4), draws.happens(0.4)]
  const isSticky = given.leaderStickiness ?? (!isBare || leaderStickiness)
  return {
    electionTimeoutMsMin,
    electionTimeoutMsMax: electionTimeoutMsMin * draws.between(2, 3),
    heartbeatIntervalMs: Math.floor(electionTimeoutMsMin / draws.between(2, 4)),
    ...(isSmall
      ? {
        appendEntriesMax: draws.pick([1, 2, 8]),
        appendBytesMax,
        inflightMessagesMax: draws.pick([1, 2, 8]),
        inflightBytesMax: 4096,
        uncommittedBytesMax: Math.max(appendBytesMax, draws.pick([256, 4096, 1 << 20]))
      }
      : {}),
    ...(isBare ? { preVote, checkQuorum, leaderStickiness } : {}),
    ...drawSnapshots(draws),
    ...(isSticky && draws.happens(0.3) ? { leaseReads: true, clockDriftPercentMax } : {}),
    ...given
  }
}

/** Slow enough to matter, and well below the election timeout: otherwise there need not be progress (paper §5.6). */
const drawCalm = (draws: Draws, size: number, electionTimeoutMsMin: number): Calm => {
  const delayMsMax = draws.below(Math.max(1, Math.floor(electionTimeoutMsMin / 12)) + 1)
  const drifts = draws.happens(0.3)
  return {
    network: { ...TransportMemory.healthy, delayMsMin: draws.below(delayMsMax + 1), delayMsMax },
    syncDelayMs: draws.happens(0.5) ? 0 : draws.below(Math.max(1, Math.floor(electionTimeoutMsMin / 12)) + 1),
    clockRates: new Map(idsOf(size).map((id) => [id, drifts ? 0.95 + draws.unit() / 10 : 1]))
  }
}

const drawTarget = (draws: Draws, ids: ReadonlyArray<NodeId>): Target => draws.happens(0.5) ? "leader" : draws.pick(ids)

/** Two different nodes; the same one twice where there is only one. */
const drawPair = (draws: Draws, ids: ReadonlyArray<NodeId>): readonly [NodeId, NodeId] => {
  const [a = "n1", b = a] = draws.shuffled(ids)
  return [a, b]
}

const drawGroups = (draws: Draws, ids: ReadonlyArray<NodeId>): ReadonlyArray<ReadonlyArray<NodeId>> => {
  const order = draws.shuffled(ids)
  const at = draws.between(1, Math.max(1, ids.length - 1))
  return [order.slice(0, at), order.slice(at)]
}

interface FaultOptions {
  readonly faultyMs: number
  readonly electionMs: number
  readonly kinds: ReadonlyArray<Kind>
  /** Of clocks that run at another rate than the test's. */
  readonly rates: ReadonlyArray<number>
}

const drawFault = (kind: Kind, draws: Draws, ids: ReadonlyArray<NodeId>, options: FaultOptions): Fault => {
  const { electionMs, rates } = options
  const node = drawTarget(draws, ids)
  const [a, b] = drawPair(draws, ids)
  switch (kind) {
    case "Loss":
    case "Duplication":
      return { _tag: kind, probability: draws.pick([0.02, 0.1, 0.3, 0.6]) }
    case "Delay":
      return { _tag: kind, delayMsMin: 0, delayMsMax: draws.between(1, electionMs) }
    case "Stragglers":
      return { _tag: kind, probability: draws.pick([0.02, 0.1, 0.3]), delayMsMax: draws.between(1, 20 * electionMs) }
    case "CutOneWay":
      return { _tag: kind, from: a, to: b }
    case "Cut":
    case "Reconnect":
      return { _tag: kind, a, b }
    case "Isolate":
    case "Deaf":
    case "Mute":
    case "Pause":
    case "FailedSync":
    case "FullDisk":
      return { _tag: kind, node }
    case "Partition":
      return { _tag: kind, groups: drawGroups(draws, ids) }
    case "Chain":
      return { _tag: kind, order: draws.shuffled(ids) }
    case "SlowLink":
      return { _tag: kind, from: a, to: b, byMs: draws.between(1, 2 * electionMs) }
    case "Crash":
    case "UnreadableSector":
    case "DamagedSnapshot":
      return { _tag: kind, node, keepUnits: draws.pick([0, 0, 1, 2, 3, 1000]) }
    case "ClockRate":
      return { _tag: kind, node: draws.pick(ids), rate: draws.pick(rates) }
    case "ClockJump":
      return { _tag: kind, node, byMs: draws.between(1, 4 * electionMs) }
    case "WallClock":
      return { _tag: kind, node, byMs: draws.between(-100_000, 100_000) }
    case "SlowDisk":
      return { _tag: kind, node, syncMs: draws.between(1, 4 * electionMs) }
    default:
      return kind satisfies never
  }
}

/** Faults of the kinds that this run has, some often and some rarely. */
const drawFaults = (draws: Draws, ids: ReadonlyArray<NodeId>, options: FaultOptions): ReadonlyArray<Planned> => {
  const { electionMs, faultyMs } = options
  const share = draws.pick([0.1, 0.2, 0.4])
  // Most of what can go wrong goes wrong around a change of leaders.
  const deposing = draws.happens(0.85) ? draws.pick(deposers) : undefined
  const present = options.kinds.filter((kind) => draws.happens(share) || kind === deposing)
  const faults: Array<Omit<Planned, "number">> = []
  for (const kind of present) {
    const everyMs = electionMs * draws.pick([2, 4, 10, 25])
    // One begins in the instant in which the one before it ends: who comes back meets a cluster without whoever has just gone.
    const isRelay = draws.happens(0.4)
    const longestMs = electionMs * draws.pick([1, 2, 4, 8])
    for (let fromMs = draws.below(everyMs); fromMs < faultyMs;) {
      const toMs = Math.min(fromMs + draws.between(1, longestMs), faultyMs)
      faults.push({ fromMs, toMs, fault: drawFault(kind, draws, ids, options) })
      fromMs = isRelay ? toMs : fromMs + draws.between(1, 2 * everyMs)
    }
  }
  return faults.toSorted((x, y) => x.fromMs - y.fromMs).map(({ fault, fromMs, toMs }, i) => ({
    number: i + 1,
    fromMs,
    toMs,
    fault
  }))
}

/** A change of the cluster now and then, of a few kinds. */
const drawActs = (
  draws: Draws,
  { electionMs, faultyMs, firstNumber }: Pick<FaultOptions, "electionMs" | "faultyMs"> & {
    readonly firstNumber: number
  }
): ReadonlyArray<PlannedAct> => {
  const share = draws.pick([0.3, 0.6, 1])
  const everyMs = electionMs * draws.pick([1, 2, 5, 10])
  const drawn = actKinds.filter(() => draws.happens(share))
  const present = drawn.length === 0 ? [draws.pick(actKinds)] : drawn
  const acts: Array<PlannedAct> = []
  for (let atMs = draws.below(2 * everyMs); atMs < faultyMs; atMs += draws.between(1, 2 * everyMs)) {
    const through = draws.pick(["leader", "leader", "leader", "believer", "anybody"] as const)
    const [kind, luck] = [draws.pick(present), draws.below(2 ** 32)]
    acts.push({ number: firstNumber + acts.length, atMs, kind, through, luck })
  }
  return acts
}

/** Those with the given numbers, of a plan's faults and acts. */
export const keeping = (plan: Plan, numbers: ReadonlyArray<number>): Plan => {
  const kept = new Set(numbers)
  const { faults, operator } = plan
  const isKept = ({ number }: { readonly number: number }): boolean => kept.has(number)
  return {
    ...plan,
    faults: faults.filter(isKept),
    operator: operator === undefined ? undefined : { ...operator, acts: operator.acts.filter(isKept) }
  }
}

/** The numbers of everything that happens to the cluster of a plan. */
export const numbersOf = ({ faults, operator }: Plan): ReadonlyArray<number> =>
  [...faults, ...operator?.acts ?? []].map(({ number }) => number)

/** How far behind a learner may be that is promoted; and sessions that expire by their number, by time, or not at all. */
const drawLimits = (draws: Draws, electionMs: number, isFollowed: boolean): Partial<Settings.Settings> => ({
  promotionLagEntriesMax: draws.pick([0, 1, 5, 1000]),
  // More of `RaftClient` than there may be sessions open them as fast as a network without delays lets them.
  sessionsMax: draws.pick(isFollowed ? [8, 8, 12, 10_000] : [1, 2, 4, 10_000]),
  sessionTimeoutMs: draws.pick([electionMs, 5 * electionMs, 20 * electionMs, 3_600_000])
})

const drawClients = (
  draws: Draws,
  sessions: Draws,
  { areInSession, followingRatio }: { readonly areInSession: boolean | undefined; readonly followingRatio: number }
): Clients => {
  const sessionRatio = sessions.pick([0, 0.5, 1, 1])
  return {
    count: draws.pick([1, 2, 3, 6]),
    pauseMsMax: draws.pick([20, 60, 200]),
    readRatio: draws.pick([0.2, 0.5, 0.8]),
    followingRatio,
    burstRatio: draws.pick([0, 0.05, 0.2]),
    burst: draws.pick([3, 10]),
    patienceMs: draws.pick([300, 2000]),
    sessionRatio: areInSession === undefined ? sessionRatio : Number(areInSession),
    sessionShare: sessions.pick([1, 2, 3])
  }
}

const drawOperator = (
  draws: Draws,
  { electionMs, faults, faultyMs, spares }: {
    readonly electionMs: number
    readonly faults: ReadonlyArray<Planned>
    readonly faultyMs: number
    readonly spares: number
  }
): OperatorPlan => ({
  spares,
  acts: drawActs(draws, { electionMs, faultyMs, firstNumber: faults.length + 1 }),
  stopRatio: draws.pick([0, 0.3, 1]),
  patienceMs: draws.pick([2, 10]) * electionMs,
  pauseMsMax: draws.pick([2, 20, electionMs])
})

/** The run of `seed`. */
export const plan = (seed: number, overrides: Overrides = {}): Plan => {
  const draws = new Draws(Math.imul(seed, 0x9e3779b1))
  // From another stream, so that what one part draws does not move what another one draws.
  const changing = new Draws(Math.imul(seed, 0xc2b2ae35) ^ 0x27d4eb2f)
  const hasOperator = changing.happens(0.6)
  const size = overrides.size ?? drawSize(draws)
  const drawnSpares = changing.pick(size > 5 ? [1] : [1, 2, 2, 3])
  const spares = overrides.operator ?? hasOperator ? drawnSpares : 0
  const given = overrides.settings ?? {}
  const drawn = drawSettings(draws, given)
  const { electionTimeoutMsMax: electionMs, electionTimeoutMsMin } = { ...Settings.defaults, ...drawn }
  const followingRatio = draws.pick([0, 0.3, 1])
  const settings = { ...drawn, ...drawLimits(changing, electionMs, followingRatio > 0), ...given }
  const { problems = [] } = { problems: undefined, ...Settings.make(settings) }
  if (problems.length > 0) throw new Error(`these settings cannot be simulated: ${problems.join("; ")}`)
  const faultyMs = overrides.faultyMs ?? electionMs * draws.pick([10, 20, 40])
  const most: Omit<Plan, "faults" | "operator"> = {
    seed,
    size,
    settings,
    requestTimeoutMs: draws.pick([200, 1000, 5000]),
    waitingRequestsMax: draws.pick([2, 1000, 1000]),
    yieldEveryOps: draws.pick([0, 20, 100, 500]),
    calm: drawCalm(draws, size + spares, electionTimeoutMsMin),
    clients: drawClients(draws, changing, { areInSession: overrides.sessions, followingRatio }),
    faultyMs
  }
  const faults = drawFaults(draws, idsOf(size + spares), {
    faultyMs,
    electionMs,
    // A lease is worth nothing where a clock jumps.
    kinds: (overrides.kinds ?? kinds).filter((kind) => kind !== "ClockJump" || settings.leaseReads !== true),
    rates: settings.leaseReads === true ? clockRatesOfLeases : [0.25, 0.5, 0.9, 1.1, 2, 4]
  })
  const operator = spares === 0 ? undefined : drawOperator(changing, { electionMs, faults, faultyMs, spares })
  const whole: Plan = { ...most, faults, operator }
  return overrides.keep === undefined ? whole : keeping(whole, overrides.keep)
}
