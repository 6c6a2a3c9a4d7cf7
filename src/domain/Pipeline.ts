/**
 * What a leader sends: entries through a window of AppendEntries per follower (thesis §10.2), and heartbeats. Followers are sent to in
 * parallel with the leader's own write (thesis §10.2.1).
 */
import * as Configuration from "./Configuration.ts"
import { type Entry, type LogIndex, sizeBytes, type Term } from "./Entry.ts"
import { broken } from "./Invariants.ts"
import * as Log from "./Log.ts"
import type { NodeId } from "./NodeId.ts"
import { configurationsIn, type LeaderState } from "./NodeState.ts"
import { becomeSnapshot, initial, type Progress } from "./Progress.ts"
import * as Turn from "./Turn.ts"

const bytesOf = (entries: ReadonlyArray<Entry>): number => entries.reduce((sum, entry) => sum + sizeBytes(entry), 0)

/** The leader's log with `entries` after it, written and on its way to every follower. */
export const appendAndReplicate = (
  state: LeaderState,
  entries: ReadonlyArray<Entry>,
  turn: Turn.Turn
): LeaderState => {
  const last = entries[entries.length - 1]
  if (last === undefined) return state
  turn.appended = entries
  // The leader hears itself as it hears a peer: its own copy counts once it is durable (rule L6).
  Turn.promise(turn, state.id, {
    _tag: "AppendEntriesResponse",
    term: state.term,
    round: 0,
    result: { _tag: "Matched", matchIndex: last.index }
  })
  const configurations = configurationsIn(entries)
  let next: LeaderState = {
    ...state,
    log: Log.append(state.log, entries),
    role: { ...state.role, uncommittedBytes: state.role.uncommittedBytes + bytesOf(entries) }
  }
  if (configurations.length > 0) {
    const changed = { ...next, configuration: Configuration.appended(state.configuration, configurations) }
    next = withNewcomers(changed, state.configuration.latest, turn)
  }
  for (const peer of followersOf(next)) next = replicateTo(next, peer, turn)
  return next
}

/** Everybody whom this leader sends entries to: the members, and whoever was removed and has not heard of it yet. */
export const followersOf = (state: LeaderState): ReadonlyArray<NodeId> =>
  [...state.role.progress.keys()].filter((id) => id !== state.id)

/**
 * A configuration is in force on append (thesis §4.1): whoever is new in it is sent to from now on. Nothing is known of it, also where one of that
 * name was removed and is still told so: that one may have had another disk. Nobody is dropped: see `Membership.ts`.
 */
const withNewcomers = (
  state: LeaderState,
  before: Configuration.Configuration,
  turn: Turn.Turn
): LeaderState => {
  const newcomers = Configuration.members(state.configuration.latest).filter((id) =>
    !Configuration.isMember(before, id) && id !== state.id
  )
  if (newcomers.length === 0) return state
  const progress = new Map(state.role.progress)
  for (const id of newcomers) progress.set(id, initial(state.log.lastIndex, turn.nowMs))
  return { ...state, role: { ...state.role, progress } }
}

/** The entries to send from `from` on. Those just appended go out as the very array that is written, so that they are encoded once. */
const outgoing = (state: LeaderState, from: LogIndex, turn: Turn.Turn): ReadonlyArray<Entry> => {
  const { appendBytesMax, appendEntriesMax } = state.settings
  const { appended } = turn
  return appended[0]?.index === from && appended.length <= appendEntriesMax && bytesOf(appended) <= appendBytesMax
    ? appended
    : Log.entriesFrom(state.log, from, { entriesMax: appendEntriesMax, bytesMax: appendBytesMax })
}

/** A leader's log holds whatever it builds a message on: otherwise it would claim a term for an entry that it does not know. */
const termAt = (state: LeaderState, index: LogIndex): Term => {
  const term = Log.termAt(state.log, index)
  if (term === undefined) throw broken("a leader speaks of entries it knows", `${state.id} has no entry ${index}`)
  return term
}

