/**
 * What a run has to do once its faults have ended, each within a bound: one server leads, a change that is under way is done, all members
 * hold the same; a write and a read are answered; who was removed disturbs nobody; and the membership can be changed once more.
 */
import * as Effect from "effect/Effect"
import * as Configuration from "../domain/Configuration.ts"
import type { NodeId } from "../domain/NodeId.ts"
import * as Settings from "../domain/Settings.ts"
import type * as RaftNode from "../services/RaftNode.ts"
import * as Clients from "./Clients.ts"
import type { Draws } from "./Draws.ts"
import { Violation } from "./Figure3.ts"
import { configurationText, type Operator } from "./Operator.ts"
import type * as SessionClient from "./SessionClient.ts"
import type { Simulator } from "./Simulator.ts"
import type { Plan } from "./Swarm.ts"
import type * as TestCluster from "./TestCluster.ts"
import type { Session } from "./Workload.ts"

/** One run under way. */
export interface Running {
  readonly plan: Plan
  readonly simulator: Simulator
  readonly cluster: TestCluster.TestCluster
  readonly session: Session
  readonly sessions: SessionClient.Counts
  readonly operator: Operator | undefined
  /** Terms in which a leader has told another server to stand: it may do so at any later time. */
  readonly handedOver: ReadonlySet<number>
}

const settingsOf = ({ settings }: Plan): Settings.Settings => ({ ...Settings.defaults, ...settings })

/**
 * The bound on liveness, in milliseconds: after the last fault, within this long one node leads, all logs and state machines are equal, and
 * a write and a read succeed. Thirty of the longest election timeouts: elections may fail a few times, and a deposed leader may take one
 * to notice.
 */
export const patienceMs = (plan: Plan): number => 30 * settingsOf(plan).electionTimeoutMsMax

/**
 * And what it may take until a server has all of a snapshot and all of a log that was away for the whole run, or is added by the end of it: a
 * piece of the one, or a window of the other, in each round trip.
 */
export const recoveryMsMax = (
  plan: Plan,
  { entries, snapshotBytes }: { readonly entries: number; readonly snapshotBytes: number }
): number => {
  const { appendBytesMax, appendEntriesMax, inflightMessagesMax, snapshotBytesPerSecondMax, snapshotChunkBytes } =
    settingsOf(plan)
  const { network, syncDelayMs } = plan.calm
  const roundTripMs = 2 * network.delayMsMax + syncDelayMs + 1
  const perRoundTrip = Math.min(appendEntriesMax, Math.ceil(appendBytesMax / 100)) * inflightMessagesMax
  const logMs = entries / perRoundTrip * roundTripMs
  const snapshotMs = snapshotBytes * Math.max(roundTripMs / snapshotChunkBytes, 1000 / snapshotBytesPerSecondMax)
  return patienceMs(plan) + logMs + snapshotMs
}

/** The bound of a run as far as it has come. */
const boundMs = ({ cluster, plan }: Running): Effect.Effect<number> =>
  Effect.map(cluster.statuses, (statuses) =>
    recoveryMsMax(plan, {
      entries: Math.max(0, ...statuses.map(({ lastLogIndex }) => lastLogIndex)),
      snapshotBytes: Math.max(0, ...statuses.map(({ snapshot }) => snapshot.sizeBytes))
    }))

type Whole =
  | { readonly _tag: "Whole"; readonly leader: RaftNode.Status }
  | { readonly _tag: "Not"; readonly problem: string }

const not = (problem: string): Whole => ({ _tag: "Not", problem })

/** What is unfinished about the configuration that a leader goes by. */
const unfinished = (leader: RaftNode.Status): string | undefined => {
  const { configuration, followers } = leader
  const leaving = followers.find(({ id }) => !Configuration.isMember(configuration, id))
  if (!leader.isConfigurationCommitted) return `${configurationText(configuration)} is not committed`
  if (Configuration.isJoint(configuration)) return `${configurationText(configuration)} is not left`
  if (configuration.joining.length > 0) return `${configuration.joining.join(", ")} not promoted`
  return leaving === undefined ? undefined : `${leaving.id} is removed and still sent to`
}

