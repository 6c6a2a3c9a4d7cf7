/**
 * What a server answers that was told to take a snapshot: `POST /v1/snapshot`, the RPC `TakeSnapshot` and `titan snapshot take`.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { RaftNode, SnapshotFailed, Stopped } from "./RaftNode.ts"

export const SnapshotReport = Schema.Struct({
  /** The last entry that the server's latest snapshot stands for; 0 where nothing was ever applied. */
  snapshotIndex: Schema.Int,
  snapshotTerm: Schema.Int,
  sizeBytes: Schema.Int,
  /** How long it took, in milliseconds: next to nothing where the latest snapshot stood for all that was applied. */
  tookMs: Schema.Int
})
export type SnapshotReport = typeof SnapshotReport.Type

/** Has the node take a snapshot, and reports it. */
export const take = (
  node: Pick<RaftNode["Service"], "takeSnapshot">
): Effect.Effect<SnapshotReport, SnapshotFailed | Stopped> =>
  Effect.map(Effect.timed(node.takeSnapshot), ([took, { last, sizeBytes }]) => ({
    snapshotIndex: last.index,
    snapshotTerm: last.term,
    sizeBytes,
    tookMs: Math.round(Duration.toMillis(took))
  }))
