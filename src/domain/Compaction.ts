/**
 * Log compaction (paper §7): when a snapshot is due, what a new one lets the log give up, and the receiver's side of InstallSnapshot
 * (Figure 13). The bytes are the driver's.
 */
import * as Configuration from "./Configuration.ts"
import type { LogIndex } from "./Entry.ts"
import * as Log from "./Log.ts"
import type { NodeId } from "./NodeId.ts"
import { configurationAt, isLeader, type LeaderState, needsSnapshot, type NodeState } from "./NodeState.ts"
import * as Pipeline from "./Pipeline.ts"
import * as Progress from "./Progress.ts"
import type { Snapshot } from "./Snapshot.ts"
import * as Turn from "./Turn.ts"

/** The state machine has applied everything up to `index`; there may be enough of it for a snapshot now. */
export const onApplied = (state: NodeState, index: LogIndex, logTimeMs: number, turn: Turn.Turn): NodeState => {
  if (index <= state.lastApplied) return state
  const from = Math.max(state.lastApplied, state.snapshot.last.index) + 1
  const unsnapshottedBytes = state.unsnapshottedBytes + Log.bytesOf(state.log, { from, to: index })
  const isAhead = logTimeMs > state.logTime.ms + turn.nowMs - state.logTime.atMs
  const logTime = isAhead
    ? { appliedMs: logTimeMs, ms: logTimeMs, atMs: turn.nowMs }
    : { ...state.logTime, appliedMs: logTimeMs }
  const applied: NodeState = { ...state, lastApplied: index, unsnapshottedBytes, logTime }
  return isDue(applied) ? takeSnapshot(applied, turn) : applied
}

const isDue = ({ lastApplied, settings, snapshot, unsnapshottedBytes }: NodeState): boolean => {
  const entries = lastApplied - snapshot.last.index
  return entries > 0
    && (entries >= settings.snapshotEntries || unsnapshottedBytes >= settings.snapshotBytes)
    && unsnapshottedBytes * 100 >= snapshot.sizeBytes * settings.snapshotGrowthPercent
}

/** Asks for a snapshot, unless one is under way or there is nothing to put into it. */
export const takeSnapshot = (state: NodeState, turn: Turn.Turn): NodeState => {
  if (state.isTakingSnapshot || state.lastApplied === state.snapshot.last.index) return state
  turn.commands.push({ _tag: "TakeSnapshot" })
  return { ...state, isTakingSnapshot: true }
}

/** A snapshot of this server is durable: what it stands for can leave the log. */
export const onSnapshotTaken = (state: NodeState, snapshot: Snapshot, turn: Turn.Turn): NodeState => {
  const taken: NodeState = { ...state, isTakingSnapshot: false }
  if (snapshot.last.index <= state.snapshot.last.index) return taken
  const from = snapshot.last.index + 1
  const next: NodeState = {
    ...taken,
    snapshot,
    unsnapshottedBytes: Log.bytesOf(state.log, { from, to: state.lastApplied })
  }
  return compact(next, compactIndex(state, snapshot), turn)
}

/**
 * How far the log may go: all that the snapshot stands for, but for a tail. A follower that the snapshot before this one is being sent to
 * goes on from the end of that one, so the log is kept from there, once.
 */
const compactIndex = (before: NodeState, snapshot: Snapshot): LogIndex => {
  const { logTailEntriesMax, snapshotBytes } = before.settings
  const last = snapshot.last.index
  let index = last
  let tailBytes = 0
  while (index > before.log.prev.index && last - index < logTailEntriesMax) {
    tailBytes += Log.bytesOf(before.log, { from: index, to: index })
    if (tailBytes > snapshotBytes / 4) break
    index--
  }
  if (!isLeader(before)) return index
  for (const progress of before.role.progress.values()) {
    const isReceiving = progress._tag === "Snapshot" && progress.snapshotIndex === before.snapshot.last.index
    if (isReceiving) index = Math.min(index, progress.snapshotIndex)
  }
  return index
}

