/**
 * Log replication (paper §5.3, §5.4.2): AppendEntries and its answers, the commit index.
 */
import * as Compaction from "./Compaction.ts"
import * as Configuration from "./Configuration.ts"
import { type Entry, type LogIndex, sizeBytes } from "./Entry.ts"
import * as FollowerReads from "./FollowerReads.ts"
import { broken } from "./Invariants.ts"
import * as Log from "./Log.ts"
import * as Membership from "./Membership.ts"
import type { AppendEntries, AppendEntriesResponse, Conflict } from "./Message.ts"
import type { NodeId } from "./NodeId.ts"
import { configurationsIn, isLeader, type LeaderState, needsSnapshot, type NodeState } from "./NodeState.ts"
import * as Pipeline from "./Pipeline.ts"
import * as Progress from "./Progress.ts"
import * as Quorum from "./Quorum.ts"
import * as ReadIndex from "./ReadIndex.ts"
import { becomeFollower, followLeader } from "./RoleChange.ts"
import * as Transfer from "./Transfer.ts"
import * as Turn from "./Turn.ts"

/** The receiver's side of AppendEntries (Figure 2), for a message of the current term. */
export const onAppendEntries = (
  state: NodeState,
  from: NodeId,
  message: AppendEntries,
  turn: Turn.Turn
): NodeState => {
  if (isLeader(state)) {
    throw broken("Election Safety", `${from} and ${state.id} both lead term ${state.term}`)
  }
  if (!isContiguous(message)) return state
  const follower = FollowerReads.askAgain(followLeader(state, from, turn), from, turn)
  // Which servers there are is known from a snapshot on: what came before may have been decided by others (rule M2).
  if (Configuration.isUnknown(follower.configuration.latest)) {
    Turn.send(turn, from, needsSnapshotAnswer(follower, message))
    return follower
  }
  // To a heartbeat it says what it lacks. Entries it keeps and acknowledges: without it there may be no majority to commit anything.
  const hasLostState = needsSnapshot(follower)
  if (hasLostState && message.entries.length === 0) {
    Turn.send(turn, from, needsSnapshotAnswer(follower, message))
    return follower
  }
  // What lies before the log's start was committed and compacted: the leader only needs to know that it is here.
  if (message.prev.index < follower.log.prev.index) {
    acknowledge(follower, from, message, follower.commitIndex, turn)
    return follower
  }
  if (!Log.matches(follower.log, message.prev)) {
    Turn.send(turn, from, rejection(follower, message))
    return follower
  }
  const stored = store(follower, message.entries, turn)
  const lastNewIndex = message.prev.index + message.entries.length
  acknowledge(stored, from, message, lastNewIndex, turn)
  if (hasLostState) return stored
  // Only what this message proved to be the leader's may be committed, never a stale tail beyond it (rule L2).
  const commitIndex = Math.max(stored.commitIndex, Math.min(message.leaderCommit, lastNewIndex))
  return { ...stored, commitIndex }
}

const needsSnapshotAnswer = ({ log, term }: NodeState, { round }: AppendEntries): AppendEntriesResponse => ({
  _tag: "AppendEntriesResponse",
  term,
  round,
  result: { _tag: "NeedsSnapshot", prevIndex: log.prev.index }
})

/** prev+1 … prev+n (rule L5), with terms that never fall. */
const isContiguous = (message: AppendEntries): boolean => {
  let term = message.prev.term
  for (const [i, entry] of message.entries.entries()) {
    if (entry.index !== message.prev.index + 1 + i || entry.term < term || entry.term > message.term) return false
    term = entry.term
  }
  return true
}

/** "If an existing entry conflicts with a new one, delete it and all that follow it; append any new entries" (rule L3). */
const store = (state: NodeState, entries: ReadonlyArray<Entry>, turn: Turn.Turn): NodeState => {
  const at = entries.findIndex((entry) => Log.termAt(state.log, entry.index) !== entry.term)
  const first = entries[at]
  if (first === undefined) return state
  if (first.index <= state.commitIndex) {
    throw broken("Leader Completeness", `entry ${first.index} is committed here, and its leader has another one`)
  }
  turn.appended = at === 0 ? entries : entries.slice(at)
  const lastKept = first.index - 1
  return {
    ...state,
    log: Log.append(Log.truncate(state.log, lastKept), turn.appended),
    configuration: Configuration.appended(
      Configuration.truncated(state.configuration, lastKept),
      configurationsIn(turn.appended)
    )
  }
}

