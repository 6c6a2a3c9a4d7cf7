/**
 * READ FIRST. The only way a server changes: `step(state, event, nowMs)`. First the term rule of Figure 2 ("Rules for Servers"), then
 * one handler per event or message.
 *
 * Durability is decided here, once: whatever a step changes of the term, the vote and the log becomes one `Persist`, and every
 * message that promises durability waits in its `then`.
 *
 * ```ts
 * const { state, commands } = step(before, ticked, nowMs)
 * ```
 */
import { type Command, isEmptyWrite, type Write } from "./Command.ts"
import * as Compaction from "./Compaction.ts"
import * as Configuration from "./Configuration.ts"
import * as Election from "./Election.ts"
import type { Term } from "./Entry.ts"
import type { Event } from "./Event.ts"
import * as FollowerReads from "./FollowerReads.ts"
import { broken } from "./Invariants.ts"
import * as Membership from "./Membership.ts"
import type { Message } from "./Message.ts"
import type { NodeId } from "./NodeId.ts"
import { committedConfiguration, isLeader, leaderIdOf, type NodeState } from "./NodeState.ts"
import * as Proposing from "./Proposing.ts"
import * as ReadIndex from "./ReadIndex.ts"
import * as Replication from "./Replication.ts"
import { adoptTerm, becomeFollower, followLeader } from "./RoleChange.ts"
import * as Transfer from "./Transfer.ts"
import * as Turn from "./Turn.ts"

export interface Stepped {
  readonly state: NodeState
  readonly commands: ReadonlyArray<Command>
}

/** When `Ticked` is due, in the same monotonic milliseconds as `nowMs`. */
export const nextDeadlineMs = (state: NodeState): number => state.deadlineMs

export const step = (before: NodeState, event: Event, nowMs: number): Stepped => {
  const turn = Turn.make(nowMs)
  const state = FollowerReads.refuseOutdated(before, dispatch(before, event, turn), turn)
  return { state, commands: commandsOf(before, state, turn) }
}

type EventOf<Tag extends Event["_tag"]> = Extract<Event, { readonly _tag: Tag }>

const dispatch = (state: NodeState, event: Event, turn: Turn.Turn): NodeState => {
  switch (event._tag) {
    case "Ticked":
      return onTicked(state, turn)
    case "Received":
      return onReceived(state, event.from, event.message, turn)
    case "Applied":
      return Compaction.onApplied(state, event.index, event.logTimeMs, turn)
    case "SnapshotTaken":
      return Compaction.onSnapshotTaken(state, event.snapshot, turn)
    case "SnapshotFailed":
      return { ...state, isTakingSnapshot: false }
    case "SnapshotSent":
      return isLeader(state) ? Compaction.onSnapshotSent(state, event.peer) : state
    case "SnapshotPieceReceived":
    case "SnapshotReceived":
      return onInstallSnapshot(state, event, turn)
    case "PeerLost":
      return isLeader(state) ? Replication.onPeerLost(state, event.peer) : state
    case "Propose":
      return Proposing.onPropose(state, event.proposals, turn)
    case "OpenSession":
      return Proposing.onOpenSession(state, event.requestId, turn)
    case "Reconfigure":
      return Membership.onReconfigure(state, event.requestId, event.changes, turn)
    case "TransferLeadership":
      return Transfer.onTransferLeadership(state, event.requestId, event.to, turn)
    case "Read":
      return onRead(state, event, turn)
    default:
      return event satisfies never
  }
}

const onRead = (state: NodeState, { by, requestIds }: EventOf<"Read">, turn: Turn.Turn): NodeState => {
  switch (by) {
    case "Round":
      return ReadIndex.onRead(state, requestIds, turn)
    case "Lease":
      return ReadIndex.onLeaseRead(state, requestIds, turn)
    case "Leader":
      return FollowerReads.onRead(state, requestIds, turn)
    default:
      return by satisfies never
  }
}

/** No cluster holds that many elections while a server is away: such a term is damage, and believing it would use terms up for good. */
const termJumpMax = 2 ** 32

export const isBelievable = (state: NodeState, term: Term): boolean => term <= state.term + termJumpMax

/** InstallSnapshot as the core hears of it (Figure 13). The term rule holds for it as for any other message. */
const onInstallSnapshot = (
  state: NodeState,
  event: EventOf<"SnapshotPieceReceived" | "SnapshotReceived">,
  turn: Turn.Turn
): NodeState => {
  const { from, term } = event
  if (term < state.term || !isBelievable(state, term)) {
    return event._tag === "SnapshotReceived" ? Compaction.discard(state, event.snapshot, turn) : state
  }
  if (isLeader(state) && term === state.term) {
    throw broken("Election Safety", `${from} and ${state.id} both lead term ${term}`)
  }
  const current = term > state.term ? adoptTerm(state, term, from, turn) : state
  // To check all of it took time: only the pieces show that the leader is alive.
  return event._tag === "SnapshotReceived"
    ? Compaction.onSnapshotReceived(becomeFollower(current, from, turn), from, event.snapshot, turn)
    : followLeader(current, from, turn)
}

const onTicked = (state: NodeState, turn: Turn.Turn): NodeState => {
  if (turn.nowMs < state.deadlineMs) return state
  return isLeader(state) ? Replication.onHeartbeatDue(state, turn) : Election.onElectionTimeout(state, turn)
}

