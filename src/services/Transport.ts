/**
 * How messages reach other servers. Raft asks for little (paper §5.5): messages may be lost, delayed, duplicated and reordered; they
 * may not be altered or come from another cluster. `test/contracts/transport.ts` is the contract.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Configuration } from "../domain/Configuration.ts"
import type { EntryId, Term } from "../domain/Entry.ts"
import type { Event } from "../domain/Event.ts"
import type { Message } from "../domain/Message.ts"
import type { NodeId } from "../domain/NodeId.ts"
import type { Snapshot } from "../domain/Snapshot.ts"

/** A piece of a snapshot (paper Figure 13). Drivers exchange them; the core hears of whole snapshots only. */
export interface InstallSnapshot {
  readonly _tag: "InstallSnapshot"
  /** The leader's. */
  readonly term: Term
  readonly snapshot: Snapshot
  /** Where `bytes` belong. */
  readonly offset: number
  /** The file's from `offset` on. None at all: only asks how much has arrived. */
  readonly bytes: Uint8Array
}

export type InstallSnapshotResult =
  /** Everything before `offset` has arrived: go on there. */
  | { readonly _tag: "Expects"; readonly offset: number }
  /** All of it has arrived and is what it should be. */
  | { readonly _tag: "Received" }
  /** All of it has arrived, and is damaged. */
  | { readonly _tag: "Damaged" }

export interface InstallSnapshotResponse {
  readonly _tag: "InstallSnapshotResponse"
  /** The term of the request. */
  readonly term: Term
  readonly last: EntryId
  readonly result: InstallSnapshotResult
}

/** What travels between servers. */
export type PeerMessage = Message | InstallSnapshot | InstallSnapshotResponse

/** What a transport reports to its node. */
export type Inbound =
  | { readonly _tag: "Received"; readonly from: NodeId; readonly message: PeerMessage }
  | Extract<Event, { readonly _tag: "PeerLost" }>

export class Transport extends Context.Service<Transport, {
  /**
   * Hands `message` over for delivery and returns at once; from then on nothing in it may change. Never fails: loss is silence, and
   * `PeerLost` is only a hint.
   */
  readonly send: (to: NodeId, message: PeerMessage) => Effect.Effect<void>
  /**
   * Which servers there are from now on, and where: called before anything else, and whenever that changes. From then on each member is reached
   * where the configuration says, unless the transport was told otherwise of its own. Whoever is no member is heard all the same, and what is sent
   * to one that was heard arrives (rule V4): it may be a member of a later configuration, or was one of an earlier.
   *
   * `committed` is the latest configuration that is known to stay; `configuration` where it is left out. A server that is only in that one may be a
   * member again in a moment, and is the same server then.
   */
  readonly reconfigure: (configuration: Configuration, committed?: Configuration) => Effect.Effect<void>
  /** Calls `deliver` synchronously for everything that arrives, until the scope closes. One receiver at a time. */
  readonly inbound: (deliver: (event: Inbound) => void) => Effect.Effect<void, never, Scope.Scope>
}>()("titan/Transport") {}
