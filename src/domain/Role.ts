/**
 * What a server is (paper §5.1, Figure 4), with the state that only this role needs.
 */
import type { LogIndex } from "./Entry.ts"
import type { RequestId } from "./Event.ts"
import type { NodeId } from "./NodeId.ts"
import type { Progress } from "./Progress.ts"

export type Votes = ReadonlyMap<NodeId, boolean>

export interface Follower {
  readonly _tag: "Follower"
  readonly leaderId: NodeId | undefined
}

/** Asks whether it could win before it raises its term (thesis §9.6). */
export interface PreCandidate {
  readonly _tag: "PreCandidate"
  readonly votes: Votes
}

export interface Candidate {
  readonly _tag: "Candidate"
  readonly votes: Votes
  /** The leader has asked it to stand (thesis §3.10). */
  readonly isTransfer: boolean
}

/** How a learner that is to be promoted catches up: in rounds, each as long as the log is when it begins (thesis §4.2.1). */
export interface CatchUp {
  /** The round ends when the learner has this entry. */
  readonly target: LogIndex
  /** Whether it was close enough when the round began. */
  readonly wasClose: boolean
  /** Whether it was so for the whole round before this one, at its beginning and at its end. */
  readonly hasKeptUp: boolean
  /** When it was last spoken of, or began. */
  readonly reportedMs: number
}

/** A leader hands over (thesis §3.10). */
export interface Transfer {
  readonly to: NodeId
  readonly requestId: RequestId
  readonly deadlineMs: number
  /** Whether `to` had everything, and was told to stand. */
  readonly isSent: boolean
}

/** A question for a read index that another server has sent (`RequestReadIndex`). */
export interface Ask {
  readonly from: NodeId
  readonly ask: number
}

/** Reads that a round of heartbeats was sent for, and the index they must see (thesis §6.4). */
export interface PendingRead {
  readonly requestIds: ReadonlyArray<RequestId>
  readonly asks: ReadonlyArray<Ask>
  readonly round: number
  readonly readIndex: LogIndex
}

/** Paper Figure 2's third box, and what reads and limits need. */
export interface Leader {
  readonly _tag: "Leader"
  /**
   * One for every member, this server included: a leader counts itself by what it has proved, like a peer (rule L6). And one for whoever was
   * removed and has not heard of it yet.
   */
  readonly progress: ReadonlyMap<NodeId, Progress>
  /** The index of this leadership's no-op: nothing before it proves what is committed (rules L1, R1). */
  readonly termStartIndex: LogIndex
  /** The latest read round that was sent. */
  readonly round: number
  /** Ascending by round. */
  readonly pendingReads: ReadonlyArray<PendingRead>
  /** Reads that came after the latest round was sent: they wait for the next one (rule R2). */
  readonly waitingReads: ReadonlyArray<RequestId>
  readonly waitingAsks: ReadonlyArray<Ask>
  /** When rounds were sent that no majority has acknowledged yet, ascending; kept where leases are in use. */
  readonly sentRounds: ReadonlyArray<{ readonly round: number; readonly sentMs: number }>
  /** Until then no other server can have become leader, if clocks keep to `clockDriftPercentMax` (rule R3). */
  readonly readLeaseUntilMs: number
  /** Of this leadership's own entries: what it inherited it does not bound (rule L10). */
  readonly uncommittedBytes: number
  /** Who asked for the change that is under way, if anybody here did. */
  readonly reconfiguring: ReadonlyArray<RequestId>
  /** Of the learners that are to be promoted. */
  readonly catchUps: ReadonlyMap<NodeId, CatchUp>
  readonly transfer: Transfer | undefined
  /** Somebody was told to stand, and may do so at any later time: no lease counts in this leadership any more (rule M7). */
  readonly hasHandedOver: boolean
}

export type Role = Follower | PreCandidate | Candidate | Leader
