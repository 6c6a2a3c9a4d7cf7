/**
 * Linearizable reads without the log (paper §8, thesis §6.4): note the commit index, confirm by a round of heartbeats that no newer leader
 * exists, wait until that index is applied, answer.
 *
 * Rounds are numbered by the leader. Every AppendEntries carries the latest number and every answer echoes it. A read is registered with a
 * round that is sent *after* it came, so an old acknowledgement cannot confirm it (rule R2); one round serves all reads that wait for it.
 *
 * With leases (thesis §6.4.1, rule R3) every heartbeat is a round. A majority that acknowledged one helps nobody else to be elected for an
 * election timeout *from then on*, hence not for that long since the round was sent, less what the clocks may differ.
 */
import type { LogIndex } from "./Entry.ts"
import type { RequestId } from "./Event.ts"
import type { NodeId } from "./NodeId.ts"
import { isLeader, leaderIdOf, type LeaderState, type NodeState } from "./NodeState.ts"
import * as Pipeline from "./Pipeline.ts"
import * as Quorum from "./Quorum.ts"
import type { Ask, PendingRead } from "./Role.ts"
import * as Turn from "./Turn.ts"

export const onRead = (state: NodeState, requestIds: ReadonlyArray<RequestId>, turn: Turn.Turn): NodeState => {
  if (requestIds.length === 0) return state
  if (!isLeader(state)) {
    turn.commands.push({ _tag: "Refuse", requestIds, refusal: { _tag: "NotLeader", leaderId: leaderIdOf(state) } })
    return state
  }
  const waitingReads = state.role.waitingReads.length === 0 ? requestIds : [...state.role.waitingReads, ...requestIds]
  return startRoundIfIdle({ ...state, role: { ...state.role, waitingReads } }, turn)
}

/** Reads that may rely on the lease: answered at once while it lasts. */
export const onLeaseRead = (state: NodeState, requestIds: ReadonlyArray<RequestId>, turn: Turn.Turn): NodeState => {
  if (!isLeader(state) || turn.nowMs >= state.role.readLeaseUntilMs) return onRead(state, requestIds, turn)
  turn.commands.push({ _tag: "ServeRead", requestIds, index: readIndexOf(state) })
  return state
}

/** Another server asks on behalf of its own readers. */
export const onAsk = (state: LeaderState, ask: Ask, turn: Turn.Turn): LeaderState => {
  const waitingAsks = [...state.role.waitingAsks, ask]
  return startRoundIfIdle({ ...state, role: { ...state.role, waitingAsks } }, turn)
}

/** Until the no-op is committed, what earlier leaders committed is not known; it all lies before the no-op (rule R1). */
const readIndexOf = (state: LeaderState): LogIndex => Math.max(state.commitIndex, state.role.termStartIndex)

const startRoundIfIdle = (state: LeaderState, turn: Turn.Turn): LeaderState =>
  state.role.pendingReads.length > 0 ? state : startRound(state, turn)

const isAnybodyWaiting = ({ role }: LeaderState): boolean => role.waitingReads.length > 0 || role.waitingAsks.length > 0

/** Registers every waiting read with a new round and sends it; a leader that is its own majority has confirmed it already. */
const startRound = (state: LeaderState, turn: Turn.Turn): LeaderState => {
  if (!isAnybodyWaiting(state)) return state
  const next = registerRound(state, turn)
  Pipeline.sendHeartbeats(next, turn)
  return confirmReads(next, turn)
}

/** The waiting reads as part of a new round, which the caller sends. */
export const registerRound = (state: LeaderState, turn: Turn.Turn): LeaderState => {
  const { electionTimeoutMsMin, leaseReads } = state.settings
  if (!isAnybodyWaiting(state) && !leaseReads) return state
  const { pendingReads, waitingAsks, waitingReads } = state.role
  const round = state.role.round + 1
  const sentRounds = leaseReads
    // An older round would give a lease that is over.
    ? [...state.role.sentRounds.filter(({ sentMs }) => turn.nowMs - sentMs < electionTimeoutMsMin), {
      round,
      sentMs: turn.nowMs
    }]
    : state.role.sentRounds
  const pending = { requestIds: waitingReads, asks: waitingAsks, round, readIndex: readIndexOf(state) }
  return {
    ...state,
    role: {
      ...state.role,
      round,
      sentRounds,
      waitingReads: [],
      waitingAsks: [],
      pendingReads: isAnybodyWaiting(state) ? [...pendingReads, pending] : pendingReads
    }
  }
}

/** Serves the reads whose round a majority has acknowledged, then starts a round for those that came meanwhile. */
export const confirmReads = (state: LeaderState, turn: Turn.Turn): LeaderState => {
  const { pendingReads, progress, round, sentRounds } = state.role
  const first = pendingReads[0]
  if (first === undefined && sentRounds.length === 0) return state
  const confirmed = Quorum.reachedByQuorum(
    state.configuration.latest,
    (id) => id === state.id ? round : progress.get(id)?.ackedRound ?? 0
  )
  const leased = extendLease(state, confirmed)
  if (first === undefined || confirmed < first.round) return leased
  for (const read of pendingReads) {
    if (read.round > confirmed) break
    serve(state, read, turn)
  }
  const left = pendingReads.filter((read) => read.round > confirmed)
  const next: LeaderState = { ...leased, role: { ...leased.role, pendingReads: left } }
  return left.length === 0 ? startRound(next, turn) : next
}

const serve = (state: LeaderState, { asks, readIndex, requestIds }: PendingRead, turn: Turn.Turn): void => {
  if (requestIds.length > 0) turn.commands.push({ _tag: "ServeRead", requestIds, index: readIndex })
  for (const { ask, from } of asks) {
    Turn.send(turn, from, { _tag: "RequestReadIndexResponse", term: state.term, ask, readIndex })
  }
}

/** The lease that the latest acknowledged round gives, counted from when that round was *sent* (rule R3). */
const extendLease = (state: LeaderState, confirmed: number): LeaderState => {
  const { clockDriftPercentMax, electionTimeoutMsMin } = state.settings
  const acknowledged = state.role.sentRounds.findLast(({ round }) => round <= confirmed)
  // Whoever was told to stand needs nobody's loyalty to end (rule M7).
  if (acknowledged === undefined || state.role.hasHandedOver) return state
  const untilMs = acknowledged.sentMs + electionTimeoutMsMin * (1 - clockDriftPercentMax / 100)
  return {
    ...state,
    role: {
      ...state.role,
      sentRounds: state.role.sentRounds.filter(({ round }) => round > confirmed),
      readLeaseUntilMs: Math.max(state.role.readLeaseUntilMs, untilMs)
    }
  }
}

/** A leadership ends: what it could not confirm it refuses, rather than answer stale. */
export const refuseAll = (state: LeaderState, leaderId: NodeId | undefined, turn: Turn.Turn): void => {
  const { pendingReads, waitingAsks, waitingReads } = state.role
  const requestIds = [...pendingReads.flatMap((read) => read.requestIds), ...waitingReads]
  if (requestIds.length > 0) {
    turn.commands.push({ _tag: "Refuse", requestIds, refusal: { _tag: "NotLeader", leaderId } })
  }
  for (const { ask, from } of [...pendingReads.flatMap((read) => read.asks), ...waitingAsks]) {
    Turn.send(turn, from, { _tag: "RequestReadIndexResponse", term: state.term, ask, readIndex: undefined })
  }
}
