/**
 * Commands of clients on their way into the log (paper §5.3, §8): in batches, within a bound, and not while leadership is handed over.
 */
import { isJoint } from "./Configuration.ts"
import { command, type Entry, entryOverheadBytes, type Payload, sessionOverheadBytes } from "./Entry.ts"
import type { Proposal, RequestId } from "./Event.ts"
import { isLeader, leaderIdOf, type LeaderState, type NodeState } from "./NodeState.ts"
import * as Pipeline from "./Pipeline.ts"
import type * as Turn from "./Turn.ts"

/** What a leader stamps entries with (rule R5): whole milliseconds that never fall within its leadership. */
const logTimeMs = ({ logTime }: LeaderState, nowMs: number): number =>
  Math.floor(logTime.ms + Math.max(0, nowMs - logTime.atMs))

const payloadOf = (state: LeaderState, { bytes, sequenced }: Proposal, nowMs: number): Payload =>
  sequenced === undefined
    ? command(bytes)
    : { _tag: "SessionCommand", timeMs: logTimeMs(state, nowMs), sequenced, bytes }

/**
 * Whether this leadership is about to end: it is being handed over (rule M7), or ends with the commit of a configuration without this leader, after
 * which it would not hear any more what became of anything later (rule M6).
 */
const isEnding = ({ configuration: { latest }, id, role }: LeaderState): boolean =>
  role.transfer !== undefined || !(isJoint(latest) || latest.voters.includes(id))

/** Nobody is named who could take it: who is to lead does not yet. */
const refuseAtTheEnd = (state: NodeState, requestIds: ReadonlyArray<RequestId>, turn: Turn.Turn): NodeState => {
  turn.commands.push({ _tag: "Refuse", requestIds, refusal: { _tag: "NotLeader", leaderId: undefined } })
  return state
}

/**
 * "If command received from client: append entry to local log" (Figure 2), as one batch. Past the bound on uncommitted bytes the rest is
 * refused (rule L10); an idle leader takes one proposal of any size.
 */
export const onPropose = (state: NodeState, proposals: ReadonlyArray<Proposal>, turn: Turn.Turn): NodeState => {
  if (proposals.length === 0) return state
  if (!isLeader(state)) {
    const requestIds = proposals.map((proposal) => proposal.requestId)
    turn.commands.push({ _tag: "Refuse", requestIds, refusal: { _tag: "NotLeader", leaderId: leaderIdOf(state) } })
    return state
  }
  if (isEnding(state)) return refuseAtTheEnd(state, proposals.map((one) => one.requestId), turn)
  const entries: Array<Entry> = []
  let bytes = state.role.uncommittedBytes
  for (const proposal of proposals) {
    const size = entryOverheadBytes + proposal.bytes.length
      + (proposal.sequenced === undefined ? 0 : sessionOverheadBytes)
    if (bytes > 0 && bytes + size > state.settings.uncommittedBytesMax) break
    bytes += size
    entries.push({
      term: state.term,
      index: state.log.lastIndex + 1 + entries.length,
      payload: payloadOf(state, proposal, turn.nowMs)
    })
  }
  const requestIds = proposals.map((proposal) => proposal.requestId)
  if (entries.length > 0) {
    turn.commands.push({
      _tag: "Accept",
      requestIds: requestIds.slice(0, entries.length),
      first: { term: state.term, index: state.log.lastIndex + 1 }
    })
  }
  if (entries.length < proposals.length) {
    turn.commands.push({
      _tag: "Refuse",
      requestIds: requestIds.slice(entries.length),
      refusal: { _tag: "Overloaded" }
    })
  }
  return Pipeline.appendAndReplicate(state, entries, turn)
}

/** A session's name is the index of the entry that opens it. It is small, and bounded in number by what waits. */
export const onOpenSession = (state: NodeState, requestId: RequestId, turn: Turn.Turn): NodeState => {
  if (!isLeader(state)) {
    const refusal = { _tag: "NotLeader", leaderId: leaderIdOf(state) } as const
    turn.commands.push({ _tag: "Refuse", requestIds: [requestId], refusal })
    return state
  }
  if (isEnding(state)) return refuseAtTheEnd(state, [requestId], turn)
  if (state.role.uncommittedBytes > state.settings.uncommittedBytesMax) {
    turn.commands.push({ _tag: "Refuse", requestIds: [requestId], refusal: { _tag: "Overloaded" } })
    return state
  }
  const { sessionsMax, sessionTimeoutMs: timeoutMs } = state.settings
  const entry: Entry = {
    term: state.term,
    index: state.log.lastIndex + 1,
    payload: { _tag: "OpenSession", timeMs: logTimeMs(state, turn.nowMs), sessionsMax, timeoutMs }
  }
  turn.commands.push({ _tag: "Accept", requestIds: [requestId], first: { term: entry.term, index: entry.index } })
  return Pipeline.appendAndReplicate(state, [entry], turn)
}
