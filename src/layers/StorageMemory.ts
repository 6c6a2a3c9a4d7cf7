/**
 * `Storage` on a disk that is a value: it outlives the layer, so that a node can be stopped, or crashed, and started
 * again on it.
 *
 * The disk knows what was synced. A write is pending first and durable when its sync ends; a crash loses what is
 * pending. The same calls in the same order give the same disk: its only clock is Effect's, and it draws nothing at
 * random.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type HardState, isEmptyWrite, type Write } from "../domain/Command.ts"
import type { Configuration } from "../domain/Configuration.ts"
import type { Entry } from "../domain/Entry.ts"
import { type Identity, type Recovered, Storage, StorageError } from "../services/Storage.ts"

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
   * term and vote, if it has them, and then its entries one by one.
   */
  readonly tear: (units: number) => Effect.Effect<void>
  /**
   * Why the next sync to end fails, if it does. What it was to make durable stays pending, and the layer fails from then on.
   */
  nextFailure: "DiskFull" | "Failed" | undefined
  /** The first call that the contract of `Storage` does not allow. It failed because of its caller, not because of the disk. */
  readonly misuse: () => StorageError | undefined
}

/** What survives a crash. */
export interface Durable {
  readonly hardState: HardState
  readonly entries: ReadonlyArray<Entry>
}

/** A disk, as the layer sees it. */
class MemoryDisk implements Disk {
  readonly identity: Identity
  syncDelayMs: number
  isUnreadable = false
  hardState: HardState = { term: 0, votedFor: undefined }
  configuration: Configuration | undefined
  readonly entries: Array<Entry> = []
  /** Written and not yet durable, in order. */
  pending: Array<Write> = []
  nextFailure: "DiskFull" | "Failed" | undefined
  /** Whoever has the disk open; a crash takes it away. */
  holder: object | undefined

  constructor(identity: Identity, syncDelayMs: number) {
    this.identity = identity
    this.syncDelayMs = syncDelayMs
  }

  misused: StorageError | undefined

  readonly misuse = () => this.misused

  readonly durable = (): Durable => this

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
  options: { readonly clusterId: string; readonly nodeId: string; readonly syncDelayMs?: number }
): Disk => new MemoryDisk({ clusterId: options.clusterId, nodeId: options.nodeId }, options.syncDelayMs ?? 0)

const lastIndexOf = (disk: MemoryDisk): number => {
  let last = disk.entries.length
  for (const { entries } of disk.pending) last = entries[entries.length - 1]?.index ?? last
  return last
}

/** The first of `writes`, the last of them in part. */
const firstUnits = (writes: ReadonlyArray<Write>, units: number): Array<Write> => {
  let left = units
  const kept: Array<Write> = []
  for (const { entries, hardState } of writes) {
    const hardStateUnits = hardState === undefined ? 0 : 1
    if (left < hardStateUnits || left === 0) break
    kept.push({ hardState, entries: entries.slice(0, left - hardStateUnits) })
    left -= Math.min(left, hardStateUnits + entries.length)
  }
  return kept
}

/** All that is pending becomes durable. */
const settle = (disk: MemoryDisk): void => {
  for (const { entries, hardState } of disk.pending) {
    disk.hardState = hardState ?? disk.hardState
    const first = entries[0]
    if (first === undefined) continue
    disk.entries.length = first.index - 1
    for (const entry of entries) disk.entries.push(entry)
  }
  disk.pending = []
}

const failure = (reason: StorageError["reason"], message: string): StorageError =>
  new StorageError({ reason, path, message })

const misuse = (disk: MemoryDisk, reason: StorageError["reason"], message: string): StorageError => {
  const error = failure(reason, message)
  disk.misused ??= error
  return error
}

/** Makes what is pending durable, for the layer that opened the disk as `holder`. */
const sync = Effect.fnUntraced(function*(disk: MemoryDisk, holder: object) {
  if (disk.syncDelayMs > 0) yield* Effect.sleep(disk.syncDelayMs)
  if (disk.holder !== holder) return yield* Effect.never
  const reason = disk.nextFailure
  disk.nextFailure = undefined
  if (reason === undefined) return settle(disk)
  return yield* failure(reason, reason === "DiskFull" ? "the disk is full: free space" : "a sync failed: start again")
})

const open = (disk: MemoryDisk) =>
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

const make = Effect.fnUntraced(function*(disk: MemoryDisk) {
  const holder = yield* open(disk)
  let failed: StorageError | undefined = failure("Failed", "nothing can be written before recovery")
  let isRecovered = false

  const fail = (error: StorageError) => {
    failed = error
    return Effect.fail(error)
  }

  const recover = Effect.fnUntraced(function*(initial: Configuration) {
    if (disk.holder !== holder) return yield* Effect.never
    if (isRecovered) return yield* misuse(disk, "Failed", "the disk was recovered already; that is done once")
    if (disk.isUnreadable) {
      return yield* failure("Corrupt", "a sector cannot be read: restore the disk, or replace the node")
    }
    if (disk.configuration === undefined) {
      yield* sync(disk, holder)
      disk.configuration = initial
    }
    isRecovered = true
    failed = undefined
    const { configuration, entries, hardState } = disk
    return { hardState, configuration, entries: entries.slice() } satisfies Recovered
  })

  const persist = (write: Write): Effect.Effect<void, StorageError> => {
    if (disk.holder !== holder) return Effect.never
    if (failed !== undefined) return Effect.fail(failed)
    if (isEmptyWrite(write)) return Effect.void
    const index = write.entries[0]?.index ?? 1
    const lastIndex = lastIndexOf(disk)
    if (index < 1 || index > lastIndex + 1) {
      return fail(misuse(disk, "Failed", `entries from index ${index} do not follow a log that ends at ${lastIndex}`))
    }
    disk.pending.push(write)
    return Effect.catch(sync(disk, holder), fail)
  }

  return Storage.of({ identity: disk.identity, recover, persist: (write) => Effect.suspend(() => persist(write)) })
})

/** A layer on `disk`. Building it fails with reason "Locked" while another layer has the disk open. */
export const layer = (options: { readonly disk: Disk }): Layer.Layer<Storage, StorageError> =>
  Layer.effect(
    Storage,
    options.disk instanceof MemoryDisk
      ? make(options.disk)
      : Effect.die(new Error("a disk is made by StorageMemory.makeDisk"))
  )