const compact = (state: NodeState, index: LogIndex, turn: Turn.Turn): NodeState => {
  if (index <= state.log.prev.index) return state
  const log = Log.compact(state.log, index)
  turn.commands.push({ _tag: "Compact", start: { prev: log.prev, configuration: configurationAt(state, index) } })
  const compacted: NodeState = { ...state, log, configuration: Configuration.compacted(state.configuration, index) }
  if (!isLeader(compacted)) return compacted
  const progress = new Map(compacted.role.progress)
  for (const [id, known] of progress) {
    // The logs may agree at the start of this one; if not, the follower's answer says so.
    if (known.nextIndex <= index && known._tag !== "Snapshot") progress.set(id, Progress.becomeProbe(known, index + 1))
  }
  return { ...compacted, role: { ...compacted.role, progress } }
}

/** The receiver's side of InstallSnapshot, once all of it is here (Figure 13), for one of the current term. */
export const onSnapshotReceived = (
  follower: NodeState,
  from: NodeId,
  snapshot: Snapshot,
  turn: Turn.Turn
): NodeState => {
  const { last } = snapshot
  if (needsSnapshot(follower) ? last.index < follower.log.prev.index : last.index <= follower.commitIndex) {
    // Its leader only needs to know that all of it is here (rule L7).
    if (!needsSnapshot(follower)) acknowledge(follower, from, follower.commitIndex, turn)
    return discard(follower, snapshot, turn)
  }
  // "If existing log entry has same index and term as snapshot's last included entry, retain log entries following it."
  const keepsLog = Log.matches(follower.log, last)
  turn.install = { snapshot, keepsLog }
  acknowledge(follower, from, last.index, turn)
  return {
    ...follower,
    log: keepsLog ? follower.log : Log.empty(last),
    commitIndex: last.index,
    snapshot,
    unsnapshottedBytes: 0,
    // A log that holds the snapshot's last entry agrees with it on every configuration up to there.
    configuration: keepsLog
      ? follower.configuration
      : Configuration.beginning({ index: last.index, configuration: snapshot.configuration })
  }
}

/** While a snapshot waits to be installed, what came in may be a copy of that very one, which is still needed. */
export const discard = (state: NodeState, { last }: Snapshot, turn: Turn.Turn): NodeState => {
  const mayBeInstalling = last.index > state.lastApplied && last.index <= state.snapshot.last.index
  if (!mayBeInstalling) turn.commands.push({ _tag: "DiscardSnapshot", last })
  return state
}

const acknowledge = (state: NodeState, from: NodeId, matchIndex: LogIndex, turn: Turn.Turn): void => {
  Turn.promise(turn, from, {
    _tag: "AppendEntriesResponse",
    term: state.term,
    round: 0,
    result: { _tag: "Matched", matchIndex }
  })
}

/**
 * The follower's state is lost up to `prevIndex`, and its log is whole: a snapshot from there on goes to it beside the entries, without which
 * there may be no majority.
 */
export const onNeedsSnapshot = (
  state: LeaderState,
  from: NodeId,
  progress: Progress.Progress,
  prevIndex: LogIndex,
  turn: Turn.Turn
): NodeState => {
  const isOnItsWay = progress.needsState || progress._tag === "Snapshot"
  if (state.snapshot.last.index < Math.max(prevIndex, 1)) return takeSnapshot(state, turn)
  if (isOnItsWay) return state
  turn.commands.push({ _tag: "SendSnapshot", to: from })
  return Pipeline.withProgress(state, from, { ...progress, needsState: true })
}

/** All of the latest snapshot is at `peer`. If it is not restored there after all, the peer says so again. */
export const onSnapshotSent = (state: LeaderState, peer: NodeId): LeaderState => {
  const progress = state.role.progress.get(peer)
  return progress === undefined || !progress.needsState
    ? state
    : Pipeline.withProgress(state, peer, { ...progress, needsState: false })
}

/** Whether the leader wants `peer` to have its latest snapshot. */
export const isSnapshotWanted = (state: NodeState, peer: NodeId): boolean => {
  if (!isLeader(state)) return false
  const progress = state.role.progress.get(peer)
  return progress !== undefined && (progress._tag === "Snapshot" || progress.needsState)
}
