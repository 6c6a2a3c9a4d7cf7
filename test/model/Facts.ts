/**
 * What the search asks of servers and of messages, as plain numbers.
 */
import { isSnapshotWanted } from "../../src/domain/Compaction.ts"
import type { Entry, LogIndex } from "../../src/domain/Entry.ts"
import * as Log from "../../src/domain/Log.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import { isLeader, leaderIdOf, type NodeState } from "../../src/domain/NodeState.ts"
import type { Progress } from "../../src/domain/Progress.ts"
import type { Snapshot } from "../../src/domain/Snapshot.ts"
import { type Along, alongOf, type Code, codeOf as codeOfConfiguration, isVoter, latestOf } from "./Configurations.ts"
import { configurationsOf, contentBefore, groupMax, logOf, needsRepair } from "./Disk.ts"
import { joined, lastOf, lengthOf, type LogCode } from "./LogCode.ts"
import { numberOf } from "./numbering.ts"
import { nowMs, type Packet, type Server, writesOf } from "./Server.ts"

export const roles = ["Down", "Follower", "PreCandidate", "Candidate", "Leader"] as const
export const down = 0
export const leading = roles.indexOf("Leader")

export interface ServerFacts {
  readonly server: Server
  readonly node: number
  readonly role: number
  readonly term: number
  /** From the first entry on, whatever is compacted of it. */
  readonly log: LogCode
  readonly logLength: number
  readonly commitIndex: number
  readonly jobs: number
  /** How many of the oldest jobs the disk may take at once. */
  readonly groupMax: number
  readonly hasLease: boolean
  readonly diskTerm: number
  /** 0 is nobody, else the server's number plus 1. */
  readonly diskVote: number
  readonly disk: LogCode
  /** The lowest term it can still act in, be it after a crash. */
  readonly lowestTerm: number
  /** What its snapshots, in memory and on disk, and its state machine hold. */
  readonly snapshot: LogCode
  readonly diskSnapshot: LogCode
  readonly applied: LogCode
  /** Whether each of these ends as it says. */
  readonly isWellNamed: boolean
  /** A crash came between an installed snapshot and its log. */
  readonly needsRepair: boolean
  readonly isTakingSnapshot: boolean
  /** What is in force along its log, and along that of its disk. */
  readonly along: Along
  readonly diskAlong: Along
  /** In force at the end of its log. */
  readonly configuration: Code
  /** A leader that is no voter any more. */
  readonly isRetiring: boolean
  readonly isHandingOver: boolean
  /** A follower that knows its leader can ask it for a read index. */
  readonly canAsk: boolean
  readonly isAsking: boolean
  /** To whom it sends a snapshot, and to whom of them beside entries. */
  readonly receivers: ReadonlyArray<number>
  readonly restoring: ReadonlyArray<number>
}

/** Which role at which term, relative to the message's, an answer can still mean something to. */
type Awaited = "any" | "none" | "candidate" | "pre-candidate" | "leader" | "asker" | "successor"

/**
 * What else may have happened by the time that the message arrives: a lease has ended, a question is overdue, only a piece arrives; or whom a leader
 * prefers that it makes step down.
 */
type Late = "lease" | "question" | "piece" | "preference" | "nothing"

export interface PacketFacts {
  readonly packet: Packet
  readonly from: number
  readonly to: number
  readonly term: number
  readonly late: Late
  readonly awaitedBy: Awaited
}

const awaitedBy = (message: Packet["message"]): Awaited => {
  switch (message._tag) {
    case "RequestVoteResponse":
      return "candidate"
    case "RequestPreVoteResponse":
      return message.voteGranted ? "none" : "pre-candidate"
    case "AppendEntriesResponse":
      return message.result._tag === "Stale" ? "none" : "leader"
    case "RequestReadIndexResponse":
      return "asker"
    case "TimeoutNow":
      return "successor"
    case "RequestVote":
    case "RequestPreVote":
    case "AppendEntries":
    case "RequestReadIndex":
    case "InstallSnapshot":
      return "any"
    default:
      return message satisfies never
  }
}