/** The first way in which a member does not agree with its leader. */
const disagreement = (leader: RaftNode.Status, members: ReadonlyArray<RaftNode.Status>): string | undefined => {
  for (const { commitIndex, configuration, id, lastApplied, lastLogIndex, term } of members) {
    if (term !== leader.term) return `${id} is in term ${term}, the leader in ${leader.term}`
    if (lastLogIndex !== leader.lastLogIndex || commitIndex !== lastLogIndex || lastApplied !== lastLogIndex) {
      return `${id} has applied ${lastApplied} of ${lastLogIndex} entries, the leader has ${leader.lastLogIndex}`
    }
    if (!Configuration.isSame(configuration, leader.configuration)) {
      return `${id} goes by ${configurationText(configuration)}, the leader by ${
        configurationText(leader.configuration)
      }`
    }
  }
  return undefined
}

/** Who leads a cluster whose members all agree; otherwise the first way in which they do not. */
const wholeness = Effect.fnUntraced(function*({ cluster, plan, session }: Running) {
  const inForce = cluster.figure3.committedConfiguration ?? Configuration.unknown
  const ids = Configuration.members(inForce)
  const down = ids.filter((id) => !cluster.running().includes(id))
  if (down.length > 0) return not(`${down.join(", ")} down`)
  const statuses = yield* cluster.statuses
  const members = statuses.filter(({ id }) => ids.includes(id))
  // Without check-quorum a removed leader has no reason to give up, and does no harm.
  const leaders = (settingsOf(plan).checkQuorum ? statuses : members).filter(({ role }) => role === "Leader")
  const [leader, ...others] = leaders
  if (leader === undefined || others.length > 0) {
    return not(`${leader === undefined ? "no" : "more than one"} node leads`)
  }
  if (!Configuration.isSame(leader.configuration, inForce)) return not(`${leader.id} goes by another configuration`)
  const problem = unfinished(leader) ?? disagreement(leader, members)
  if (problem !== undefined) return not(problem)
  const contents = yield* Effect.forEach(ids, (id) => session.contents(cluster.machine(id)))
  const other = ids[contents.findIndex((text) => text !== contents[0])]
  const whole: Whole = { _tag: "Whole", leader }
  return other === undefined ? whole : not(`the state machines of ${ids[0]} and ${other} differ`)
})

/** Waits until the cluster is whole, as long as that may take. */
export const becomeWhole = Effect.fnUntraced(function*(running: Running) {
  const { operator, plan, simulator } = running
  const withinMs = yield* boundMs(running)
  const untilMs = simulator.nowMs + withinMs
  for (;;) {
    if (operator !== undefined) yield* operator.tend(settingsOf(plan).leaderStickiness)
    const found = yield* wholeness(running)
    if (found._tag === "Whole") return { leader: found.leader, tookMs: simulator.nowMs - untilMs + withinMs, withinMs }
    if (simulator.nowMs > untilMs) {
      const detail = `${Math.round(withinMs)} ms after the last fault ${found.problem}`
      return yield* Effect.fail(new Violation("Liveness", detail))
    }
    yield* Effect.sleep(10)
  }
})

/** One request at whoever leads that must be answered; what certainly had no effect is asked again. The history judges the answer. */
const mustAnswer = Effect.fnUntraced(function*(running: Running, draws: Draws, isRead: boolean) {
  const { cluster, plan, session, simulator } = running
  const untilMs = simulator.nowMs + patienceMs(plan)
  for (;;) {
    // A deposed leader may have looked like the only one for a moment.
    const leader = yield* cluster.leader
    const ask = Clients.askNode(cluster, leader, patienceMs(plan))
    const outcome = yield* session.request({ number: 0, draws, isBurst: false, ask }, isRead)
    if (outcome._tag === "Done") return
    if (outcome._tag === "Unknown" || simulator.nowMs > untilMs) {
      const detail = `no ${isRead ? "read" : "write"} is answered in ${patienceMs(plan)} ms without faults`
      return yield* Effect.fail(new Violation("Liveness", detail))
    }
    yield* Effect.sleep(10)
  }
})