const matched = (
  state: NodeState,
  message: AppendEntries,
  matchIndex: LogIndex
): AppendEntriesResponse => ({
  _tag: "AppendEntriesResponse",
  term: state.term,
  round: message.round,
  result: { _tag: "Matched", matchIndex }
})

/**
 * A match is a promise of durability. What is applied is known to be durable, so a match up to there may leave at once; a heartbeat is
 * always answered at once, up to there, so that a slow disk delays no read and topples no leader.
 */
const acknowledge = (state: NodeState, from: NodeId, message: AppendEntries, matchIndex: LogIndex, turn: Turn.Turn) => {
  if (matchIndex <= state.lastApplied) {
    Turn.send(turn, from, matched(state, message, matchIndex))
    return
  }
  if (message.entries.length === 0) Turn.send(turn, from, matched(state, message, state.lastApplied))
  Turn.promise(turn, from, matched(state, message, matchIndex))
}

/** The log does not hold `prev`; `conflict` says where to go on (paper §5.3). */
const rejection = (state: NodeState, message: AppendEntries): AppendEntriesResponse => {
  const term = Log.termAt(state.log, message.prev.index)
  const conflict: Conflict = term === undefined
    ? { term, index: state.log.lastIndex + 1 }
    : { term, index: Log.firstIndexOfTermAt(state.log, message.prev.index) }
  return {
    _tag: "AppendEntriesResponse",
    term: state.term,
    round: message.round,
    result: { _tag: "Rejected", prevIndex: message.prev.index, conflict }
  }
}

/** The leader's side of the answer, for one of the current term. */
export const onAppendEntriesResponse = (
  state: LeaderState,
  from: NodeId,
  message: AppendEntriesResponse,
  turn: Turn.Turn
): NodeState => {
  const known = state.role.progress.get(from)
  const { result } = message
  if (known === undefined || result._tag === "Stale") return state
  const progress = Progress.heard(known, Math.min(message.round, state.role.round), turn.nowMs)
  if (result._tag === "Rejected") {
    return ReadIndex.confirmReads(onRejected(state, from, progress, result, turn), turn)
  }
  if (result._tag === "NeedsSnapshot") {
    return Compaction.onNeedsSnapshot(
      ReadIndex.confirmReads(Pipeline.withProgress(state, from, progress), turn),
      from,
      progress,
      result.prevIndex,
      turn
    )
  }
  if (result.matchIndex > state.log.lastIndex) return state
  const advanced = onMatched(state, from, Progress.advanceMatchIndex(progress, result.matchIndex), turn)
  const confirmed = ReadIndex.confirmReads(advanceCommitIndex(advanced), turn)
  const replicated = from === state.id ? confirmed : Pipeline.replicateTo(confirmed, from, turn)
  return Membership.onProgress(Transfer.onProgress(replicated, turn), from, turn)
}

/** A follower that holds all up to the log's start is replicated to again. One that installed a snapshot too old for that gets the next one. */
const onMatched = (state: LeaderState, from: NodeId, progress: Progress.Progress, turn: Turn.Turn): LeaderState => {
  if (progress._tag !== "Snapshot") return Pipeline.withProgress(state, from, progress)
  if (progress.matchIndex >= state.log.prev.index) {
    return Pipeline.withProgress(state, from, Progress.becomeReplicate(progress))
  }
  return progress.matchIndex >= progress.snapshotIndex
    ? Pipeline.sendSnapshot(state, from, progress, turn)
    : Pipeline.withProgress(state, from, progress)
}