/** Requests of strangers are answered (rule V4); an answer is only of use from a server that was asked. */
const isForeignAnswer = (state: NodeState, from: NodeId, message: Message): boolean => {
  switch (message._tag) {
    case "RequestVoteResponse":
    case "RequestPreVoteResponse":
    case "RequestReadIndexResponse":
      return !Configuration.isMember(state.configuration.latest, from)
    case "AppendEntriesResponse":
      // One that was removed still acknowledges that.
      return !Configuration.isMember(state.configuration.latest, from)
        && !(isLeader(state) && state.role.progress.has(from))
    case "RequestVote":
    case "RequestPreVote":
    case "AppendEntries":
    case "RequestReadIndex":
    case "TimeoutNow":
      return false
    default:
      return message satisfies never
  }
}

/**
 * "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to follower" (Figure 2), with the exceptions
 * that pre-vote and stickiness are made of; and a message of an older term is answered with ours, never acted on.
 */
const onReceived = (state: NodeState, from: NodeId, message: Message, turn: Turn.Turn): NodeState => {
  if (!isBelievable(state, message.term) || isForeignAnswer(state, from, message)) return state
  if (message.term > state.term) {
    if (message._tag === "RequestPreVote") return Election.onRequestPreVote(state, from, message, turn)
    if (message._tag === "RequestPreVoteResponse" && message.voteGranted) {
      return Election.onRequestPreVoteResponse(state, from, message, turn)
    }
    const isUnwanted = message._tag === "RequestVote" && !message.isTransfer
    if (isUnwanted && Election.believesInLeader(state, turn.nowMs)) return state
    // Only the leader of its term sends these, so that whoever is refused now hears at once where to go.
    const isLeaders = message._tag === "AppendEntries" || message._tag === "TimeoutNow"
    const leaderId = isLeaders ? from : undefined
    return onCurrent(adoptTerm(state, message.term, leaderId, turn), from, message, turn)
  }
  return message.term < state.term ? onStale(state, from, message, turn) : onCurrent(state, from, message, turn)
}

const onCurrent = (state: NodeState, from: NodeId, message: Message, turn: Turn.Turn): NodeState => {
  switch (message._tag) {
    case "RequestVote":
      return Election.onRequestVote(state, from, message, turn)
    case "RequestVoteResponse":
      return Election.onRequestVoteResponse(state, from, message, turn)
    case "RequestPreVote":
      return Election.onRequestPreVote(state, from, message, turn)
    case "RequestPreVoteResponse":
      return Election.onRequestPreVoteResponse(state, from, message, turn)
    case "AppendEntries":
      return Replication.onAppendEntries(state, from, message, turn)
    case "AppendEntriesResponse":
      return isLeader(state) ? Replication.onAppendEntriesResponse(state, from, message, turn) : state
    case "RequestReadIndex":
      return FollowerReads.onRequestReadIndex(state, from, message, turn)
    case "RequestReadIndexResponse":
      return FollowerReads.onRequestReadIndexResponse(state, from, message, turn)
    case "TimeoutNow":
      return Transfer.onTimeoutNow(state, turn)
    default:
      return message satisfies never
  }
}

/** The sender of an old request learns the term and steps down; an old answer is dropped. */
const onStale = (state: NodeState, from: NodeId, message: Message, turn: Turn.Turn): NodeState => {
  switch (message._tag) {
    case "RequestVote":
      Turn.send(turn, from, { _tag: "RequestVoteResponse", term: state.term, voteGranted: false })
      return state
    case "RequestPreVote":
      return Election.onRequestPreVote(state, from, message, turn)
    case "AppendEntries":
      // Nothing of the old message is echoed: whoever sent it may lead a later term by now, and must not take this for contact.
      Turn.send(turn, from, { _tag: "AppendEntriesResponse", term: state.term, round: 0, result: { _tag: "Stale" } })
      return state
    case "RequestReadIndex":
      return FollowerReads.onRequestReadIndex(state, from, message, turn)
    case "RequestVoteResponse":
    case "RequestPreVoteResponse":
    case "AppendEntriesResponse":
    case "RequestReadIndexResponse":
    case "TimeoutNow":
      return state
    default:
      return message satisfies never
  }
}

const commandsOf = (before: NodeState, after: NodeState, turn: Turn.Turn): ReadonlyArray<Command> => {
  const { commands } = turn
  const votes = before.term === after.term && before.votedFor === after.votedFor
    ? undefined
    : { term: after.term, votedFor: after.votedFor }
  const write: Write = { hardState: votes, install: turn.install, entries: turn.appended }
  if (!isEmptyWrite(write) || turn.promises.length > 0) {
    // After Accept: whose command it is is known before it can reach the disk.
    const at = commands[0]?._tag === "Accept" ? 1 : 0
    commands.splice(at, 0, { _tag: "Persist", write, then: turn.promises })
  }
  if (turn.install !== undefined) commands.push({ _tag: "Restore", last: turn.install.snapshot.last })
  else if (after.commitIndex > before.commitIndex) {
    commands.push({ _tag: "Apply", from: before.commitIndex + 1, to: after.commitIndex })
  }
  const { latest, latestIndex } = after.configuration
  if (latest !== before.configuration.latest) {
    const committed = committedConfiguration(after).configuration
    const wasMember = Configuration.isMember(before.configuration.latest, before.id)
    commands.push({ _tag: "AnnounceConfiguration", configuration: latest, index: latestIndex, committed, wasMember })
  }
  if (before.role._tag !== after.role._tag || before.term !== after.term || leaderIdOf(before) !== leaderIdOf(after)) {
    commands.push({ _tag: "AnnounceRole", role: after.role._tag, term: after.term, leaderId: leaderIdOf(after) })
  }
  return commands
}