/** Somebody joins, if there is anybody who could; else somebody but the leader is demoted or promoted. */
const lastChange = (cluster: TestCluster.TestCluster, leader: RaftNode.Status, draws: Draws) => {
  const { learners, voters } = leader.configuration
  const strangers = cluster.ids.filter((id) => !Configuration.isMember(leader.configuration, id))
  const others = voters.filter((id) => id !== leader.id)
  const change = (_tag: "Promote" | "Demote" | "Remove", ids: ReadonlyArray<NodeId>): Configuration.Change => ({
    _tag,
    id: draws.pick(ids)
  })
  if (strangers.length > 0 && draws.happens(0.5)) {
    const added: Configuration.Change = { _tag: "Add", id: draws.pick(strangers), address: undefined, becomes: "Voter" }
    return added
  }
  if (learners.length > 0) return change("Promote", learners)
  return others.length > 0 ? change(draws.pick(["Demote", "Remove"]), others) : change("Remove", ["nobody"])
}

/** A change of the membership that must succeed. */
const mustChange = Effect.fnUntraced(function*(running: Running, operator: Operator, draws: Draws) {
  const { cluster, plan, simulator } = running
  const untilMs = simulator.nowMs + patienceMs(plan)
  for (;;) {
    const leader = yield* cluster.leader
    if (leader !== undefined) {
      const change = lastChange(cluster, yield* cluster.node(leader).status, draws)
      const ended = yield* operator.ask(leader, { _tag: "Change", changes: [change] })
      if (ended._tag === "Done") return
    }
    if (simulator.nowMs > untilMs) {
      const detail = `the membership cannot be changed in ${patienceMs(plan)} ms without faults`
      return yield* Effect.fail(new Violation("Liveness", detail))
    }
    yield* Effect.sleep(10)
  }
})

/** For so many of the longest election timeouts nothing may happen to a leader while servers run that are no members. */
const quietTimeouts = 5

/** With all that elections have by default, a server that was removed does not end a leadership, whatever it knows (thesis §4.2.3). */
const staysQuiet = Effect.fnUntraced(function*({ cluster, handedOver, plan }: Running, leader: RaftNode.Status) {
  const { checkQuorum, electionTimeoutMsMax, leaderStickiness, preVote } = settingsOf(plan)
  const strangers = cluster.running().filter((id) => !Configuration.isMember(leader.configuration, id))
  if (!(checkQuorum && leaderStickiness && preVote) || strangers.length === 0) return
  yield* Effect.sleep(quietTimeouts * electionTimeoutMsMax)
  const now = yield* cluster.node(leader.id).status
  if (handedOver.has(leader.term) || (now.role === "Leader" && now.term === leader.term)) return
  const detail = `${leader.id} led term ${leader.term} and does not any more, while ${strangers.join(", ")} run on`
  return yield* Effect.fail(new Violation("who is removed disturbs nobody (M6)", detail))
})

/** How long it took until all members agreed, and how long it could have, in milliseconds. */
export interface Recovered {
  readonly tookMs: number
  readonly withinMs: number
}

/** All of it. `operating` is what an operator still waits for. */
export const recover = Effect.fnUntraced(function*(running: Running, operating: Effect.Effect<void>, draws: Draws) {
  const { operator } = running
  const { tookMs, withinMs } = yield* becomeWhole(running)
  const recovered: Recovered = { tookMs, withinMs }
  yield* mustAnswer(running, draws, false)
  yield* mustAnswer(running, draws, true)
  if (operator === undefined) return recovered
  yield* operating
  const { leader } = yield* becomeWhole(running)
  yield* staysQuiet(running, leader)
  yield* mustChange(running, operator, draws)
  yield* becomeWhole(running)
  yield* mustAnswer(running, draws, false)
  yield* mustAnswer(running, draws, true)
  return recovered
})