const onRejected = (
  state: LeaderState,
  from: NodeId,
  progress: Progress.Progress,
  rejected: Extract<AppendEntriesResponse["result"], { _tag: "Rejected" }>,
  turn: Turn.Turn
): LeaderState => {
  const { conflict, prevIndex } = rejected
  if (progress._tag === "Snapshot") {
    // It has installed what was sent, and its acknowledgement was lost; the log has moved on since.
    const isTooOld = conflict.term === undefined && conflict.index > progress.snapshotIndex
      && conflict.index <= state.log.prev.index
    return isTooOld
      ? Pipeline.sendSnapshot(state, from, progress, turn)
      : Pipeline.withProgress(state, from, progress)
  }
  const isStale = prevIndex <= progress.matchIndex
    || (progress._tag === "Probe" ? prevIndex !== progress.nextIndex - 1 : prevIndex >= progress.nextIndex)
  if (isStale) return Pipeline.withProgress(state, from, progress)
  const nextIndex = nextIndexAfter(state.log, conflict, prevIndex)
  return Pipeline.replicateTo(
    Pipeline.withProgress(state, from, Progress.becomeProbe(progress, nextIndex)),
    from,
    turn
  )
}

/**
 * Where the logs may still agree: after the leader's last entry of the conflicting term, if the follower holds that one too; else
 * before everything either of them has of that term. Each rejection rules out one whole term (paper §5.3; rule L8).
 */
const nextIndexAfter = (log: Log.Log, conflict: Conflict, prevIndex: LogIndex): LogIndex => {
  if (conflict.term === undefined || conflict.index > prevIndex) return Math.min(conflict.index, prevIndex)
  const lastOfTerm = Math.min(Log.lastIndexUpToTerm(log, conflict.term), prevIndex - 1)
  if (lastOfTerm >= conflict.index && Log.termAt(log, lastOfTerm) === conflict.term) return lastOfTerm + 1
  return Math.min(Log.lastIndexUpToTerm(log, conflict.term - 1), conflict.index - 1) + 1
}

/** "If there exists an N > commitIndex, a majority of matchIndex[i] >= N, and log[N].term == currentTerm" (Figure 2; rule L1). */
export const advanceCommitIndex = (state: LeaderState): LeaderState => {
  const index = Quorum.reachedByQuorum(
    state.configuration.latest,
    (id) => state.role.progress.get(id)?.matchIndex ?? 0
  )
  if (index <= state.commitIndex || Log.termAt(state.log, index) !== state.term) return state
  const own = Log.slice(state.log, { from: Math.max(state.commitIndex + 1, state.role.termStartIndex), to: index })
  const committedBytes = own.reduce((sum, entry) => sum + sizeBytes(entry), 0)
  return {
    ...state,
    commitIndex: index,
    role: { ...state.role, uncommittedBytes: state.role.uncommittedBytes - committedBytes }
  }
}

/** Since when a majority, this server included, has been heard. */
export const quorumContactMs = (state: LeaderState, nowMs: number): number =>
  Quorum.reachedByQuorum(
    state.configuration.latest,
    (id) => id === state.id ? nowMs : state.role.progress.get(id)?.lastContactMs ?? 0
  )

/** A leader without a majority steps down in its own term (rule V9); otherwise it speaks, and waiting reads get their round. */
export const onHeartbeatDue = (state: LeaderState, turn: Turn.Turn): NodeState => {
  if (state.settings.checkQuorum) {
    if (turn.nowMs - quorumContactMs(state, turn.nowMs) >= state.settings.electionTimeoutMsMax) {
      return becomeFollower(state, undefined, turn)
    }
  }
  const looked = Transfer.onHeartbeatDue(Membership.reportLearners(Membership.withoutLost(state, turn), turn), turn)
  // A joint configuration that waited for a transfer is left when that is given up.
  const isGivenUp = state.role.transfer !== undefined && looked.role.transfer === undefined
  const resumed = isGivenUp ? Membership.onProgress(looked, looked.id, turn) : looked
  if (!isLeader(resumed)) return resumed
  const next: LeaderState = {
    ...ReadIndex.registerRound(resumed, turn),
    deadlineMs: turn.nowMs + state.settings.heartbeatIntervalMs
  }
  Pipeline.sendHeartbeats(next, turn)
  return next
}

/** What was in flight to `peer` may be gone: find out again where its log ends (rule L7). */
export const onPeerLost = (state: LeaderState, peer: NodeId): LeaderState => {
  const progress = state.role.progress.get(peer)
  if (progress === undefined || peer === state.id) return state
  // A snapshot is asked after piece by piece, whatever is lost of it.
  if (progress._tag === "Snapshot") return state
  const nextIndex = Math.max(progress.matchIndex + 1, Log.firstIndex(state.log))
  return Pipeline.withProgress(state, peer, Progress.becomeProbe(progress, nextIndex))
}
