/**
 * A disk that is a value: what is durable on it, what is pending, and what a crash leaves of that.
 */
import * as Effect from "effect/Effect"
import type { Buffer } from "node:buffer"
import { randomBytes } from "node:crypto"
import type { HardState, Start } from "../../domain/Command.ts"
import { type Configuration, ofVoters } from "../../domain/Configuration.ts"
import { type Entry, type EntryId, origin } from "../../domain/Entry.ts"
import { none, type Snapshot } from "../../domain/Snapshot.ts"
import { type Identity, type KnownDisks, noKnownDisks, StorageError } from "../../services/Storage.ts"

export interface Disk {
  readonly identity: Identity
  /** How long a sync takes, in milliseconds of Effect's Clock; 0 for at once. May be changed between syncs. */
  syncDelayMs: number
  /** While true, recovery meets a sector that it cannot read, and fails with reason "Corrupt". */
  isUnreadable: boolean
  /** What would be found after a crash now. */
  readonly durable: () => Durable
  /** Power is lost: what is not durable is gone, and calls on layers built so far never return. */
  readonly crash: Effect.Effect<void>
  /**
   * A crash in the middle of a write: of what is pending, its first `units` happen to survive. The units of a write are its
   * term and vote, if it has them; then a snapshot that it installs, and the new beginning of the log, where that is one; and
   * then its entries one by one. A snapshot without the new beginning is what recovery completes.
   */
  readonly tear: (units: number) => Effect.Effect<void>
  /**
   * Why the next sync to end fails, if it does. What it was to make durable stays pending, and the layer fails from then on.
   */
  nextFailure: "DiskFull" | "Failed" | undefined
  /** The first call that the contract of `Storage` does not allow. It failed because of its caller, not because of the disk. */
  readonly misuse: () => StorageError | undefined
  /** A byte of the latest snapshot changes, if there is one. Who reads it next, or recovers, meets that. */
  readonly damageSnapshot: () => void
}

/** What survives a crash. It changes with the disk: look at it now. */
export interface Durable {
  readonly hardState: HardState
  /** The latest; `Snapshot.none` where there is none. */
  readonly snapshot: Snapshot
  /** The entry before the first of `entries`. */
  readonly prev: EntryId
  /** In force at `prev`; `undefined` before the first recovery. */
  readonly configuration: Configuration | undefined
  readonly entries: ReadonlyArray<Entry>
}

/** A snapshot and its bytes. */
export interface File {
  readonly snapshot: Snapshot
  readonly bytes: Buffer
}

/** A write on its way to the disk. */
export interface Pending {
  readonly hardState: HardState | undefined
  readonly installed: File | undefined
  /** Where the log begins anew. */
  readonly reset: Start | undefined
  readonly entries: ReadonlyArray<Entry>
}

/** A disk, as the layer sees it. */
export class MemoryDisk implements Disk {
  readonly identity: Identity
  syncDelayMs: number
  isUnreadable = false
  hardState: HardState = { term: 0, votedFor: undefined }
  configuration: Configuration | undefined
  prev: EntryId = origin
  readonly entries: Array<Entry> = []
  snapshot: Snapshot = none(ofVoters([]))
  /** The bytes of the latest snapshot, whole or not. */
  file: Buffer | undefined
  /** Written and not yet durable, in order. */
  pending: Array<Pending> = []
  nextFailure: "DiskFull" | "Failed" | undefined
  knownDisks: KnownDisks = noKnownDisks
  /** Whoever has the disk open; a crash takes it away. */
  holder: object | undefined

  constructor(identity: Identity, syncDelayMs: number) {
    this.identity = identity
    this.syncDelayMs = syncDelayMs
  }

  misused: StorageError | undefined

  readonly misuse = () => this.misused

  readonly durable = (): Durable => this

  readonly damageSnapshot = (): void => {
    const { file } = this
    if (file !== undefined) file.writeUInt8(file.readUInt8(file.length >> 1) ^ 1, file.length >> 1)
  }

  readonly crash = Effect.sync(() => {
    this.holder = undefined
  })

