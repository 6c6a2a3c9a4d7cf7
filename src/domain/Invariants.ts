/**
 * What is true of every state of a server (`checkState`) and of every step between two (`checkStep`). Tests and simulations run both on
 * every step; a finding names the rule or the property of the paper's Figure 3 that does not hold.
 */
import type { Command, Send } from "./Command.ts"
import { type Configuration, isJoint, isMember, votersMoved } from "./Configuration.ts"
import { sizeBytes } from "./Entry.ts"
import * as Log from "./Log.ts"
import type { NodeId } from "./NodeId.ts"
import { isLeader, type LeaderState, mayStand, needsSnapshot, type NodeState, peersOf } from "./NodeState.ts"

/** A promise that the algorithm or a peer must never break was broken: the node stops rather than go on. */
export class BrokenPromise extends Error {
  override readonly name = "BrokenPromise"
  readonly property: string
  constructor(property: string, detail: string) {
    super(`${property} does not hold: ${detail}`)
    this.property = property
  }
}

export const broken = (property: string, detail: string): BrokenPromise => new BrokenPromise(property, detail)

type Findings = Array<string>

const expect = (findings: Findings, holds: boolean, property: string): void => {
  if (!holds) findings.push(property)
}

/** The same, of one follower; the text is only made when it is needed, since this runs for each of them on every step. */
const expectOf = (findings: Findings, holds: boolean, property: string, id: NodeId): void => {
  if (!holds) findings.push(`${property} (${id})`)
}

/** Every property that does not hold of `state`; empty when all do. */
export const checkState = (state: NodeState): ReadonlyArray<string> => {
  const found: Findings = []
  const { commitIndex, lastApplied, log } = state
  expect(found, lastApplied <= commitIndex, "lastApplied <= commitIndex")
  expect(found, commitIndex <= log.lastIndex, "commitIndex <= lastLogIndex")
  expect(found, log.prev.index <= commitIndex, "nothing uncommitted is compacted")
  expect(found, state.snapshot.last.index <= commitIndex, "a snapshot stands for committed entries")
  expect(found, Log.lastId(log).term <= state.term, "no entry is of a later term than the server")
  expect(found, Number.isFinite(state.deadlineMs), "there is always a deadline")
  for (let i = 1; i < log.terms.length; i++) {
    const [a, b] = [log.terms[i - 1], log.terms[i]]
    expect(found, a !== undefined && b !== undefined && a.term < b.term && a.index < b.index, "terms rise in the log")
  }
  expect(
    found,
    Log.entryAt(log, log.lastIndex)?.index === log.lastIndex || log.lastIndex === log.prev.index,
    "indices are positions"
  )
  checkConfigurations(state, found)
  if (state.role._tag === "Candidate") expect(found, state.votedFor === state.id, "a candidate votes for itself")
  if (isLeader(state)) checkLeader(state, found)
  return found
}

const checkLeader = (state: LeaderState, found: Findings): void => {
  const { log, role, settings } = state
  expect(found, state.votedFor === state.id, "a leader voted for itself")
  expect(found, Log.lastId(log).term === state.term, "a leader's log ends in its own term (V10 no-op)")
  const startTerm = role.termStartIndex < log.prev.index ? state.term : Log.termAt(log, role.termStartIndex)
  expect(found, startTerm === state.term, "a leadership starts with its no-op")
  expect(found, [state.id, ...peersOf(state)].every((id) => role.progress.has(id)), "every member has a progress")
  expect(
    found,
    role.pendingReads.every((read) => read.round <= role.round),
    "no read waits for a round that was not sent (R2)"
  )
  expect(
    found,
    role.pendingReads.every((read) => read.readIndex >= role.termStartIndex),
    "reads see the own term's no-op (R1)"
  )
  expect(
    found,
    role.pendingReads.length > 0 || (role.waitingReads.length === 0 && role.waitingAsks.length === 0),
    "reads wait only while a round is under way"
  )
  expect(found, settings.leaseReads || role.readLeaseUntilMs === -Infinity, "leases are off by default (R3)")
  for (const [id, progress] of role.progress) {
    expectOf(found, progress.matchIndex < progress.nextIndex, "matchIndex < nextIndex", id)
    expectOf(found, progress.nextIndex <= log.lastIndex + 1, "nextIndex <= lastLogIndex + 1", id)
    const isHeld = progress._tag === "Snapshot" || progress.nextIndex > log.prev.index
    expectOf(found, isHeld, "what is to be sent is in the log, or a snapshot is sent (L7)", id)
    expectOf(found, progress.ackedRound <= role.round, "no round is acknowledged before it is sent", id)
    if (progress._tag !== "Replicate") continue
    const { inflight, inflightBytes, matchIndex } = progress
    expectOf(found, inflight.length <= settings.inflightMessagesMax, "the window holds at most inflightMessagesMax", id)
    if (inflight.length === 0 && inflightBytes === 0) continue
    expectOf(found, inflight.every((sent) => sent.lastIndex > matchIndex), "nothing acknowledged is in flight", id)
    expectOf(
      found,
      inflight.reduce((sum, sent) => sum + sent.bytes, 0) === inflightBytes,
      "inflightBytes adds up",
      id
    )
  }
  if (log.lastIndex - state.commitIndex > 100) return
  let bytes = 0
  for (let index = Math.max(state.commitIndex + 1, role.termStartIndex); index <= log.lastIndex; index++) {
    const entry = Log.entryAt(log, index)
    bytes += entry === undefined ? NaN : sizeBytes(entry)
  }
  expect(found, bytes === role.uncommittedBytes, "uncommittedBytes adds up (L10)")
}

