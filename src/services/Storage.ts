/**
 * What a server keeps on stable storage (paper Figure 2: "updated on stable storage before responding to RPCs").
 * Implementations: `layers/StorageMemory.ts`, `layers/StorageFile.ts`; `test/contracts/storage.ts` is the contract.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { HardState, Start, Write } from "../domain/Command.ts"
import type { Configuration } from "../domain/Configuration.ts"
import type { Entry, EntryId } from "../domain/Entry.ts"
import type { NodeId } from "../domain/NodeId.ts"
import type { Snapshot } from "../domain/Snapshot.ts"

/**
 * The storage cannot keep its promise. The node that meets one stops: after a failed sync nothing is known about what is on
 * disk, so nothing is tried again. `message` says what happened, where, and what to do.
 */
export class StorageError extends Schema.TaggedError<StorageError>()("StorageError", {
  reason: Schema.Literals(["Locked", "Foreign", "Corrupt", "Unsupported", "DiskFull", "Failed"]),
  path: Schema.String,
  message: Schema.String
}) {}

/** Names a storage for good: 32 random hexadecimal digits, made with it. Another one under the same server's name means that the first is lost. */
export type DiskId = string

export const isDiskId = (text: string): boolean => /^[0-9a-f]{32}$/.test(text)

/** Whose storage this is, and which, fixed when it is first made. */
export interface Identity {
  readonly clusterId: string
  readonly nodeId: NodeId
  readonly diskId: DiskId
}

/** What a server remembers of the disks of its cluster, beside its log (`docs/decisions/0007-lost-disks.md`). */
export interface KnownDisks {
  /** Whether this disk takes part: the other servers were asked, once, and none knew another one under this server's name. */
  readonly isAdmitted: boolean
  /** Which disk was first met under the name of each other member. */
  readonly disks: ReadonlyMap<NodeId, DiskId>
}

/** New storage knows nothing. */
export const noKnownDisks: KnownDisks = { isAdmitted: false, disks: new Map() }

/** What survived. */
export interface Recovered {
  readonly hardState: HardState
  /** The latest snapshot that is whole; `Snapshot.none` where there is none. Its last entry is `prev` or among `entries`, or `damage` says why not. */
  readonly snapshot: Snapshot
  /** The entry before the first of `entries`: the origin while the log is whole. */
  readonly prev: EntryId
  /** In force at `prev`. */
  readonly configuration: Configuration
  /** Contiguous. */
  readonly entries: ReadonlyArray<Entry>
  /** Why the state at `prev` is not here, where it is not: the snapshot is damaged or gone. Only a leader's snapshot brings it back. */
  readonly damage: string | undefined
}

/** A snapshot that can be read. */
export interface SnapshotReader {
  readonly snapshot: Snapshot
  /** What `saveSnapshot` was given. All of it is checked before any of it comes; fails with "Corrupt". */
  readonly content: Stream.Stream<Uint8Array, StorageError>
  /** The file, as it travels: `length` bytes from `offset` on, or up to its end. Nobody changes them later. */
  readonly read: (offset: number, length: number) => Effect.Effect<Uint8Array, StorageError>
}

/** A snapshot that comes in, piece by piece in order. Closing its scope before `finish` has ended forgets it. */
export interface SnapshotWriter {
  readonly write: (bytes: Uint8Array) => Effect.Effect<void, StorageError>
  /**
   * All has come: makes it durable beside the present snapshot, where a write with `install` finds it. Gives the reason why it is not what it
   * should be (its checksum, its cluster, what it stands for) and forgets it then; `undefined` when all is well.
   */
  readonly finish: Effect.Effect<string | undefined, StorageError>
}

export class Storage extends Context.Service<Storage, {
  readonly identity: Identity
  /** What `rememberDisks` was last given when this storage was opened; `noKnownDisks` where it never was. */
  readonly knownDisks: KnownDisks
  /**
   * Returns once `known` is durable in place of what was remembered before; when it fails that stays, and the storage goes on. Called one at a
   * time; runs beside everything else, also before `recover`.
   */
  readonly rememberDisks: (known: KnownDisks) => Effect.Effect<void, StorageError>
  /** Reads what is on disk, once, before anything is persisted. New storage first makes `initial` durable as its configuration. */
  readonly recover: (initial: Configuration) => Effect.Effect<Recovered, StorageError>
  /**
   * Returns once `write` is durable: it survives `kill -9` and power loss. Called by one fiber, one write at a time. A write whose first
   * entry is not past the last one stored replaces everything from there on. One with `install` makes the snapshot received with that last
   * entry the latest, unless a later one is; where `keepsLog` is false the log is empty after that, and goes on behind `install.snapshot.last`.
   * An empty write returns at once.
   */
  readonly persist: (write: Write) => Effect.Effect<void, StorageError>
  /**
   * Writes `content` as the snapshot of the entries up to `last`. Returns once it is durable and the latest; one that is later already stays,
   * and is given instead. Runs beside `persist`. When it is interrupted, `content` dies or it fails with "DiskFull", everything is as
   * before, and the storage goes on.
   */
  readonly saveSnapshot: (
    of: Pick<Snapshot, "last" | "configuration">,
    content: Stream.Stream<Uint8Array>
  ) => Effect.Effect<Snapshot, StorageError>
  /** The latest snapshot, until the scope closes: a later one does not take it away. `undefined` where there is none. */
  readonly openSnapshot: Effect.Effect<SnapshotReader | undefined, StorageError, Scope.Scope>
  /** Takes in what a leader sends as `snapshot`. */
  readonly receiveSnapshot: (snapshot: Snapshot) => Effect.Effect<SnapshotWriter, StorageError, Scope.Scope>
  /** Forgets a snapshot that was received and will not be installed. */
  readonly discardSnapshot: (last: EntryId) => Effect.Effect<void, StorageError>
  /**
   * Gives up entries up to `start.prev`, which a durable snapshot stands for; recovery then begins there, or earlier. Where it begins there
   * already, or later, nothing happens. Runs beside `persist`.
   */
  readonly compact: (start: Start) => Effect.Effect<void, StorageError>
}>()("titan/Storage") {}
