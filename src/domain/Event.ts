/**
 * What can happen to a node. Events that report are past tense, events that ask are verbs.
 */
import type { Change } from "./Configuration.ts"
import type { LogIndex, Sequenced, Term } from "./Entry.ts"
import type { Message } from "./Message.ts"
import type { NodeId } from "./NodeId.ts"
import type { Snapshot } from "./Snapshot.ts"

/** Names one request of a local caller; the driver makes it and maps it back. */
export type RequestId = number

export interface Proposal {
  readonly requestId: RequestId
  readonly bytes: Uint8Array
  /** `undefined`: without a session, so that a retry may be applied again. */
  readonly sequenced: Sequenced | undefined
}

/**
 * How a read is confirmed. `Round`: the leader asks a majority (thesis §6.4). `Lease`: the leader relies on the clocks while its lease lasts,
 * and asks otherwise (§6.4.1). `Leader`: any server has the leader confirm it, and answers from its own state.
 */
export type ReadBy = "Round" | "Lease" | "Leader"

export type Event =
  /** Time has passed; send it when `nextDeadlineMs` has come. */
  | { readonly _tag: "Ticked" }
  | { readonly _tag: "Received"; readonly from: NodeId; readonly message: Message }
  /** The state machine has applied everything up to `index`, and the log's own time is `logTimeMs` there. */
  | { readonly _tag: "Applied"; readonly index: LogIndex; readonly logTimeMs: number }
  /** Messages to `peer` may have been lost: its connection broke or its queue overflowed. */
  | { readonly _tag: "PeerLost"; readonly peer: NodeId }
  /** This server's own snapshot is durable. */
  | { readonly _tag: "SnapshotTaken"; readonly snapshot: Snapshot }
  /** It could not be taken, and nothing has changed. */
  | { readonly _tag: "SnapshotFailed" }
  /** All of the latest snapshot is at `peer`. */
  | { readonly _tag: "SnapshotSent"; readonly peer: NodeId }
  /** A piece of a snapshot came in from the leader of `term`: it is alive. */
  | { readonly _tag: "SnapshotPieceReceived"; readonly from: NodeId; readonly term: Term }
  /** A snapshot from the leader of `term` came in whole, was checked, and is durable beside the present one. */
  | { readonly _tag: "SnapshotReceived"; readonly from: NodeId; readonly term: Term; readonly snapshot: Snapshot }
  | { readonly _tag: "Propose"; readonly proposals: ReadonlyArray<Proposal> }
  | { readonly _tag: "OpenSession"; readonly requestId: RequestId }
  | { readonly _tag: "Read"; readonly requestIds: ReadonlyArray<RequestId>; readonly by: ReadBy }
  /** Change the configuration: all of `changes` at once. */
  | { readonly _tag: "Reconfigure"; readonly requestId: RequestId; readonly changes: ReadonlyArray<Change> }
  /** Make `to` the leader; `undefined`: whoever is best suited. */
  | { readonly _tag: "TransferLeadership"; readonly requestId: RequestId; readonly to: NodeId | undefined }

export const ticked: Event = { _tag: "Ticked" }