/** What is in force is what the log says (rule M2), and the log changes one voter at a time, or several by way of both majorities (M3, M4). */
const checkConfigurations = ({ configuration, log }: NodeState, found: Findings): void => {
  const { along, latest, latestIndex } = configuration
  const last = along[along.length - 1]
  expect(found, last?.configuration === latest && last.index === latestIndex, "the last configuration is in force (M2)")
  expect(found, along[0].index <= log.prev.index, "it is known which configuration a log begins with (M2)")
  for (let i = 1; i < along.length; i++) {
    const [before, next] = [along[i - 1], along[i]]
    if (before === undefined || next === undefined) continue
    const payload = Log.entryAt(log, next.index)?.payload
    const isHeld = payload?._tag === "Configuration" && payload.configuration === next.configuration
    expect(found, isHeld && before.index < next.index, "a configuration after the log's start is an entry of it (M2)")
    expect(
      found,
      isAllowed(before.configuration, next.configuration),
      "one voter moves at a time, or all jointly (M3, M4)"
    )
  }
}

const isSameVoters = (a: ReadonlyArray<NodeId>, b: ReadonlyArray<NodeId>): boolean =>
  a.length === b.length && a.every((id) => b.includes(id))

const isAllowed = (before: Configuration, next: Configuration): boolean => {
  if (isJoint(before)) return !isJoint(next) && isSameVoters(before.voters, next.voters)
  return isJoint(next) ? isSameVoters(before.voters, next.outgoing) : votersMoved(before, next) <= 1
}

/** Every property that does not hold between two states and of the commands between them; empty when all do. */
export const checkStep = (
  before: NodeState,
  after: NodeState,
  commands: ReadonlyArray<Command>
): ReadonlyArray<string> => {
  const found: Findings = []
  expect(found, after.term >= before.term, "the term never falls")
  const voteKept = before.votedFor === undefined || after.votedFor === before.votedFor
  expect(found, after.term > before.term || voteKept, "the vote is cleared only when the term grows (V2)")
  expect(found, after.commitIndex >= before.commitIndex, "commitIndex never falls")
  expect(found, after.lastApplied >= before.lastApplied, "lastApplied never falls")
  const isCompacted = before.commitIndex < after.log.prev.index
  expect(found, isCompacted || Log.matches(after.log, idAt(before, before.commitIndex)), "what is committed stays (L3)")
  expect(found, after.snapshot.last.index >= before.snapshot.last.index, "snapshots never go back")
  const start = Math.max(after.snapshot.last.index, before.log.prev.index)
  expect(found, after.log.prev.index <= start, "a snapshot stands for all that is compacted")
  checkLeadership(before, after, found)
  checkMembership(before, after, commands, found)
  checkDurability(before, after, commands, found)
  checkApplied(before, after, commands, found)
  return found
}

const idAt = (state: NodeState, index: number) => ({ term: Log.termAt(state.log, index) ?? 0, index })

const checkLeadership = (before: NodeState, after: NodeState, found: Findings): void => {
  if (!isLeader(after)) return
  if (isLeader(before)) {
    expect(found, after.term === before.term, "a leader leads one term")
    expect(found, Log.matches(after.log, Log.lastId(before.log)), "Leader Append-Only")
    expect(found, after.role.round >= before.role.round, "read rounds only grow")
    for (const [id, progress] of before.role.progress) {
      const next = after.role.progress.get(id)
      // Whoever is added anew may have another disk than the one of that name that was removed.
      const isNew = !isMember(before.configuration.latest, id) && isMember(after.configuration.latest, id)
      const isKept = isNew || (next?.matchIndex ?? Infinity) >= progress.matchIndex
      expectOf(found, isKept, "matchIndex never falls in a leadership (L4)", id)
    }
  } else {
    expect(
      found,
      before.role._tag === "Candidate" && before.term === after.term,
      "only a candidate becomes leader, in its term"
    )
  }
  const advanced = after.commitIndex > before.commitIndex
  expect(
    found,
    !advanced || Log.termAt(after.log, after.commitIndex) === after.term,
    "a leader commits its own term's entries (L1)"
  )
}

