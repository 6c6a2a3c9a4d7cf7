/**
 * What a leader knows about one follower (paper Figure 2: nextIndex, matchIndex), one shape per state, after etcd's picture:
 *
 * ```
 *            rejected, or the peer was lost
 *        ┌────────────────────────────────────┐
 *        ▼                                    │
 *      Probe ──────── matched ───────────► Replicate
 *   one message at a time              a window of messages
 *        │                                    ▲
 *        └── what it needs ──► Snapshot ──────┘ matched
 *            is compacted      heartbeats only
 * ```
 */
import type { LogIndex } from "./Entry.ts"

interface Known {
  /** The next entry to send. Always above `matchIndex`. */
  readonly nextIndex: LogIndex
  /** The last entry the follower has *proved* to hold durably; it never shrinks within a leadership (rule L4). */
  readonly matchIndex: LogIndex
  /** When the follower was last heard, for check-quorum (rule V9); at first when it was first sent to. */
  readonly lastContactMs: number
  /** Whether it was heard in this leadership. */
  readonly hasAnswered: boolean
  /** The latest read round it acknowledged (rule R2). */
  readonly ackedRound: number
  /** It has lost its state, not its log: entries go to it as ever, and the latest snapshot beside them. */
  readonly needsState: boolean
}

/** The leader does not know where the logs part: at most one message with entries is under way. */
export interface Probe extends Known {
  readonly _tag: "Probe"
  readonly awaitingResponse: boolean
}

/** The logs agree: messages go out ahead of their answers. `inflight` holds, oldest first, what is unanswered. */
export interface Replicate extends Known {
  readonly _tag: "Replicate"
  readonly inflight: ReadonlyArray<{ readonly lastIndex: LogIndex; readonly bytes: number }>
  readonly inflightBytes: number
}

/** What the follower lacks is no longer in the log: the latest snapshot is on its way to it, at least up to `snapshotIndex` (rule L7). */
export interface Snapshot extends Known {
  readonly _tag: "Snapshot"
  readonly snapshotIndex: LogIndex
}

export type Progress = Probe | Replicate | Snapshot

/** What a new leader assumes (paper Figure 2: initialized to last log index + 1, and 0). */
export const initial = (lastIndex: LogIndex, nowMs: number): Progress => ({
  _tag: "Probe",
  nextIndex: lastIndex + 1,
  matchIndex: 0,
  lastContactMs: nowMs,
  hasAnswered: false,
  ackedRound: 0,
  needsState: false,
  awaitingResponse: false
})

export const becomeProbe = (progress: Progress, nextIndex: LogIndex): Probe => ({
  _tag: "Probe",
  nextIndex: Math.max(nextIndex, progress.matchIndex + 1),
  matchIndex: progress.matchIndex,
  lastContactMs: progress.lastContactMs,
  hasAnswered: progress.hasAnswered,
  ackedRound: progress.ackedRound,
  needsState: progress.needsState,
  awaitingResponse: false
})

export const becomeReplicate = (progress: Progress): Replicate => ({
  _tag: "Replicate",
  nextIndex: progress.matchIndex + 1,
  matchIndex: progress.matchIndex,
  lastContactMs: progress.lastContactMs,
  hasAnswered: progress.hasAnswered,
  ackedRound: progress.ackedRound,
  needsState: progress.needsState,
  inflight: [],
  inflightBytes: 0
})

export const becomeSnapshot = (progress: Progress, snapshotIndex: LogIndex): Snapshot => ({
  _tag: "Snapshot",
  nextIndex: snapshotIndex + 1,
  matchIndex: progress.matchIndex,
  lastContactMs: progress.lastContactMs,
  hasAnswered: progress.hasAnswered,
  ackedRound: progress.ackedRound,
  needsState: progress.needsState,
  snapshotIndex
})

/** The follower was heard now, and echoed `round`. */
export const heard = (progress: Progress, round: number, nowMs: number): Progress => ({
  ...progress,
  lastContactMs: nowMs,
  hasAnswered: true,
  ackedRound: Math.max(progress.ackedRound, round)
})

/** The follower proved that it holds everything up to `matchIndex`; a probed one has answered its probe when that reaches `nextIndex - 1`. */
export const advanceMatchIndex = (progress: Progress, matchIndex: LogIndex): Progress => {
  const match = Math.max(progress.matchIndex, matchIndex)
  if (progress._tag === "Snapshot") {
    return { ...progress, matchIndex: match, nextIndex: Math.max(progress.nextIndex, match + 1) }
  }
  if (progress._tag === "Probe") {
    const known = { ...progress, matchIndex: match, nextIndex: Math.max(progress.nextIndex, match + 1) }
    return match >= progress.nextIndex - 1 ? becomeReplicate(known) : known
  }
  const inflight = progress.inflight.filter((message) => message.lastIndex > match)
  return {
    ...progress,
    matchIndex: match,
    nextIndex: Math.max(progress.nextIndex, match + 1),
    inflight,
    inflightBytes: inflight.reduce((sum, message) => sum + message.bytes, 0)
  }
}