  readonly tear = (units: number) =>
    Effect.sync(() => {
      this.holder = undefined
      this.pending = firstUnits(this.pending, units)
      settle(this)
    })
}

const path = "memory"

/** A new, empty disk. It belongs to `nodeId` of `clusterId` for good. */
export const makeDisk = (
  { clusterId, nodeId, syncDelayMs = 0 }: {
    readonly clusterId: string
    readonly nodeId: string
    readonly syncDelayMs?: number
  }
): Disk => new MemoryDisk({ clusterId, nodeId, diskId: randomBytes(16).toString("hex") }, syncDelayMs)

/** The indices before the first and of the last entry, once all that is pending is durable. */
export const boundsOf = ({ entries, pending, prev }: MemoryDisk): { readonly prev: number; readonly last: number } => {
  let bounds = { prev: prev.index, last: prev.index + entries.length }
  for (const { entries, reset } of pending) {
    if (reset !== undefined) bounds = { prev: reset.prev.index, last: reset.prev.index }
    bounds = { prev: bounds.prev, last: entries[entries.length - 1]?.index ?? bounds.last }
  }
  return bounds
}

/** The first of `writes`, the last of them in part. */
const firstUnits = (writes: ReadonlyArray<Pending>, units: number): Array<Pending> => {
  let left = units
  const first = <A>(unit: A | undefined): A | undefined => unit === undefined || left-- <= 0 ? undefined : unit
  const kept: Array<Pending> = []
  for (const write of writes) {
    const hardState = first(write.hardState)
    const installed = first(write.installed)
    const reset = first(write.reset)
    const entries = write.entries.slice(0, Math.max(0, left))
    left -= write.entries.length
    kept.push({ hardState, installed, reset, entries })
  }
  return kept
}

export const makeLatest = (disk: MemoryDisk, { bytes, snapshot }: File): void => {
  if (snapshot.last.index < disk.snapshot.last.index) return
  disk.snapshot = snapshot
  disk.file = bytes
}

export const beginAnew = (disk: MemoryDisk, { configuration, prev }: Start): void => {
  disk.prev = prev
  disk.configuration = configuration
  disk.entries.length = 0
}

/** All that is pending becomes durable. */
export const settle = (disk: MemoryDisk): void => {
  for (const { entries, hardState, installed, reset } of disk.pending) {
    disk.hardState = hardState ?? disk.hardState
    if (installed !== undefined) makeLatest(disk, installed)
    if (reset !== undefined) beginAnew(disk, reset)
    const first = entries[0]
    if (first === undefined) continue
    disk.entries.length = first.index - 1 - disk.prev.index
    for (const entry of entries) disk.entries.push(entry)
  }
  disk.pending = []
}

export const failure = (reason: StorageError["reason"], message: string): StorageError =>
  new StorageError({ reason, path, message })

export const misuse = (disk: MemoryDisk, reason: StorageError["reason"], message: string): StorageError => {
  const error = failure(reason, message)
  disk.misused ??= error
  return error
}

/** Ends once the disk has synced what the layer that opened it as `holder` wrote; does what that makes durable. */
export const sync = Effect.fnUntraced(function*(disk: MemoryDisk, holder: object, makeDurable: () => void) {
  if (disk.syncDelayMs > 0) yield* Effect.sleep(disk.syncDelayMs)
  if (disk.holder !== holder) return yield* Effect.never
  const reason = disk.nextFailure
  disk.nextFailure = undefined
  if (reason === undefined) return makeDurable()
  return yield* failure(reason, reason === "DiskFull" ? "the disk is full: free space" : "a sync failed: start again")
})

export const open = (disk: MemoryDisk) =>
  Effect.acquireRelease(
    Effect.suspend(() => {
      if (disk.holder !== undefined) {
        return Effect.fail(
          misuse(disk, "Locked", `the disk of ${disk.identity.nodeId} is in use: close that layer first`)
        )
      }
      disk.holder = {}
      // What was not durable went with the process that wrote it.
      disk.pending = []
      return Effect.succeed(disk.holder)
    }),
    (holder) =>
      Effect.sync(() => {
        if (disk.holder === holder) disk.holder = undefined
      })
  )
