/**
 * The whole state of a server, as one value: Figure 2 of the paper, and the few facts its §6 and §9.6 of the thesis add.
 */
import type { HardState } from "./Command.ts"
import { type Configuration, isVoter, members } from "./Configuration.ts"
import { type Entry, type LogIndex, origin, type Term } from "./Entry.ts"
import * as Log from "./Log.ts"
import type { NodeId } from "./NodeId.ts"
import * as Random from "./Random.ts"
import type { Leader, Role } from "./Role.ts"
import type { Settings } from "./Settings.ts"

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
  readonly configuration: Configuration
  readonly role: Role
  /** When this server must act: a leader's next heartbeat, everybody else's election timeout. Monotonic milliseconds. */
  readonly deadlineMs: number
  /** Until then a leader is believed alive, and nobody else is helped to replace it (thesis §4.2.3). */
  readonly leaseUntilMs: number
  readonly random: Random.RandomState
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
  readonly configuration: Configuration
  readonly hardState: HardState
  readonly entries: ReadonlyArray<Entry>
  readonly random: Random.RandomState
  readonly nowMs: number
}): NodeState =>
  withElectionDeadline({
    id: options.id,
    settings: options.settings,
    term: options.hardState.term,
    votedFor: options.hardState.votedFor,
    log: Log.append(Log.empty(origin), options.entries),
    commitIndex: 0,
    lastApplied: 0,
    configuration: options.configuration,
    role: { _tag: "Follower", leaderId: undefined },
    deadlineMs: 0,
    leaseUntilMs: options.hardState.term === 0 ? options.nowMs : options.nowMs + options.settings.electionTimeoutMsMin,
    random: options.random
  }, options.nowMs)
