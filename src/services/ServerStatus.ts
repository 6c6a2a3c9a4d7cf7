/**
 * What a server reports about itself to operators and clients: the answer of `GET /v1/status`, of the RPC `Status` and of `titan status`.
 */
import * as Schema from "effect/Schema"
import * as Configuration from "../domain/Configuration.ts"
import type { NodeId } from "../domain/NodeId.ts"
import { majority } from "../domain/Quorum.ts"
import type { Status } from "./RaftNode.ts"

/** The version of this package; a test holds it to package.json. */
export const version = "0.1.0"

/** Finds the base URL of a server, such as `http://127.0.0.1:7101`, or `undefined` where it is not known. */
export type UrlOf = (id: NodeId) => string | undefined

/** `index`: what the snapshot stands for. `offset`: how many of its `sizeBytes` have arrived. */
const transfer = { index: Schema.Int, offset: Schema.Int, sizeBytes: Schema.Int }

/** A member of the configuration in force, and where it is reached; null: not known here. */
export const Member = Schema.Struct({
  id: Schema.String,
  url: Schema.NullOr(Schema.String),
  role: Schema.Literals(["voter", "joining", "learner", "leaving"]).annotate({
    description:
      "joining: a learner that becomes a voter once it has caught up. leaving: a voter until several changes at once are done."
  })
})
export type Member = typeof Member.Type

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
  /** In force, committed or not; `configurationIndex` is that of its entry, 0 where it is the one that the cluster began with. */
  configuration: Schema.Struct({
    voters: Schema.Array(Schema.String),
    learners: Schema.Array(Schema.String),
    joining: Schema.Array(Schema.String),
    outgoing: Schema.Array(Schema.String)
  }),
  configurationIndex: Schema.Int,
  members: Schema.Array(Member),
  /** Of a leader: how far each other member is, and how long ago it was last heard, in milliseconds; null: not yet in this term. */
  followers: Schema.Array(Schema.Struct({
    id: Schema.String,
    progress: Schema.Literals(["Probe", "Replicate", "Snapshot"]),
    matchIndex: Schema.Int,
    contactAgeMs: Schema.NullOr(Schema.Int)
  })),
  /** Of a leader: to whom it hands over. */
  transferringTo: Schema.NullOr(Schema.String),
  /** Snapshots on their way to followers: what each has of the file. */
  sending: Schema.Array(Schema.Struct({ to: Schema.String, ...transfer })),
  /** The snapshot that is coming in from the leader. */
  receiving: Schema.NullOr(Schema.Struct({ from: Schema.String, ...transfer })),
  version: Schema.String
})
export type ServerStatus = typeof ServerStatus.Type

/** How many servers count, and how many of them may fail. */
export interface Standing {
  readonly voters: ReadonlyArray<NodeId>
  readonly learners: ReadonlyArray<NodeId>
  readonly quorum: number
  readonly mayFail: number
}

/** Example: `standing(["n1", "n2", "n3"], [])` has a quorum of 2, and 1 may fail. */
export const standing = (voters: ReadonlyArray<NodeId>, learners: ReadonlyArray<NodeId>): Standing => {
  const quorum = majority(voters.length)
  return { voters, learners, quorum, mayFail: voters.length - quorum }
}

const roleOf = ({ joining, learners, voters }: Configuration.Configuration, id: NodeId): Member["role"] => {
  if (voters.includes(id)) return "voter"
  if (joining.includes(id)) return "joining"
  return learners.includes(id) ? "learner" : "leaving"
}

export const membersOf = (configuration: Configuration.Configuration, urlOf: UrlOf): ReadonlyArray<Member> =>
  Configuration.members(configuration).map((id) => ({
    id,
    url: urlOf(id) ?? configuration.addresses.get(id) ?? null,
    role: roleOf(configuration, id)
  }))

/** The report of a node's `Status`. Example: `report(yield* node.status, (id) => urls[id])`. */
export const report = ({ configuration, ...status }: Status, urlOf: UrlOf): ServerStatus => ({
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
  configuration: {
    voters: configuration.voters,
    learners: configuration.learners,
    joining: configuration.joining,
    outgoing: configuration.outgoing
  },
  configurationIndex: status.configurationIndex,
  members: membersOf(configuration, urlOf),
  followers: status.followers.map(({ contactAgeMs, ...known }) => ({ ...known, contactAgeMs: contactAgeMs ?? null })),
  transferringTo: status.transferringTo ?? null,
  sending: status.sending,
  receiving: status.receiving ?? null,
  version
})
