/**
 * The whole state of a server, as one value: Figure 2 of the paper, and the few facts its §6 and §9.6 of the thesis add.
 */
import type { HardState } from "./Command.ts"
import * as Configuration from "./Configuration.ts"
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
  /** In force along the log (rule M2). */
  readonly configuration: Configuration.InForce
  readonly role: Role
  /** When this server must act: a leader's next heartbeat, everybody else's election timeout. Monotonic milliseconds. */
  readonly deadlineMs: number
  /** Until then a leader is believed alive, and nobody else is helped to replace it (thesis §4.2.3). */
  readonly leaseUntilMs: number
  /** When a leader was last heard; `undefined` since this server started. */
  readonly leaderContactMs: number | undefined
  /** Reads whose index the leader is asked for, where this server does not lead. */
  readonly askedReads: AskedReads
  readonly logTime: LogTime
  readonly random: Random.RandomState
}

/**
 * The log's own time, by which sessions expire (rule R5): it goes on while there is a leader, whose stamps make it. `appliedMs` is the latest
 * applied stamp. A leader stamps with `ms`, plus what has passed since `atMs` by its own clock.
 */
export interface LogTime {
  readonly appliedMs: number
  readonly ms: number
  readonly atMs: number
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
  Configuration.members(state.configuration.latest).filter((id) => id !== state.id)

/**
 * Whether what the log begins after is not in this server's state: its snapshot was damaged. Its log is whole, so it votes, stores and
 * acknowledges entries as before; it can neither apply nor lead until a leader's snapshot is installed.
 */
export const needsSnapshot = (state: NodeState): boolean => state.log.prev.index > state.snapshot.last.index

/** The configuration in force at `index`, which is not before the log's start (rule M2). */
export const configurationAt = (state: NodeState, index: LogIndex): Configuration.Configuration =>
  Configuration.at(state.configuration, index).configuration

/** The latest configuration that is known to be committed. */
export const committedConfiguration = (state: NodeState): Configuration.Situated =>
  Configuration.at(state.configuration, state.commitIndex)

/** Whether a change of the configuration is under way: none other may begin (rule M3). */
export const isReconfiguring = ({ commitIndex, configuration }: NodeState): boolean =>
  configuration.latestIndex > commitIndex || Configuration.isJoint(configuration.latest)

export const isSelfVoter = (state: NodeState): boolean => Configuration.isVoter(state.configuration.latest, state.id)

/**
 * Whether this server may stand for election. Where its own removal is not known to be committed it still may: only it may hold the entry that
 * removes it, and nobody else could be elected then (thesis §4.2.2, Figure 4.6; rule M6).
 */
export const mayStand = (state: NodeState): boolean => {
  if (isSelfVoter(state)) return true
  const known = committedConfiguration(state).index
  return state.configuration.along.some(({ configuration, index }) =>
    index >= known && Configuration.isVoter(configuration, state.id)
  )
}

/** The configurations that entries bring. */
export const configurationsIn = (entries: ReadonlyArray<Entry>): ReadonlyArray<Configuration.Situated> => {
  let found: Array<Configuration.Situated> | undefined
  for (const { index, payload } of entries) {
    if (payload._tag === "Configuration") (found ??= []).push({ index, configuration: payload.configuration })
  }
  return found ?? none
}

const none: ReadonlyArray<Configuration.Situated> = []

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
  readonly configuration: Configuration.Configuration
  readonly hardState: HardState
  /** Restored already: what it stands for counts as applied. */
  readonly snapshot: Snapshot
  readonly prev: EntryId
  /** What follows `prev`. */
  readonly entries: ReadonlyArray<Entry>
  /** Of the restored snapshot. */
  readonly logTimeMs: number
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
    configuration: Configuration.appended(
      Configuration.beginning({ index: prev.index, configuration: options.configuration }),
      configurationsIn(entries)
    ),
    role: { _tag: "Follower", leaderId: undefined },
    deadlineMs: 0,
    // In no term yet, it has promised nothing, unless power was lost just after it answered its first leader: a lease may rely on that.
    leaseUntilMs: hardState.term === 0 && !settings.leaseReads ? nowMs : nowMs + settings.electionTimeoutMsMin,
    leaderContactMs: undefined,
    askedReads: { ask: drawn.value * 2 ** 20, sentMs: 0, unansweredSinceMs: 0, asked: [], waiting: [] },
    logTime: { appliedMs: options.logTimeMs, ms: options.logTimeMs, atMs: nowMs },
    random: drawn.state
  }, nowMs)
}
