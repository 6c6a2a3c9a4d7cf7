/**
 * Stepping down, and taking the lead (paper §5.1, §5.2; Figure 4).
 */
import { type Entry, noop, type Term } from "./Entry.ts"
import type { RequestId } from "./Event.ts"
import type { NodeId } from "./NodeId.ts"
import { isLeader, type LeaderState, type NodeState, peersOf, withElectionDeadline } from "./NodeState.ts"
import * as Pipeline from "./Pipeline.ts"
import * as Progress from "./Progress.ts"
import * as ReadIndex from "./ReadIndex.ts"
import type * as Turn from "./Turn.ts"

/**
 * The same term, as a follower; the vote is kept (rule V2). Only a leader gets a new election deadline: the others have one, and
 * stepping down is no reason to put an election off (rule V10).
 */
export const becomeFollower = (state: NodeState, leaderId: NodeId | undefined, turn: Turn.Turn): NodeState => {
  if (!isLeader(state)) return { ...state, role: { _tag: "Follower", leaderId } }
  ReadIndex.refuseAll(state, leaderId, turn)
  endChanges(state, turn)
  return withElectionDeadline({ ...state, role: { _tag: "Follower", leaderId } }, turn.nowMs)
}

/** A leadership ends, and with it what it knows of a change or a transfer that somebody waits for. */
const endChanges = ({ role: { reconfiguring, transfer } }: LeaderState, turn: Turn.Turn): void => {
  const refuse = (requestIds: ReadonlyArray<RequestId>): void => {
    turn.commands.push({ _tag: "Refuse", requestIds, refusal: { _tag: "OutcomeUnknown" } })
  }
  if (reconfiguring.length > 0) refuse(reconfiguring)
  if (transfer === undefined) return
  if (transfer.isSent) turn.commands.push({ _tag: "HandedOver", requestId: transfer.requestId })
  else refuse([transfer.requestId])
}

/** The term's leader was heard: this server follows it, and puts its own election off (rule V10). */
export const followLeader = (state: NodeState, leaderId: NodeId, turn: Turn.Turn): NodeState =>
  withElectionDeadline({
    ...becomeFollower(state, leaderId, turn),
    leaseUntilMs: turn.nowMs + state.settings.electionTimeoutMsMin,
    leaderContactMs: turn.nowMs
  }, turn.nowMs)

/**
 * A higher term was seen: the vote was for another term, and whoever led or stood in the old one no longer does.
 * `leaderId` leads the new one, as far as known.
 */
export const adoptTerm = (
  state: NodeState,
  term: Term,
  leaderId: NodeId | undefined,
  turn: Turn.Turn
): NodeState => ({
  ...becomeFollower(state, leaderId, turn),
  term,
  votedFor: undefined
})

/**
 * "Upon election: send initial empty AppendEntries RPCs to each server" (Figure 2): here with a no-op of the new term, without which
 * nothing older could be known to be committed (paper §5.4.2, §8). It is appended whatever the limits (rule L10).
 */
export const becomeLeader = (state: NodeState, turn: Turn.Turn): LeaderState => {
  const lastIndex = state.log.lastIndex
  const start: Entry = { term: state.term, index: lastIndex + 1, payload: noop }
  const followers = new Map(
    [state.id, ...peersOf(state)].map((id) => [id, Progress.initial(lastIndex, turn.nowMs)] as const)
  )
  const leader: LeaderState = {
    ...state,
    role: {
      _tag: "Leader",
      progress: followers,
      termStartIndex: start.index,
      round: 0,
      pendingReads: [],
      waitingReads: [],
      waitingAsks: [],
      sentRounds: [],
      readLeaseUntilMs: -Infinity,
      uncommittedBytes: 0,
      reconfiguring: [],
      catchUps: new Map(),
      transfer: undefined,
      hasHandedOver: false
    },
    logTime: { ...state.logTime, ms: state.logTime.appliedMs, atMs: turn.nowMs },
    deadlineMs: turn.nowMs + state.settings.heartbeatIntervalMs
  }
  return Pipeline.appendAndReplicate(leader, [start], turn)
}
