/**
 * What a server reports about itself to operators and clients: the answer of `GET /v1/status`, of the RPC `Status` and of `titan status`.
 */
import * as Schema from "effect/Schema"
import type { NodeId } from "../domain/NodeId.ts"
import type { Status } from "./RaftNode.ts"

/** The version of this package; a test holds it to package.json. */
export const version = "0.1.0"

/** Finds the base URL of a server, such as `http://127.0.0.1:7101`, or `undefined` where it is not known. */
export type UrlOf = (id: NodeId) => string | undefined

/** `index`: what the snapshot stands for. `offset`: how many of its `sizeBytes` have arrived. */
const transfer = { index: Schema.Int, offset: Schema.Int, sizeBytes: Schema.Int }

export const ServerStatus = Schema.Struct({
  id: Schema.String,
  clusterId: Schema.String,
  role: Schema.Literals(["Follower", "PreCandidate", "Candidate", "Leader"]),
  term: Schema.Int,
  /** The leader this server knows of; `url` is null where the server does not know how to reach it. */
  leader: Schema.NullOr(Schema.Struct({ id: Schema.String, url: Schema.NullOr(Schema.String) })),
  commitIndex: Schema.Int,
  lastApplied: Schema.Int,
  lastLogIndex: Schema.Int,
  /** The log holds what follows this index. */
  prevLogIndex: Schema.Int,
  /** The last index that the latest snapshot stands for, 0 where there is none, and its size on disk. */
  snapshotIndex: Schema.Int,
  snapshotBytes: Schema.Int,
  configuration: Schema.Struct({ voters: Schema.Array(Schema.String), learners: Schema.Array(Schema.String) }),
  /** Of a leader: how far each other member is. */
  followers: Schema.Array(Schema.Struct({
    id: Schema.String,
    progress: Schema.Literals(["Probe", "Replicate", "Snapshot"]),
    matchIndex: Schema.Int
  })),
  /** Snapshots on their way to followers: what each has of the file. */
  sending: Schema.Array(Schema.Struct({ to: Schema.String, ...transfer })),
  /** The snapshot that is coming in from the leader. */
  receiving: Schema.NullOr(Schema.Struct({ from: Schema.String, ...transfer })),
  version: Schema.String
})
export type ServerStatus = typeof ServerStatus.Type

/** The report of a node's `Status`. Example: `report(yield* node.status, (id) => urls[id])`. */
export const report = (status: Status, urlOf: UrlOf): ServerStatus => ({
  id: status.id,
  clusterId: status.clusterId,
  role: status.role,
  term: status.term,
  leader: status.leaderId === undefined ? null : { id: status.leaderId, url: urlOf(status.leaderId) ?? null },
  commitIndex: status.commitIndex,
  lastApplied: status.lastApplied,
  lastLogIndex: status.lastLogIndex,
  prevLogIndex: status.prevLogIndex,
  snapshotIndex: status.snapshot.last.index,
  snapshotBytes: status.snapshot.sizeBytes,
  configuration: { voters: status.configuration.voters, learners: status.configuration.learners },
  followers: status.followers,
  sending: status.sending,
  receiving: status.receiving ?? null,
  version
})
