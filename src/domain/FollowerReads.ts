/**
 * Linearizable reads from a server that does not lead (thesis §6.4): it asks the leader for a read index, waits until it has applied that
 * itself, and answers from its own state. One question serves all reads that waited for it.
 */
import type { RequestId } from "./Event.ts"
import type { RequestReadIndex, RequestReadIndexResponse } from "./Message.ts"
import type { NodeId } from "./NodeId.ts"
import { type AskedReads, isLeader, leaderIdOf, type NodeState } from "./NodeState.ts"
import * as ReadIndex from "./ReadIndex.ts"
import * as Turn from "./Turn.ts"

/** Has the leader confirm the reads; where none is known they are refused. */
export const onRead = (state: NodeState, requestIds: ReadonlyArray<RequestId>, turn: Turn.Turn): NodeState => {
  const leaderId = leaderIdOf(state)
  if (isLeader(state)) return ReadIndex.onRead(state, requestIds, turn)
  if (leaderId === undefined) {
    turn.commands.push({ _tag: "Refuse", requestIds, refusal: { _tag: "NotLeader", leaderId } })
    return state
  }
  const { askedReads } = state
  const waiting = [...askedReads.waiting, ...requestIds]
  const waited: NodeState = { ...state, askedReads: { ...askedReads, waiting } }
  return askedReads.asked.length > 0 ? waited : ask(waited, leaderId, turn)
}

/** Asks for every read that waits. A question confirms the reads of earlier ones too: they came before it was sent. */
const ask = (state: NodeState, leaderId: NodeId, turn: Turn.Turn): NodeState => {
  const { askedReads } = state
  const next = askedReads.ask + 1
  Turn.send(turn, leaderId, { _tag: "RequestReadIndex", term: state.term, ask: next })
  const asked = askedReads.waiting.length === 0
    ? askedReads.asked
    : [...askedReads.asked, { ask: next, requestIds: askedReads.waiting }]
  const unansweredSinceMs = askedReads.asked.length === 0 ? turn.nowMs : askedReads.unansweredSinceMs
  return { ...state, askedReads: { ask: next, sentMs: turn.nowMs, unansweredSinceMs, asked, waiting: [] } }
}

/**
 * A leader is heard: a question without an answer for two heartbeats may be lost. One that is heard and never answers is not reached: then
 * its readers had better ask it themselves.
 */
export const askAgain = (state: NodeState, leaderId: NodeId, turn: Turn.Turn): NodeState => {
  const { askedReads, settings } = state
  const isInVain = askedReads.asked.length > 0
    && turn.nowMs - askedReads.unansweredSinceMs >= 2 * settings.electionTimeoutMsMax
  if (isInVain) return refuseAll(state, turn)
  const isOverdue = askedReads.asked.length > 0
    && turn.nowMs - askedReads.sentMs >= 2 * settings.heartbeatIntervalMs
  return isOverdue ? ask(state, leaderId, turn) : state
}

/** The leader's side: the question waits for a round like a read of its own. */
export const onRequestReadIndex = (
  state: NodeState,
  from: NodeId,
  message: RequestReadIndex,
  turn: Turn.Turn
): NodeState => {
  if (isLeader(state)) return ReadIndex.onAsk(state, { from, ask: message.ask }, turn)
  Turn.send(turn, from, {
    _tag: "RequestReadIndexResponse",
    term: state.term,
    ask: message.ask,
    readIndex: undefined
  })
  return state
}

/**
 * The asker's side, for an answer of the present term. Only the leader that was asked answers with an index; and an answer to a question that
 * was not put yet is one to an earlier life of this server.
 */
export const onRequestReadIndexResponse = (
  state: NodeState,
  from: NodeId,
  message: RequestReadIndexResponse,
  turn: Turn.Turn
): NodeState => {
  const { askedReads } = state
  if (from !== leaderIdOf(state) || message.ask > askedReads.ask) return state
  const answered = askedReads.asked.filter(({ ask: asked }) => asked <= message.ask)
  const requestIds = answered.flatMap((asked) => asked.requestIds)
  if (requestIds.length === 0) return state
  if (message.readIndex === undefined) {
    turn.commands.push({ _tag: "Refuse", requestIds, refusal: { _tag: "NotLeader", leaderId: undefined } })
  } else {
    turn.commands.push({ _tag: "ServeRead", requestIds, index: message.readIndex })
  }
  const asked = askedReads.asked.slice(answered.length)
  const next: NodeState = { ...state, askedReads: { ...askedReads, asked, unansweredSinceMs: turn.nowMs } }
  return asked.length === 0 && askedReads.waiting.length > 0 ? ask(next, from, turn) : next
}

const noReads: Pick<AskedReads, "asked" | "waiting"> = { asked: [], waiting: [] }

/** After a step: reads that were put to another leader, or in an earlier term, cannot be confirmed any more. */
export const refuseOutdated = (before: NodeState, after: NodeState, turn: Turn.Turn): NodeState => {
  const { askedReads } = after
  if (askedReads.asked.length === 0 && askedReads.waiting.length === 0) return after
  return before.term === after.term && leaderIdOf(before) === leaderIdOf(after) ? after : refuseAll(after, turn)
}

const refuseAll = (state: NodeState, turn: Turn.Turn): NodeState => {
  const { askedReads } = state
  const requestIds = [...askedReads.asked.flatMap((asked) => asked.requestIds), ...askedReads.waiting]
  turn.commands.push({ _tag: "Refuse", requestIds, refusal: { _tag: "NotLeader", leaderId: leaderIdOf(state) } })
  return { ...state, askedReads: { ...askedReads, ...noReads } }
}