const sendAppendEntries = (
  state: LeaderState,
  to: NodeId,
  nextIndex: LogIndex,
  entries: ReadonlyArray<Entry>,
  turn: Turn.Turn
): void => {
  const index = nextIndex - 1
  Turn.send(turn, to, {
    _tag: "AppendEntries",
    term: state.term,
    prev: { term: termAt(state, index), index },
    entries,
    leaderCommit: state.commitIndex,
    round: state.role.round
  })
}

/** Sends `peer` whatever its state allows: one message to a follower that is probed, a window to one that replicates. */
export const replicateTo = (state: LeaderState, peer: NodeId, turn: Turn.Turn): LeaderState => {
  const progress = state.role.progress.get(peer)
  if (progress === undefined || progress.nextIndex > state.log.lastIndex || progress._tag === "Snapshot") return state
  if (progress.nextIndex <= state.log.prev.index) return sendSnapshot(state, peer, progress, turn)
  const next = progress._tag === "Probe" ? probe(state, peer, progress, turn) : fillWindow(state, peer, progress, turn)
  return next === progress ? state : withProgress(state, peer, next)
}

/** "Leader must send snapshots to followers that lag behind" (paper §7): what `peer` lacks is compacted. */
export const sendSnapshot = (state: LeaderState, peer: NodeId, progress: Progress, turn: Turn.Turn): LeaderState => {
  turn.commands.push({ _tag: "SendSnapshot", to: peer })
  return withProgress(state, peer, becomeSnapshot(progress, state.snapshot.last.index))
}

const probe = (
  state: LeaderState,
  peer: NodeId,
  progress: Extract<Progress, { _tag: "Probe" }>,
  turn: Turn.Turn
): Progress => {
  if (progress.awaitingResponse) return progress
  sendAppendEntries(state, peer, progress.nextIndex, outgoing(state, progress.nextIndex, turn), turn)
  return { ...progress, awaitingResponse: true }
}

const fillWindow = (
  state: LeaderState,
  peer: NodeId,
  progress: Extract<Progress, { _tag: "Replicate" }>,
  turn: Turn.Turn
): Progress => {
  const { inflightBytesMax, inflightMessagesMax } = state.settings
  const inflight = progress.inflight.slice()
  let { inflightBytes, nextIndex } = progress
  while (
    nextIndex <= state.log.lastIndex && inflight.length < inflightMessagesMax && inflightBytes < inflightBytesMax
  ) {
    const entries = outgoing(state, nextIndex, turn)
    const last = entries[entries.length - 1]
    if (last === undefined) break
    sendAppendEntries(state, peer, nextIndex, entries, turn)
    const bytes = bytesOf(entries)
    inflight.push({ lastIndex: last.index, bytes })
    inflightBytes += bytes
    nextIndex = last.index + 1
  }
  return nextIndex === progress.nextIndex ? progress : { ...progress, inflight, inflightBytes, nextIndex }
}

/**
 * An empty AppendEntries to every follower, at the end of what it was sent. It keeps elections away, carries the commit index and the read
 * round, and finds out about losses: a follower that misses something before it rejects it (rule L7).
 */
export const sendHeartbeats = (state: LeaderState, turn: Turn.Turn): void => {
  for (const peer of followersOf(state)) {
    const progress = state.role.progress.get(peer)
    // Below its start the log knows nothing, and a follower in need of a snapshot is only to hear that there is a leader.
    if (progress !== undefined) {
      sendAppendEntries(state, peer, Math.max(progress.nextIndex, Log.firstIndex(state.log)), [], turn)
    }
  }
}

/** Tells `to`, which holds everything up to the commit index, how far that is. */
export const sendCommitIndex = (state: LeaderState, to: NodeId, turn: Turn.Turn): void => {
  const progress = state.role.progress.get(to)
  if (progress === undefined) return
  sendAppendEntries(state, to, Math.max(progress.matchIndex + 1, Log.firstIndex(state.log)), [], turn)
}

export const withProgress = (state: LeaderState, id: NodeId, progress: Progress): LeaderState => ({
  ...state,
  role: { ...state.role, progress: new Map(state.role.progress).set(id, progress) }
})