const lateOf = ({ _tag }: Packet["message"]): Late =>
  _tag === "RequestVote" || _tag === "RequestPreVote"
    ? "lease"
    : _tag === "AppendEntries"
    ? "question"
    : _tag === "InstallSnapshot"
    ? "piece"
    : _tag === "AppendEntriesResponse"
    ? "preference"
    : "nothing"

export const factsOfPacket = (packet: Packet): PacketFacts => {
  const { from, message, to } = packet
  return {
    packet,
    from: numberOf(from),
    to: numberOf(to),
    term: message.term,
    late: lateOf(message),
    awaitedBy: awaitedBy(message)
  }
}

const termsAfter = ({ lastIndex, prev, terms }: Log.Log) =>
  Array.from({ length: lastIndex - prev.index }, (_, i) => ({
    term: terms.findLast((run) => run.index <= prev.index + 1 + i)?.term ?? 0
  }))

const codeOf = (state: NodeState, lost: LogCode): LogCode =>
  joined(contentBefore(state.log.prev, state.snapshot, lost), state.log.prev, termsAfter(state.log))

const isNamed = ({ last, sizeBytes }: Snapshot): boolean => {
  const { index, term } = lastOf(sizeBytes)
  return last.index === index && last.term === term
}

const peersWhere = (
  state: NodeState | undefined,
  is: (known: Progress, id: NodeId) => boolean
): ReadonlyArray<number> =>
  state === undefined || !isLeader(state)
    ? []
    : [...state.role.progress].flatMap(([id, known]) => is(known, id) ? [numberOf(id)] : [])

const entriesOf = ({ log: { chunks, lastIndex, offset, prev } }: NodeState): ReadonlyArray<Entry> =>
  (chunks[0] ?? []).slice(offset, offset + lastIndex - prev.index)

/** That it begins with what is in force there is checked where it begins anew. */
export const alongLog = (state: NodeState): Along =>
  alongOf(codeOfConfiguration(state.configuration.along[0].configuration), state.log.prev.index, entriesOf(state))

export const factsOf = (server: Server): ServerFacts => {
  const { applied, disk, jobs, state } = server
  const { hardState: { term: diskTerm, votedFor }, lost, snapshot } = disk
  const term = state?.term ?? diskTerm
  const lastApplied: LogIndex = state?.lastApplied ?? 0
  const diskAlong = configurationsOf(disk)
  const along = state === undefined ? diskAlong : alongLog(state)
  const configuration = latestOf(along).code
  const isLeading = state !== undefined && isLeader(state)
  return {
    server,
    node: numberOf(server.id),
    role: state === undefined ? down : roles.indexOf(state.role._tag),
    term,
    log: state === undefined ? 0 : codeOf(state, lost),
    logLength: state?.log.lastIndex ?? 0,
    commitIndex: state?.commitIndex ?? 0,
    jobs: jobs.length,
    groupMax: groupMax(writesOf(jobs)),
    hasLease: state !== undefined && state.leaseUntilMs > nowMs,
    diskTerm,
    diskVote: votedFor === undefined ? 0 : numberOf(votedFor) + 1,
    disk: logOf(disk),
    lowestTerm: Math.min(term, diskTerm),
    snapshot: state?.snapshot.sizeBytes ?? 0,
    diskSnapshot: snapshot.sizeBytes,
    applied,
    isWellNamed: isNamed(snapshot) && (state === undefined || isNamed(state.snapshot))
      && lengthOf(applied) === lastApplied,
    needsRepair: needsRepair(disk),
    isTakingSnapshot: state?.isTakingSnapshot ?? false,
    along,
    diskAlong,
    configuration,
    isRetiring: isLeading && !isVoter(configuration, numberOf(server.id)),
    isHandingOver: isLeading && state.role.transfer !== undefined,
    canAsk: state?.role._tag === "Follower" && leaderIdOf(state) !== undefined,
    isAsking: (state?.askedReads.asked.length ?? 0) > 0,
    receivers: peersWhere(state, (_, id) => state !== undefined && isSnapshotWanted(state, id)),
    restoring: peersWhere(state, (known) => known.needsState)
  }
}
