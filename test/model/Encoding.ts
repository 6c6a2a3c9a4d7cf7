/**
 * A key for everything that makes two servers, or two messages, behave differently: equal keys, equal behaviour. Each number becomes
 * one character, and each list starts with its length, so that nothing runs together.
 */
import type { HardState, Write } from "../../src/domain/Command.ts"
import type { Entry, EntryId } from "../../src/domain/Entry.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import type { NodeState } from "../../src/domain/NodeState.ts"
import type { Progress } from "../../src/domain/Progress.ts"
import type { Ask, Leader, Role, Votes } from "../../src/domain/Role.ts"
import type { Snapshot } from "../../src/domain/Snapshot.ts"
import { codeOf } from "./Configurations.ts"
import type { LogCode } from "./LogCode.ts"
import { numberOf } from "./numbering.ts"
import { isPayloadOf, nowMs, type Packet, type Released, type Server } from "./Server.ts"

type Out = Array<number>

const node = (id: NodeId | undefined): number => id === undefined ? 0 : numberOf(id) + 1

const entries = (out: Out, list: ReadonlyArray<Entry>): void => {
  out.push(list.length)
  for (const entry of list) {
    const { index, payload, term } = entry
    out.push(term, index)
    if (payload._tag === "Configuration") out.push(3, codeOf(payload.configuration))
    else out.push(payload._tag === "Noop" ? 0 : isPayloadOf(entry) ? 1 : 2)
  }
}

const hardState = (out: Out, kept: HardState | undefined): void => {
  out.push(kept === undefined ? 0 : 1, kept?.term ?? 0, node(kept?.votedFor))
}

const entryId = (out: Out, { index, term }: EntryId): void => void out.push(term, index)

/** More than one character holds. */
const code = (out: Out, log: LogCode): void => void out.push(log & 0xffff, log >>> 16)

const snapshot = (out: Out, { configuration, last, sizeBytes }: Snapshot): void => {
  entryId(out, last)
  code(out, sizeBytes)
  out.push(codeOf(configuration))
}

const asks = (out: Out, list: ReadonlyArray<Ask>): void => {
  out.push(list.length)
  for (const { ask, from } of list) out.push(node(from), ask)
}

const votes = (out: Out, cast: Votes): void => {
  out.push(cast.size)
  for (const [id, granted] of [...cast].toSorted(([a], [b]) => numberOf(a) - numberOf(b))) {
    out.push(node(id), granted ? 1 : 0)
  }
}

const progress = (out: Out, known: Progress): void => {
  out.push(known.nextIndex, known.matchIndex, known.ackedRound, known.needsState ? 1 : 0)
  if (known._tag === "Probe") {
    out.push(0, known.awaitingResponse ? 1 : 0)
    return
  }
  if (known._tag === "Snapshot") {
    out.push(2, known.snapshotIndex)
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
  for (const read of role.pendingReads) {
    out.push(read.round, read.readIndex, read.requestIds.length, ...read.requestIds)
    asks(out, read.asks)
  }
  out.push(role.waitingReads.length, ...role.waitingReads)
  asks(out, role.waitingAsks)
  changes(out, role)
}

/** When a learner was last reported changes nothing else. */
const changes = (out: Out, { catchUps, hasHandedOver, reconfiguring, transfer }: Leader): void => {
  out.push(reconfiguring.length, catchUps.size)
  for (const [id, { hasKeptUp, target, wasClose }] of [...catchUps].toSorted(([a], [b]) => numberOf(a) - numberOf(b))) {
    out.push(node(id), target, (wasClose ? 1 : 0) + (hasKeptUp ? 2 : 0))
  }
  out.push(node(transfer?.to), transfer?.isSent === true ? 1 : 0, hasHandedOver ? 1 : 0)
}

const askedReads = (out: Out, { ask, asked, waiting }: NodeState["askedReads"]): void => {
  out.push(ask, asked.length)
  for (const question of asked) out.push(question.ask, question.requestIds.length, ...question.requestIds)
  out.push(waiting.length, ...waiting)
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
      out.push(2, role.isTransfer ? 1 : 0)
      return votes(out, role.votes)
    case "Leader":
      out.push(3)
      return leader(out, role)
    default:
      return role satisfies never
  }
}

/**
 * Every number of the log is below its chunk size, so that there is one chunk. Which configuration is in force along the log is a function of it and
 * of the one that it begins with, and checked to be (rule M2).
 */
const encodeState = (out: Out, state: NodeState): void => {
  out.push(
    1,
    state.term,
    node(state.votedFor),
    state.commitIndex,
    state.lastApplied,
    state.leaseUntilMs > nowMs ? 1 : 0,
    state.isTakingSnapshot ? 1 : 0,
    state.unsnapshottedBytes
  )
  snapshot(out, state.snapshot)
  const { lastIndex, offset, prev } = state.log
  entryId(out, prev)
  out.push(codeOf(state.configuration.along[0].configuration))
  entries(out, (state.log.chunks[0] ?? []).slice(offset, offset + lastIndex - prev.index))
  askedReads(out, state.askedReads)
  encodeRole(out, state.role)
}

const encodeMessage = (out: Out, message: Packet["message"]): void => {
  out.push(message.term)
  switch (message._tag) {
    case "RequestVote":
    case "RequestPreVote":
      out.push(message._tag === "RequestVote" ? (message.isTransfer ? 9 : 0) : 1, message.last.term, message.last.index)
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
      else if (result._tag === "NeedsSnapshot") out.push(3, result.prevIndex)
      else out.push(2, result.prevIndex, (result.conflict.term ?? -1) + 1, result.conflict.index)
      return
    }
    case "RequestReadIndex":
      out.push(6, message.ask)
      return
    case "RequestReadIndexResponse":
      out.push(7, message.ask, (message.readIndex ?? -1) + 1)
      return
    case "TimeoutNow":
      out.push(10)
      return
    case "InstallSnapshot":
      out.push(8)
      return snapshot(out, message.snapshot)
    default:
      return message satisfies never
  }
}

const encodeReleased = (out: Out, released: Released): void => {
  if (released._tag === "Apply") {
    out.push(0, released.from, released.to)
    return
  }
  if (released._tag === "Restore") {
    out.push(2)
    return entryId(out, released.last)
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

const encodeWrite = (out: Out, { entries: appended, hardState: vote, install }: Write): void => {
  hardState(out, vote)
  out.push(install === undefined ? 0 : install.keepsLog ? 1 : 2)
  if (install !== undefined) snapshot(out, install.snapshot)
  entries(out, appended)
}

export const keyOfServer = ({ applied, disk, id, jobs, lives, state }: Server): string => {
  const out: Out = [node(id), ...lives]
  hardState(out, disk.hardState)
  snapshot(out, disk.snapshot)
  entryId(out, disk.prev)
  out.push(codeOf(disk.configuration))
  entries(out, disk.entries)
  code(out, disk.lost)
  code(out, applied)
  if (state === undefined) out.push(0)
  else encodeState(out, state)
  out.push(jobs.length)
  for (const { then, write } of jobs) {
    encodeWrite(out, write)
    out.push(then.length)
    for (const released of then) encodeReleased(out, released)
  }
  return keyOf(out)
}
