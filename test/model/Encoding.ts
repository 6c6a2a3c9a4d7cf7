/**
 * A key for everything that makes two servers, or two messages, behave differently: equal keys, equal behaviour. Each number becomes
 * one character, and each list starts with its length, so that nothing runs together.
 */
import type { HardState } from "../../src/domain/Command.ts"
import type { Entry } from "../../src/domain/Entry.ts"
import type { Message } from "../../src/domain/Message.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import type { NodeState } from "../../src/domain/NodeState.ts"
import type { Progress } from "../../src/domain/Progress.ts"
import type { Leader, Role, Votes } from "../../src/domain/Role.ts"
import { isPayloadOf, nowMs, type Packet, type Released, type Server } from "./Server.ts"
import { numberOf } from "./Symmetry.ts"

type Out = Array<number>

const node = (id: NodeId | undefined): number => id === undefined ? 0 : numberOf(id) + 1

const entries = (out: Out, list: ReadonlyArray<Entry>): void => {
  out.push(list.length)
  for (const entry of list) {
    out.push(entry.term, entry.index, entry.payload._tag === "Noop" ? 0 : isPayloadOf(entry) ? 1 : 2)
  }
}

const hardState = (out: Out, kept: HardState | undefined): void => {
  out.push(kept === undefined ? 0 : 1, kept?.term ?? 0, node(kept?.votedFor))
}

const votes = (out: Out, cast: Votes): void => {
  out.push(cast.size)
  for (const [id, granted] of [...cast].toSorted(([a], [b]) => numberOf(a) - numberOf(b))) {
    out.push(node(id), granted ? 1 : 0)
  }
}

const progress = (out: Out, known: Progress): void => {
  out.push(known.nextIndex, known.matchIndex, known.ackedRound)
  if (known._tag === "Probe") {
    out.push(0, known.awaitingResponse ? 1 : 0)
    return
  }
  out.push(1, known.inflight.length, known.inflightBytes)
  for (const sent of known.inflight) out.push(sent.lastIndex, sent.bytes)
}

const leader = (out: Out, role: Leader): void => {
  out.push(role.termStartIndex, role.round, role.uncommittedBytes, role.progress.size)
  for (const [id, known] of [...role.progress].toSorted(([a], [b]) => numberOf(a) - numberOf(b))) {
    out.push(node(id))
    progress(out, known)
  }
  out.push(role.pendingReads.length)
  for (const read of role.pendingReads) out.push(read.round, read.readIndex, read.requestIds.length, ...read.requestIds)
  out.push(role.waitingReads.length, ...role.waitingReads)
}

const encodeRole = (out: Out, role: Role): void => {
  switch (role._tag) {
    case "Follower":
      out.push(0, node(role.leaderId))
      return
    case "PreCandidate":
      out.push(1)
      return votes(out, role.votes)
    case "Candidate":
      out.push(2)
      return votes(out, role.votes)
    case "Leader":
      out.push(3)
      return leader(out, role)
    default:
      return role satisfies never
  }
}

/** Every number of the log is below its chunk size, so that there is one chunk. */
const encodeState = (out: Out, state: NodeState): void => {
  out.push(
    1,
    state.term,
    node(state.votedFor),
    state.commitIndex,
    state.lastApplied,
    state.leaseUntilMs > nowMs ? 1 : 0
  )
  const { lastIndex, prev } = state.log
  out.push(prev.index)
  entries(out, (state.log.chunks[0] ?? []).slice(0, lastIndex - prev.index))
  encodeRole(out, state.role)
}

const encodeMessage = (out: Out, message: Message): void => {
  out.push(message.term)
  switch (message._tag) {
    case "RequestVote":
    case "RequestPreVote":
      out.push(message._tag === "RequestVote" ? 0 : 1, message.last.term, message.last.index)
      return
    case "RequestVoteResponse":
    case "RequestPreVoteResponse":
      out.push(message._tag === "RequestVoteResponse" ? 2 : 3, message.voteGranted ? 1 : 0)
      return
    case "AppendEntries":
      out.push(4, message.prev.term, message.prev.index, message.leaderCommit, message.round)
      return entries(out, message.entries)
    case "AppendEntriesResponse": {
      const { result } = message
      out.push(5, message.round)
      if (result._tag === "Stale") out.push(0)
      else if (result._tag === "Matched") out.push(1, result.matchIndex)
      else out.push(2, result.prevIndex, (result.conflict.term ?? -1) + 1, result.conflict.index)
      return
    }
    default:
      return message satisfies never
  }
}

const encodeReleased = (out: Out, released: Released): void => {
  if (released._tag === "Apply") {
    out.push(0, released.from, released.to)
    return
  }
  out.push(1, node(released.to))
  encodeMessage(out, released.message)
}

const keyOf = (out: Out): string => String.fromCharCode(...out)

export const keyOfPacket = ({ from, message, to }: Packet): string => {
  const out: Out = [node(from), node(to)]
  encodeMessage(out, message)
  return keyOf(out)
}

export const keyOfServer = (server: Server): string => {
  const out: Out = [node(server.id)]
  hardState(out, server.disk.hardState)
  entries(out, server.disk.entries)
  if (server.state === undefined) out.push(0)
  else encodeState(out, server.state)
  out.push(server.jobs.length)
  for (const job of server.jobs) {
    hardState(out, job.write.hardState)
    entries(out, job.write.entries)
    out.push(job.then.length)
    for (const released of job.then) encodeReleased(out, released)
  }
  return keyOf(out)
}
