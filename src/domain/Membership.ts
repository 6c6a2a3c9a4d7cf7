/**
 * Changes of the configuration (paper §6, thesis §4): an entry in the log, in force on append (`Pipeline.appendAndReplicate` and
 * `Replication.store` put it in force and take it back). One server's change is one entry; several at once are two, C_old,new and C_new:
 *
 * ```
 *   C_old ── append C_old,new ──► joint: both majorities ── committed ──► append C_new ── committed ──► done
 * ```
 *
 * Whoever leads goes on from wherever the log stands: a new leader that finds a joint configuration leaves it, once its own no-op is committed
 * under both majorities (rule M4); one that finds a learner which is to become a voter promotes it.
 */
import type { Impossible, Refusal } from "./Command.ts"
import * as Configuration from "./Configuration.ts"
import type { Entry } from "./Entry.ts"
import type { RequestId } from "./Event.ts"
import type { NodeId } from "./NodeId.ts"
import { isLeader, isReconfiguring, leaderIdOf, type LeaderState, type NodeState } from "./NodeState.ts"
import * as Pipeline from "./Pipeline.ts"
import type { Progress } from "./Progress.ts"
import { majority } from "./Quorum.ts"
import type { CatchUp } from "./Role.ts"
import { becomeFollower } from "./RoleChange.ts"
import * as Transfer from "./Transfer.ts"
import type * as Turn from "./Turn.ts"

const impossible = (reason: Impossible, message: string): Refusal => ({ _tag: "Impossible", reason, message })

/** How many entries of the leader's log this server has not acknowledged. */
const missing = (state: LeaderState, progress: Progress): number => state.log.lastIndex - progress.matchIndex

/** A short log is no excuse for a server that has none of it: it must have joined in, with what came before in its state. */
const isClose = (state: LeaderState, progress: Progress): boolean =>
  progress._tag === "Replicate" && !progress.needsState
  && missing(state, progress) <= state.settings.promotionLagEntriesMax

/** What is known of whether a server is up: heard within the longest election timeout, or not, or there was no time yet to hear it. */
const hearing = (state: LeaderState, id: NodeId, nowMs: number): "heard" | "silent" | "unknown" => {
  const progress = state.role.progress.get(id)
  if (id === state.id) return "heard"
  if (progress === undefined || nowMs - progress.lastContactMs >= state.settings.electionTimeoutMsMax) return "silent"
  return progress.hasAnswered ? "heard" : "unknown"
}

/** What would be left if the voters that are silent stayed so: a cluster that commits nothing, its own repair included. */
const quorumLost = (state: LeaderState, next: Configuration.Configuration, nowMs: number): Refusal | undefined => {
  const unheard = next.voters.filter((id) => hearing(state, id, nowMs) !== "heard")
  const silent = unheard.filter((id) => hearing(state, id, nowMs) === "silent")
  const needed = majority(next.voters.length)
  if (next.voters.length - unheard.length >= needed) return undefined
  if (next.voters.length - silent.length >= needed) {
    return impossible("NotReady", `${unheard.join(", ")} has not answered this new leader yet: try again`)
  }
  return impossible(
    "QuorumLost",
    `of the ${next.voters.length} voters (${next.voters.join(", ")}) that there would be, ${needed} must answer, and ${
      silent.join(", ")
    } ${silent.length === 1 ? "does" : "do"} not: restart or replace what is down first`
  )
}

/** A voter that still has the log to fetch would hold up every commit that needs it (rule M5). */
const notCaughtUp = (state: LeaderState, next: Configuration.Configuration): Refusal | undefined => {
  const { latest } = state.configuration
  for (const id of next.voters) {
    if (latest.voters.includes(id)) continue
    const progress = state.role.progress.get(id)
    if (progress !== undefined && isClose(state, progress)) continue
    const behind = progress === undefined ? "has nothing yet" : `is ${missing(state, progress)} entries behind`
    return impossible("NotCaughtUp", `${id} ${behind}: it cannot vote before it has caught up`)
  }
  return undefined
}

/**
 * What the changes would make of the cluster, or why they are refused: a change under way, or no entry of the leader's own term committed yet
 * (rule M1: an earlier leader's change may be in another log), what is no configuration, who has not caught up, or a quorum that would be lost.
 */
