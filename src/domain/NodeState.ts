/**
 * The whole state of a server, as one value: Figure 2 of the paper, and the few facts its §6 and §9.6 of the thesis add.
 */
import type { HardState } from "./Command.ts"
import { type Configuration, isVoter, members } from "./Configuration.ts"
import type { Entry, EntryId, LogIndex, Term } from "./Entry.ts"
import type { RequestId } from "./Event.ts"
import * as Log from "./Log.ts"
import type { NodeId } from "./NodeId.ts"
import * as Random from "./Random.ts"
import type { Leader, Role } from "./Role.ts"
import type { Settings } from "./Settings.ts"
import type { Snapshot } from "./Snapshot.ts"

export interface NodeState {
  readonly id: NodeId
  readonly settings: Settings
  /** Persistent on all servers. */
  readonly term: Term
  readonly votedFor: NodeId | undefined
  readonly log: Log.Log
  /** Volatile on all servers. */
  readonly commitIndex: LogIndex
  readonly lastApplied: LogIndex
  /** The latest snapshot on disk (paper §7). */
  readonly snapshot: Snapshot
  /** A snapshot was asked for and is not taken yet. */
  readonly isTakingSnapshot: boolean
  /** Of the entries that were applied and that no snapshot stands for. */
  readonly unsnapshottedBytes: number
  readonly configuration: Configuration
  readonly role: Role
  /** When this server must act: a leader's next heartbeat, everybody else's election timeout. Monotonic milliseconds. */
  readonly deadlineMs: number
  /** Until then a leader is believed alive, and nobody else is helped to replace it (thesis §4.2.3). */
  readonly leaseUntilMs: number
  /** When a leader was last heard; `undefined` since this server started. */
  readonly leaderContactMs: number | undefined
  /** Reads whose index the leader is asked for, where this server does not lead. */
  readonly askedReads: AskedReads
  readonly random: Random.RandomState
}

/** What waits for the leader's answers to `RequestReadIndex`. */
export interface AskedReads {
  /** Of the latest question. It never repeats while answers to an earlier one may be under way. */
  readonly ask: number
  readonly sentMs: number
  /** Since when no question has been answered, though one is under way. */
  readonly unansweredSinceMs: number
  /** Ascending by `ask`. */
  readonly asked: ReadonlyArray<{ readonly ask: number; readonly requestIds: ReadonlyArray<RequestId> }>
  /** Reads that came after the latest question: they wait for the next one. */
  readonly waiting: ReadonlyArray<RequestId>
}

/** A server that leads; what only makes sense for a leader takes one. */
export interface LeaderState extends NodeState {
  readonly role: Leader
}

export const isLeader = (state: NodeState): state is LeaderState => state.role._tag === "Leader"

export const leaderIdOf = (state: NodeState): NodeId | undefined =>
  state.role._tag === "Leader" ? state.id : state.role._tag === "Follower" ? state.role.leaderId : undefined

/** Every member but this server. */
export const peersOf = (state: NodeState): ReadonlyArray<NodeId> =>
  members(state.configuration).filter((id) => id !== state.id)

/**
 * Whether what the log begins after is not in this server's state: its snapshot was damaged. Its log is whole, so it votes, stores and
 * acknowledges entries as before; it can neither apply nor lead until a leader's snapshot is installed.
 */
export const needsSnapshot = (state: NodeState): boolean => state.log.prev.index > state.snapshot.last.index

/** The configuration in force at `index`, which is not before the log's start (rule M2). */
export const configurationAt = (state: NodeState, _index: LogIndex): Configuration => state.configuration

export const isSelfVoter = (state: NodeState): boolean => isVoter(state.configuration, state.id)

/** The state with a new election deadline, drawn from [min, max) (paper §5.2; redrawn each time, rule V10). */
export const withElectionDeadline = (state: NodeState, nowMs: number): NodeState => {
  const drawn = Random.nextInt(state.random, {
    min: state.settings.electionTimeoutMsMin,
    max: state.settings.electionTimeoutMsMax
  })
  return { ...state, deadlineMs: nowMs + drawn.value, random: drawn.state }
}

/**
 * A server as it starts, new or after a crash: a follower with what it had on disk. It may have promised a leader its loyalty just
 * before it crashed, so it keeps that promise for one election timeout (thesis §4.2.3, §6.4.1).
 */
export const make = (options: {
  readonly id: NodeId
  readonly settings: Settings
  /** In force at `prev`. */
  readonly configuration: Configuration
  readonly hardState: HardState
  /** Restored already: what it stands for counts as applied. */
  readonly snapshot: Snapshot
  readonly prev: EntryId
  /** What follows `prev`. */
  readonly entries: ReadonlyArray<Entry>
  readonly random: Random.RandomState
  readonly nowMs: number
}): NodeState => {
  const { entries, hardState, nowMs, prev, settings, snapshot } = options
  const log = Log.append(Log.empty(prev), entries)
  const drawn = Random.nextInt(options.random, { min: 0, max: 2 ** 31 })
  return withElectionDeadline({
    id: options.id,
    settings,
    term: hardState.term,
    votedFor: hardState.votedFor,
    log,
    // What a snapshot stands for was committed, and so was what a log gave up.
    commitIndex: Math.max(snapshot.last.index, prev.index),
    lastApplied: snapshot.last.index,
    snapshot,
    isTakingSnapshot: false,
    unsnapshottedBytes: 0,
    configuration: snapshot.last.index > prev.index ? snapshot.configuration : options.configuration,
    role: { _tag: "Follower", leaderId: undefined },
    deadlineMs: 0,
    // In no term yet, it has promised nothing, unless power was lost just after it answered its first leader: a lease may rely on that.
    leaseUntilMs: hardState.term === 0 && !settings.leaseReads ? nowMs : nowMs + settings.electionTimeoutMsMin,
    leaderContactMs: undefined,
    askedReads: { ask: drawn.value * 2 ** 20, sentMs: 0, unansweredSinceMs: 0, asked: [], waiting: [] },
    random: drawn.state
  }, nowMs)
}
