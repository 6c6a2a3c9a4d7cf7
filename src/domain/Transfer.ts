/**
 * Leadership transfer (thesis §3.10; rule M7): the leader takes no more proposals, waits until its successor has everything, and tells it to
 * stand at once. The successor needs no pre-vote, and voters owe the old leader no loyalty. After an election timeout the leader goes on.
 */
import type { Refusal } from "./Command.ts"
import { becomeCandidate } from "./Election.ts"
import type { LogIndex } from "./Entry.ts"
import type { RequestId } from "./Event.ts"
import type { NodeId } from "./NodeId.ts"
import { isLeader, isSelfVoter, leaderIdOf, type LeaderState, needsSnapshot, type NodeState } from "./NodeState.ts"
import type { Transfer } from "./Role.ts"
import * as Turn from "./Turn.ts"

/** Whether this server could lead as far as the leader knows: it votes, has its state, gets entries, and was heard lately. */
const isFit = (state: LeaderState, id: NodeId, nowMs: number): boolean => {
  const progress = state.role.progress.get(id)
  return id !== state.id && state.configuration.latest.voters.includes(id)
    && progress !== undefined && progress._tag !== "Snapshot" && !progress.needsState
    && nowMs - progress.lastContactMs < state.settings.electionTimeoutMsMax
}

const matchOf = (state: LeaderState, id: NodeId): LogIndex => state.role.progress.get(id)?.matchIndex ?? 0

/** Of those that are fit the one that has most of the log. */
const best = (state: LeaderState, nowMs: number): NodeId | undefined =>
  state.configuration.latest.voters
    .filter((id) => isFit(state, id, nowMs))
    .toSorted((a, b) => matchOf(state, b) - matchOf(state, a))[0]

const refusalOf = (state: NodeState, to: NodeId | undefined, nowMs: number): Refusal | undefined => {
  if (!isLeader(state)) return { _tag: "NotLeader", leaderId: leaderIdOf(state) }
  const { transfer } = state.role
  if (transfer !== undefined) {
    return { _tag: "Impossible", reason: "Pending", message: `leadership is being handed to ${transfer.to} already` }
  }
  if (to === undefined) {
    const message = "no other voter was heard from lately that has its state: nobody could take over"
    return { _tag: "Impossible", reason: "QuorumLost", message }
  }
  if (!state.configuration.latest.voters.includes(to)) {
    return { _tag: "Impossible", reason: "Invalid", message: `${to} is no voter: only a voter can lead` }
  }
  const message = `${to} was not heard from lately, or waits for a snapshot: it cannot take over now`
  return isFit(state, to, nowMs) ? undefined : { _tag: "Impossible", reason: "NotCaughtUp", message }
}

export const onTransferLeadership = (
  state: NodeState,
  requestId: RequestId,
  asked: NodeId | undefined,
  turn: Turn.Turn
): NodeState => {
  if (isLeader(state) && asked === state.id) {
    turn.commands.push({ _tag: "Complete", requestId })
    return state
  }
  const to = asked ?? (isLeader(state) ? best(state, turn.nowMs) : undefined)
  const refusal = refusalOf(state, to, turn.nowMs)
  if (refusal !== undefined || to === undefined || !isLeader(state)) {
    if (refusal !== undefined) turn.commands.push({ _tag: "Refuse", requestIds: [requestId], refusal })
    return state
  }
  const deadlineMs = turn.nowMs + state.settings.electionTimeoutMsMax
  return onProgress({ ...state, role: { ...state.role, transfer: { to, requestId, deadlineMs, isSent: false } } }, turn)
}

/** From then on no lease counts: whoever was told to stand may do so at any later time, and needs nobody's loyalty to end. */
const tell = (state: LeaderState, to: NodeId, transfer: Transfer | undefined, turn: Turn.Turn): LeaderState => {
  Turn.send(turn, to, { _tag: "TimeoutNow", term: state.term })
  const role = { ...state.role, transfer, hasHandedOver: true, readLeaseUntilMs: -Infinity, sentRounds: [] }
  return { ...state, role }
}

/** The successor may have everything now. */
export const onProgress = (state: LeaderState, turn: Turn.Turn): LeaderState => {
  const { transfer } = state.role
  if (transfer === undefined || transfer.isSent || matchOf(state, transfer.to) < state.log.lastIndex) return state
  return tell(state, transfer.to, { ...transfer, isSent: true }, turn)
}

/** After an election timeout the leader goes on as before. Whether its successor still stands up is not known once it was told to. */
export const onHeartbeatDue = (state: LeaderState, turn: Turn.Turn): LeaderState => {
  const { transfer } = state.role
  if (transfer === undefined || turn.nowMs < transfer.deadlineMs) return state
  const message = `${transfer.to} has not taken over within an election timeout: ${state.id} goes on leading`
  const refusal: Refusal = transfer.isSent
    ? { _tag: "OutcomeUnknown" }
    : { _tag: "Impossible", reason: "NotCaughtUp", message }
  turn.commands.push({ _tag: "Refuse", requestIds: [transfer.requestId], refusal })
  return { ...state, role: { ...state.role, transfer: undefined } }
}

/** A leader that is about to step down for good has whoever is best suited stand at once, if anybody is. Two would take votes from each other. */
export const tellBest = (state: LeaderState, turn: Turn.Turn): LeaderState => {
  if (state.role.transfer?.isSent === true) return state
  const to = best(state, turn.nowMs)
  return to === undefined ? state : tell(state, to, state.role.transfer, turn)
}

/** The successor's side, for a message of the present term: no pre-vote, since voters still believe in the leader that asks for this. */
export const onTimeoutNow = (state: NodeState, turn: Turn.Turn): NodeState => {
  const canStand = !isLeader(state) && isSelfVoter(state) && !needsSnapshot(state)
  return canStand ? becomeCandidate(state, true, turn) : state
}