export const preview = (
  state: NodeState,
  changes: ReadonlyArray<Configuration.Change>,
  nowMs: number
): { readonly next: Configuration.Configuration } | { readonly refusal: Refusal } => {
  if (!isLeader(state)) return { refusal: { _tag: "NotLeader", leaderId: leaderIdOf(state) } }
  const { latest } = state.configuration
  const next = Configuration.after(latest, changes)
  if (typeof next === "string") return { refusal: impossible("Invalid", next) }
  // What is asked is under way: asking twice is no mistake (rule M3).
  if (next === latest && isReconfiguring(state)) return { next }
  const refusal = notNow(state) ?? tooLarge(entryOf(latest, next)) ?? notCaughtUp(state, next)
    ?? quorumLost(state, next, nowMs)
  return refusal === undefined ? { next } : { refusal }
}

/** While several servers change at once there are more names and addresses than before or after. */
const tooLarge = (configuration: Configuration.Configuration): Refusal | undefined => {
  const problem = Configuration.problem(configuration)
  return problem === undefined ? undefined : impossible("Invalid", problem)
}

const notNow = (state: LeaderState): Refusal | undefined => {
  if (state.role.transfer !== undefined) {
    return impossible("Pending", `leadership is being handed to ${state.role.transfer.to}: try again`)
  }
  if (state.commitIndex < state.role.termStartIndex) {
    return impossible("NotReady", "this leader has only just been elected and has committed nothing yet: try again")
  }
  return isReconfiguring(state)
    ? impossible("Pending", "another change of the configuration is under way: try again")
    : undefined
}

/** The leader's side of a change. It is refused, or the request waits in `role.reconfiguring` until the change is committed. */
export const onReconfigure = (
  state: NodeState,
  requestId: RequestId,
  changes: ReadonlyArray<Configuration.Change>,
  turn: Turn.Turn
): NodeState => {
  const previewed = preview(state, changes, turn.nowMs)
  if ("refusal" in previewed || !isLeader(state)) {
    const refusal = "refusal" in previewed ? previewed.refusal : impossible("NotReady", "this server does not lead")
    turn.commands.push({ _tag: "Refuse", requestIds: [requestId], refusal })
    return state
  }
  const { next } = previewed
  const { latest } = state.configuration
  const reconfiguring = [...state.role.reconfiguring, requestId]
  const asked: LeaderState = { ...state, role: { ...state.role, reconfiguring } }
  // What is asked is what is under way: whoever asks again waits for it as well.
  if (next === latest && isReconfiguring(state)) return asked
  return append(asked, entryOf(latest, next), turn)
}

/** What is written for a change: where more than one voter moves, both configurations in one. What is so already is confirmed by being so again. */
const entryOf = (latest: Configuration.Configuration, next: Configuration.Configuration): Configuration.Configuration =>
  Configuration.votersMoved(latest, next) <= 1 ? next : Configuration.joint(latest, next)

/** The new configuration counts from here on. It is appended whatever the limits (rule L10). */
const append = (
  state: LeaderState,
  configuration: Configuration.Configuration,
  turn: Turn.Turn
): LeaderState => {
  const entry: Entry = {
    term: state.term,
    index: state.log.lastIndex + 1,
    payload: { _tag: "Configuration", configuration }
  }
  return withoutCatchUps(Pipeline.appendAndReplicate(state, [entry], turn))
}

/** A server has proved what it holds, or something was committed: a change may be done, or its next part due. */
export const onProgress = (state: LeaderState, from: NodeId, turn: Turn.Turn): NodeState => {
  const current = withoutInformed(withCatchUp(state, from, turn), from, turn)
  const { configuration: { latest, latestIndex }, role } = current
  const { commitIndex } = current
  // Of a configuration that an earlier leader appended it is not known to be committed before an entry of this term is (rules L1, M4).
  if (commitIndex < latestIndex || commitIndex < role.termStartIndex) return current
  if (Configuration.isJoint(latest)) {
    // Not under the feet of a successor, which stands with what it had when it was told to (rule M7): it leaves when it leads.
    return role.transfer === undefined ? append(current, Configuration.left(latest), turn) : current
  }
  for (const requestId of role.reconfiguring) turn.commands.push({ _tag: "Complete", requestId })
  const done: LeaderState = role.reconfiguring.length === 0
    ? current
    : { ...current, role: { ...role, reconfiguring: [] } }
  if (!latest.voters.includes(done.id)) return retire(done, turn)
  return promote(done, turn)
}

/** A leader that is no voter any more, as is committed by those who are: it hands over, and does not stand again (thesis §4.2.2; rule M6). */
const retire = (state: LeaderState, turn: Turn.Turn): NodeState =>
  becomeFollower(Transfer.tellBest(state, turn), undefined, turn)