/** What a step may do to the membership, and who may lead or stand because of it. */
const checkMembership = (
  before: NodeState,
  after: NodeState,
  commands: ReadonlyArray<Command>,
  found: Findings
): void => {
  const { latest, latestIndex } = after.configuration
  const written = commands.find((command) => command._tag === "Persist")?.write.entries ?? []
  const configurations = written.filter(({ payload }) => payload._tag === "Configuration")
  for (const { index } of configurations) {
    expect(
      found,
      after.configuration.along.some((one) => one.index === index),
      "a configuration is in force on append (M2)"
    )
  }
  const stands = after.role._tag === "Candidate" && after.term > before.term
  expect(found, !stands || mayStand(before), "only a voter stands for election (M6)")
  if (!isLeader(after)) return
  const { role: { termStartIndex, transfer } } = after
  const isOwn = isLeader(before) && configurations.length > 0
  const isReady = after.commitIndex >= termStartIndex && before.configuration.latestIndex <= after.commitIndex
  expect(found, !isOwn || isReady, "the configuration changes when what came before is committed (M1, M3)")
  const isKnown = latestIndex <= after.commitIndex && termStartIndex <= after.commitIndex
  // A joint configuration is not left while leadership is handed over.
  const isLeaving = isJoint(latest) && transfer !== undefined
  expect(found, !isKnown || isLeaving || latest.voters.includes(after.id), "a leader that is no voter steps down (M6)")
  const accepts = commands.some(({ _tag }) => _tag === "Accept")
  const isHandingOver = isLeader(before) && before.role.transfer !== undefined && transfer !== undefined
  expect(found, !isHandingOver || !accepts, "nothing is proposed while leadership is handed over (M7)")
  for (const [id] of after.role.progress) {
    const isNew = isLeader(before) && !before.role.progress.has(id)
    expectOf(found, !isNew || isMember(latest, id), "a leader sends entries to members (M3)", id)
  }
}

/** Design rule 1: what promises durability rides in a `then`, behind a write that holds what it promises. */
const checkDurability = (
  before: NodeState,
  after: NodeState,
  commands: ReadonlyArray<Command>,
  found: Findings
): void => {
  const persists = commands.filter((command) => command._tag === "Persist")
  expect(found, persists.length <= 1, "a step writes at most once")
  const write = persists[0]?.write
  if (before.term !== after.term || before.votedFor !== after.votedFor) {
    const kept = write?.hardState?.term === after.term && write.hardState.votedFor === after.votedFor
    expect(found, kept, "a changed term or vote is written (V1)")
  }
  const lastBefore = Log.lastId(before.log)
  const lastAfter = Log.lastId(after.log)
  if (lastBefore.index !== lastAfter.index || lastBefore.term !== lastAfter.term) {
    const last = write?.entries[write.entries.length - 1] ?? write?.install?.snapshot.last
    expect(found, last?.index === lastAfter.index && last.term === lastAfter.term, "a changed log is written (L6)")
  }
  for (const command of commands) {
    if (command._tag === "Send") {
      if (promises(command, after)) found.push(`${command.message._tag} waits for the disk (L6, V1)`)
    }
  }
}

const promises = ({ message }: Send, state: NodeState): boolean => {
  if (message._tag === "RequestVote") return true
  if (message._tag === "RequestVoteResponse") return message.voteGranted
  return message._tag === "AppendEntriesResponse"
    && message.result._tag === "Matched"
    && message.result.matchIndex > state.lastApplied
}

const checkApplied = (before: NodeState, after: NodeState, commands: ReadonlyArray<Command>, found: Findings): void => {
  let applied = before.commitIndex
  for (const command of commands) {
    if (command._tag === "Restore") {
      const isLater = command.last.index > applied || (needsSnapshot(before) && command.last.index === applied)
      expect(found, isLater, "a snapshot never takes back what is committed")
      applied = command.last.index
    }
    if (command._tag !== "Apply") continue
    expect(found, command.from === applied + 1 && command.to >= command.from, "entries are applied in order, each once")
    applied = command.to
  }
  expect(found, applied === after.commitIndex, "what becomes committed is applied")
}
