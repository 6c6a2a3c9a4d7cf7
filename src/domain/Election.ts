/**
 * Leader election (paper §5.2, §5.4.1) with pre-vote (thesis §9.6) and leader stickiness (thesis §4.2.3).
 */
import { isUpToDate } from "./Entry.ts"
import * as Log from "./Log.ts"
import type { RequestPreVote, RequestPreVoteResponse, RequestVote, RequestVoteResponse } from "./Message.ts"
import type { NodeId } from "./NodeId.ts"
import {
  isLeader,
  leaderIdOf,
  mayStand,
  needsSnapshot,
  type NodeState,
  peersOf,
  withElectionDeadline
} from "./NodeState.ts"
import * as Quorum from "./Quorum.ts"
import type { Votes } from "./Role.ts"
import { becomeFollower, becomeLeader } from "./RoleChange.ts"
import * as Turn from "./Turn.ts"

/** Whether a leader was heard so recently that replacing it would only disturb (rule V8). */
export const believesInLeader = (state: NodeState, nowMs: number): boolean =>
  state.settings.leaderStickiness && (isLeader(state) || nowMs < state.leaseUntilMs)

/** "If election timeout elapses without receiving AppendEntries RPC from current leader or granting vote" (Figure 2). */
export const onElectionTimeout = (state: NodeState, turn: Turn.Turn): NodeState => {
  // Whoever cannot apply what is committed cannot serve anybody as leader.
  if (!mayStand(state) || needsSnapshot(state)) {
    return withElectionDeadline(becomeFollower(state, undefined, turn), turn.nowMs)
  }
  return state.settings.preVote ? becomePreCandidate(state, turn) : becomeCandidate(state, false, turn)
}

const becomePreCandidate = (state: NodeState, turn: Turn.Turn): NodeState => {
  const votes = new Map([[state.id, true]])
  if (Quorum.tally(state.configuration.latest, votes) === "won") return becomeCandidate(state, false, turn)
  for (const peer of peersOf(state)) {
    Turn.send(turn, peer, { _tag: "RequestPreVote", term: state.term + 1, last: Log.lastId(state.log) })
  }
  return withElectionDeadline({ ...state, role: { _tag: "PreCandidate", votes } }, turn.nowMs)
}

/** Asks for votes, its own among them, once its own is durable. */
export const becomeCandidate = (state: NodeState, isTransfer: boolean, turn: Turn.Turn): NodeState => {
  const term = state.term + 1
  for (const peer of peersOf(state)) {
    Turn.promise(turn, peer, { _tag: "RequestVote", term, last: Log.lastId(state.log), isTransfer })
  }
  Turn.promise(turn, state.id, { _tag: "RequestVoteResponse", term, voteGranted: true })
  return withElectionDeadline(
    { ...state, term, votedFor: state.id, role: { _tag: "Candidate", votes: new Map(), isTransfer } },
    turn.nowMs
  )
}

/**
 * Paper §5.2 and §5.4.1. Neither this server's role nor its membership is consulted (rule V4). Where the term's leader is known nobody else
 * can win the term, and a grant would only put off the next election. The promise to an earlier leader holds in a term that was learned from
 * somebody else, too: that leader's lease may rely on it (rule R3).
 */
export const onRequestVote = (state: NodeState, from: NodeId, message: RequestVote, turn: Turn.Turn): NodeState => {
  const repeated = state.votedFor === from
  // Where the leader itself hands over, loyalty to it is no reason to deny (rule M7).
  const isLoyal = !message.isTransfer && believesInLeader(state, turn.nowMs)
  const free = state.votedFor === undefined && leaderIdOf(state) === undefined && !isLoyal
  const voteGranted = repeated || (free && isUpToDate(message.last, Log.lastId(state.log)))
  const response: RequestVoteResponse = { _tag: "RequestVoteResponse", term: state.term, voteGranted }
  if (!voteGranted) {
    Turn.send(turn, from, response)
    return state
  }
  Turn.promise(turn, from, response)
  if (repeated) return state
  return withElectionDeadline({ ...becomeFollower(state, undefined, turn), votedFor: from }, turn.nowMs)
}

/** A grant stays: a denial after it answers an older request, with the term that the voter has now. */
const withVote = (votes: Votes, from: NodeId, voteGranted: boolean): Votes =>
  new Map(votes).set(from, voteGranted || votes.get(from) === true)

export const onRequestVoteResponse = (
  state: NodeState,
  from: NodeId,
  message: RequestVoteResponse,
  turn: Turn.Turn
): NodeState => {
  if (state.role._tag !== "Candidate") return state
  const votes = withVote(state.role.votes, from, message.voteGranted)
  switch (Quorum.tally(state.configuration.latest, votes)) {
    case "won":
      return becomeLeader(state, turn)
    case "lost":
      return becomeFollower(state, undefined, turn)
    case "pending":
      return { ...state, role: { ...state.role, votes } }
  }
}

/** Changes nothing here (rule V5). A grant echoes the proposed term; a denial teaches ours (rule V6). */
export const onRequestPreVote = (
  state: NodeState,
  from: NodeId,
  message: RequestPreVote,
  turn: Turn.Turn
): NodeState => {
  const voteGranted = message.term > state.term
    && !believesInLeader(state, turn.nowMs)
    && isUpToDate(message.last, Log.lastId(state.log))
  const term = voteGranted ? message.term : state.term
  Turn.send(turn, from, { _tag: "RequestPreVoteResponse", term, voteGranted })
  return state
}

export const onRequestPreVoteResponse = (
  state: NodeState,
  from: NodeId,
  message: RequestPreVoteResponse,
  turn: Turn.Turn
): NodeState => {
  if (state.role._tag !== "PreCandidate") return state
  if (message.voteGranted && message.term !== state.term + 1) return state
  const votes = withVote(state.role.votes, from, message.voteGranted)
  switch (Quorum.tally(state.configuration.latest, votes)) {
    case "won":
      return becomeCandidate(state, false, turn)
    case "lost":
      return becomeFollower(state, undefined, turn)
    case "pending":
      return { ...state, role: { _tag: "PreCandidate", votes } }
  }
}
