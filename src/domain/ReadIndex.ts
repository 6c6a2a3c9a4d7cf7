/**
 * Linearizable reads without the log (paper §8, thesis §6.4): note the commit index, confirm by a round of heartbeats that no newer leader
 * exists, wait until that index is applied, answer.
 *
 * Rounds are numbered by the leader. Every AppendEntries carries the latest number and every answer echoes it. A read is registered with a
 * round that is sent *after* it came, so an old acknowledgement cannot confirm it (rule R2); one round serves all reads that wait for it.
 */
import type { RequestId } from "./Event.ts"
import type { NodeId } from "./NodeId.ts"
import { isLeader, leaderIdOf, type LeaderState, type NodeState } from "./NodeState.ts"
import * as Pipeline from "./Pipeline.ts"
import * as Quorum from "./Quorum.ts"
import type * as Turn from "./Turn.ts"

export const onRead = (state: NodeState, requestIds: ReadonlyArray<RequestId>, turn: Turn.Turn): NodeState => {
  if (requestIds.length === 0) return state
  if (!isLeader(state)) {
    turn.commands.push({ _tag: "Refuse", requestIds, refusal: { _tag: "NotLeader", leaderId: leaderIdOf(state) } })
    return state
  }
  const waitingReads = state.role.waitingReads.length === 0 ? requestIds : [...state.role.waitingReads, ...requestIds]
  const waiting: LeaderState = { ...state, role: { ...state.role, waitingReads } }
  return state.role.pendingReads.length > 0 ? waiting : startRound(waiting, turn)
}

/** Registers every waiting read with a new round and sends it; a leader that is its own majority has confirmed it already. */
const startRound = (state: LeaderState, turn: Turn.Turn): LeaderState => {
  const next = registerRound(state)
  if (next === state) return state
  Pipeline.sendHeartbeats(next, turn)
  return confirmReads(next, turn)
}

/** The waiting reads as part of a new round, which the caller sends. */
export const registerRound = (state: LeaderState): LeaderState => {
  const { pendingReads, round, termStartIndex, waitingReads } = state.role
  if (waitingReads.length === 0) return state
  // Until the no-op is committed, what earlier leaders committed is not known; it all lies before the no-op (rule R1).
  const readIndex = Math.max(state.commitIndex, termStartIndex)
  return {
    ...state,
    role: {
      ...state.role,
      round: round + 1,
      waitingReads: [],
      pendingReads: [...pendingReads, { requestIds: waitingReads, round: round + 1, readIndex }]
    }
  }
}

/** Serves the reads whose round a majority has acknowledged, then starts a round for those that came meanwhile. */
export const confirmReads = (state: LeaderState, turn: Turn.Turn): LeaderState => {
  const { pendingReads, progress, round } = state.role
  const first = pendingReads[0]
  if (first === undefined) return state
  const confirmed = Quorum.reachedByQuorum(
    state.configuration,
    (id) => id === state.id ? round : progress.get(id)?.ackedRound ?? 0
  )
  if (confirmed < first.round) return state
  for (const read of pendingReads) {
    if (read.round > confirmed) break
    turn.commands.push({ _tag: "ServeRead", requestIds: read.requestIds, index: read.readIndex })
  }
  const left = pendingReads.filter((read) => read.round > confirmed)
  const next: LeaderState = { ...state, role: { ...state.role, pendingReads: left } }
  return left.length === 0 ? startRound(next, turn) : next
}

/** A leadership ends: what it could not confirm it refuses, rather than answer stale. */
export const refuseAll = (state: LeaderState, leaderId: NodeId | undefined, turn: Turn.Turn): void => {
  const requestIds = [...state.role.pendingReads.flatMap((read) => read.requestIds), ...state.role.waitingReads]
  if (requestIds.length > 0) {
    turn.commands.push({ _tag: "Refuse", requestIds, refusal: { _tag: "NotLeader", leaderId } })
  }
}
