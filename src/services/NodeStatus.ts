/** What a node knows of itself, as its user sees it. */
import * as Configuration from "../domain/Configuration.ts"
import type { LogIndex, Term } from "../domain/Entry.ts"
import type { NodeId } from "../domain/NodeId.ts"
import * as NodeState from "../domain/NodeState.ts"
import type { Progress } from "../domain/Progress.ts"
import type { Role } from "../domain/Role.ts"
import type { Snapshot } from "../domain/Snapshot.ts"
import type * as SnapshotReceiver from "./SnapshotReceiver.ts"
import type * as SnapshotSender from "./SnapshotSender.ts"

export interface Status {
  readonly id: NodeId
  readonly clusterId: string
  readonly role: Role["_tag"]
  readonly term: Term
  readonly leaderId: NodeId | undefined
  readonly commitIndex: LogIndex
  readonly lastApplied: LogIndex
  /** The log holds what follows this entry; snapshots stand for what came before. */
  readonly prevLogIndex: LogIndex
  readonly lastLogIndex: LogIndex
  /** The latest snapshot on this server's disk; index 0 where there is none. */
  readonly snapshot: Snapshot
  /** In force, committed or not. */
  readonly configuration: Configuration.Configuration
  /** The index of its entry, 0 where it is the one that the cluster began with; and whether it is known to be committed. */
  readonly configurationIndex: LogIndex
  readonly isConfigurationCommitted: boolean
  /** Of a leader: how far each other member is, and who is being removed. */
  readonly followers: ReadonlyArray<FollowerStatus>
  /** Of a leader: to whom it hands over. */
  readonly transferringTo: NodeId | undefined
  /** Snapshots on their way to followers, and the one that is coming in. */
  readonly sending: ReadonlyArray<SnapshotSender.Sending>
  readonly receiving: SnapshotReceiver.Receiving | undefined
}

export interface FollowerStatus {
  readonly id: NodeId
  readonly progress: Progress["_tag"]
  readonly matchIndex: LogIndex
  /** How long ago, in milliseconds, it last answered the leader; `undefined` where it has not yet. */
  readonly contactAgeMs: number | undefined
}

const followersOf = (state: NodeState.NodeState, nowMs: number): ReadonlyArray<FollowerStatus> => {
  const { role } = state
  if (role._tag !== "Leader") return []
  return Array.from(role.progress)
    .filter(([id]) => id !== state.id)
    .map(([id, { _tag, hasAnswered, lastContactMs, matchIndex }]) => ({
      id,
      progress: _tag,
      matchIndex,
      contactAgeMs: hasAnswered ? Math.max(0, Math.round(nowMs - lastContactMs)) : undefined
    }))
}

export const statusOf = (
  state: NodeState.NodeState,
  clusterId: string,
  nowMs: number
): Omit<Status, "sending" | "receiving"> => ({
  id: state.id,
  clusterId,
  role: state.role._tag,
  term: state.term,
  leaderId: NodeState.leaderIdOf(state),
  commitIndex: state.commitIndex,
  lastApplied: state.lastApplied,
  prevLogIndex: state.log.prev.index,
  lastLogIndex: state.log.lastIndex,
  snapshot: state.snapshot,
  configuration: state.configuration.latest,
  configurationIndex: state.configuration.latestIndex,
  isConfigurationCommitted: state.configuration.latestIndex <= state.commitIndex
    && !Configuration.isUnknown(state.configuration.latest),
  followers: followersOf(state, nowMs),
  transferringTo: state.role._tag === "Leader" ? state.role.transfer?.to : undefined
})
