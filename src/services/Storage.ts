/**
 * What a server keeps on stable storage (paper Figure 2: "updated on stable storage before responding to RPCs").
 * Implementations: `layers/StorageMemory.ts`, `layers/StorageFile.ts`; `test/contracts/storage.ts` is the contract.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { HardState, Write } from "../domain/Command.ts"
import type { Configuration } from "../domain/Configuration.ts"
import type { Entry } from "../domain/Entry.ts"
import type { NodeId } from "../domain/NodeId.ts"

/**
 * The storage cannot keep its promise. The node that meets one stops: after a failed sync nothing is known about what is on
 * disk, so nothing is tried again. `message` says what happened, where, and what to do.
 */
export class StorageError extends Schema.TaggedError<StorageError>()("StorageError", {
  reason: Schema.Literals(["Locked", "Foreign", "Corrupt", "Unsupported", "DiskFull", "Failed"]),
  path: Schema.String,
  message: Schema.String
}) {}

/** Whose storage this is, fixed when it is first made. */
export interface Identity {
  readonly clusterId: string
  readonly nodeId: NodeId
}

/** What survived. Entries are contiguous; the first has index 1. */
export interface Recovered {
  readonly hardState: HardState
  /** The configuration in force before the first entry. */
  readonly configuration: Configuration
  readonly entries: ReadonlyArray<Entry>
}

export class Storage extends Context.Service<Storage, {
  readonly identity: Identity
  /** Reads what is on disk, once, before anything is persisted. New storage first makes `initial` durable as its configuration. */
  readonly recover: (initial: Configuration) => Effect.Effect<Recovered, StorageError>
  /**
   * Returns once `write` is durable: it survives `kill -9` and power loss. Called by one fiber, one write at a time. A write whose first
   * entry is not past the last one stored replaces everything from there on. An empty write returns at once.
   */
  readonly persist: (write: Write) => Effect.Effect<void, StorageError>
}>()("titan/Storage") {}