/** Learners that are to become voters are looked at whenever they acknowledge something. */
const withCatchUp = (state: LeaderState, from: NodeId, turn: Turn.Turn): LeaderState => {
  const { latest } = state.configuration
  const progress = state.role.progress.get(from)
  if (progress === undefined || !latest.joining.includes(from)) return state
  const known = state.role.catchUps.get(from) ?? catchUp(turn.nowMs)
  if (progress.matchIndex < known.target) return state
  const wasClose = isClose(state, progress)
  const next: CatchUp = {
    ...known,
    target: state.log.lastIndex,
    wasClose,
    hasKeptUp: wasClose && known.wasClose
  }
  return { ...state, role: { ...state.role, catchUps: new Map(state.role.catchUps).set(from, next) } }
}

/** After so many of the longest election timeouts a learner that is to be promoted and was not is spoken of, and again after as many. */
const reportTimeouts = 100

/** Whoever is to be promoted and was not for so long does not keep up, or does not run at all. */
export const reportLearners = (state: LeaderState, turn: Turn.Turn): LeaderState => {
  const { joining } = state.configuration.latest
  if (joining.length === 0) return state
  const catchUps = new Map(state.role.catchUps)
  for (const id of joining) {
    const known = catchUps.get(id) ?? catchUp(turn.nowMs)
    const isDue = turn.nowMs - known.reportedMs >= reportTimeouts * state.settings.electionTimeoutMsMax
    catchUps.set(id, isDue ? { ...known, reportedMs: turn.nowMs } : known)
    const progress = state.role.progress.get(id)
    if (isDue && progress !== undefined) {
      turn.commands.push({ _tag: "ReportLearner", id, missing: missing(state, progress) })
    }
  }
  return { ...state, role: { ...state.role, catchUps } }
}

/** Before its first round. */
const catchUp = (nowMs: number): CatchUp => ({
  target: 0,
  wasClose: false,
  hasKeptUp: false,
  reportedMs: nowMs
})

/** It was close for a whole round, and is now. However close, there may always be more by the time that it has acknowledged something. */
const hasCaughtUp = (state: LeaderState, id: NodeId): boolean => {
  const progress = state.role.progress.get(id)
  return progress !== undefined && state.role.catchUps.get(id)?.hasKeptUp === true && isClose(state, progress)
}

/** One server at a time (rule M3). */
const promote = (state: LeaderState, turn: Turn.Turn): LeaderState => {
  const { latest } = state.configuration
  if (latest.joining.length === 0 || notNow(state) !== undefined) return state
  const ready = latest.joining.find((id) => hasCaughtUp(state, id))
  if (ready === undefined) return state
  const next = Configuration.after(latest, [{ _tag: "Promote", id: ready }])
  if (typeof next === "string" || quorumLost(state, next, turn.nowMs) !== undefined) return state
  return append(state, next, turn)
}

/** Whoever is not to be promoted (any more) is not followed either. */
const withoutCatchUps = (state: LeaderState): LeaderState => {
  const { joining } = state.configuration.latest
  const left = [...state.role.catchUps].filter(([id]) => joining.includes(id))
  return left.length === state.role.catchUps.size
    ? state
    : { ...state, role: { ...state.role, catchUps: new Map(left) } }
}

const dropped = (state: LeaderState, ids: ReadonlyArray<NodeId>): LeaderState => {
  if (ids.length === 0) return state
  const progress = new Map(state.role.progress)
  for (const id of ids) progress.delete(id)
  return { ...state, role: { ...state.role, progress } }
}

const isGone = (state: LeaderState, id: NodeId): boolean =>
  id !== state.id && !Configuration.isMember(state.configuration.latest, id)

/** Whoever was removed is told so, as far as it listens: then it does not stand for election any more. */
const withoutInformed = (state: LeaderState, from: NodeId, turn: Turn.Turn): LeaderState => {
  const { commitIndex, configuration: { latestIndex } } = state
  const progress = state.role.progress.get(from)
  if (progress === undefined || !isGone(state, from)) return state
  if (progress.matchIndex < latestIndex || commitIndex < latestIndex) return state
  Pipeline.sendCommitIndex(state, from, turn)
  return dropped(state, [from])
}

/** After so many of the longest election timeouts nobody waits any longer for a removed server to listen. */
const informTimeouts = 10

/** Without those that were removed and are not heard from, or need more than the log to learn of it. */
export const withoutLost = (state: LeaderState, turn: Turn.Turn): LeaderState => {
  const lost = [...state.role.progress].filter(([id, progress]) =>
    isGone(state, id)
    && (progress._tag === "Snapshot"
      || turn.nowMs - progress.lastContactMs >= informTimeouts * state.settings.electionTimeoutMsMax)
  )
  return dropped(state, lost.map(([id]) => id))
}
