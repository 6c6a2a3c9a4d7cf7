/**
 * What can happen to a node. Events that report are past tense, events that ask are verbs.
 */
import type { LogIndex } from "./Entry.ts"
import type { Message } from "./Message.ts"
import type { NodeId } from "./NodeId.ts"

/** Names one request of a local caller; the driver makes it and maps it back. */
export type RequestId = number

export interface Proposal {
  readonly requestId: RequestId
  readonly bytes: Uint8Array
}

export type Event =
  /** Time has passed; send it when `nextDeadlineMs` has come. */
  | { readonly _tag: "Ticked" }
  | { readonly _tag: "Received"; readonly from: NodeId; readonly message: Message }
  /** The state machine has applied everything up to `index`. */
  | { readonly _tag: "Applied"; readonly index: LogIndex }
  /** Messages to `peer` may have been lost: its connection broke or its queue overflowed. */
  | { readonly _tag: "PeerLost"; readonly peer: NodeId }
  | { readonly _tag: "Propose"; readonly proposals: ReadonlyArray<Proposal> }
  | { readonly _tag: "Read"; readonly requestIds: ReadonlyArray<RequestId> }

export const ticked: Event = { _tag: "Ticked" }
