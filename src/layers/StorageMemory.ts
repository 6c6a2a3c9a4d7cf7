/**
 * `Storage` on a disk that is a value: it outlives the layer, so that a node can be stopped, or crashed, and started
 * again on it.
 *
 * The disk knows what was synced. A write is pending first and durable when its sync ends; a crash loses what is
 * pending. A snapshot is made aside, synced once, and then at once the latest; a crash before that loses it. What is
 * remembered of other disks is at once durable when its sync ends.
 *
 * The same calls in the same order give the same disk, but for its id: its only clock is Effect's, and it draws nothing
 * else at random.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import { isEmptyWrite, type Start, type Write } from "../domain/Command.ts"
import type { Configuration } from "../domain/Configuration.ts"
import type { EntryId } from "../domain/Entry.ts"
import { none, type Snapshot } from "../domain/Snapshot.ts"
import {
  type KnownDisks,
  type Recovered,
  type SnapshotReader,
  type SnapshotWriter,
  Storage,
  type StorageError
} from "../services/Storage.ts"
import {
  beginAnew,
  boundsOf,
  type Disk,
  failure,
  type File,
  makeLatest,
  MemoryDisk,
  misuse,
  open,
  settle,
  sync
} from "./memory/Disk.ts"
import * as SnapshotFormat from "./SnapshotFormat.ts"

export { type Disk, type Durable, makeDisk } from "./memory/Disk.ts"

const pieceBytes = 1 << 16

const check = (bytes: Buffer): SnapshotFormat.Checked => {
  const checker = SnapshotFormat.checker(bytes.length)
  checker.add(bytes)
  return checker.end()
}

const damageOf = (bytes: Buffer): string | undefined => {
  const checked = check(bytes)
  return checked._tag === "Damaged" ? `the snapshot is damaged at byte ${checked.at}: ${checked.problem}` : undefined
}

/** Everything that the layer that has the disk open may do, until a crash takes the disk away or a sync fails. */
class Session {
  readonly #disk: MemoryDisk
  readonly #holder: object
  readonly #received = new Map<string, File>()
  #failed: StorageError | undefined = failure("Failed", "nothing can be done before recovery")
  #isRecovered = false

  constructor(disk: MemoryDisk, holder: object) {
    this.#disk = disk
    this.#holder = holder
  }

  /** Runs `use` unless the disk is gone, in which case nothing ever ends, or has failed. */
  readonly #whileOpen = <A, R>(use: () => Effect.Effect<A, StorageError, R>): Effect.Effect<A, StorageError, R> =>
    Effect.suspend(() => {
      if (this.#disk.holder !== this.#holder) return Effect.never
      return this.#failed === undefined ? use() : Effect.fail(this.#failed)
    })

  readonly #fail = (error: StorageError): Effect.Effect<never, StorageError> => {
    this.#failed = error
    return Effect.fail(error)
  }

  readonly #sync = (makeDurable: () => void): Effect.Effect<void, StorageError> =>
    Effect.catch(sync(this.#disk, this.#holder, makeDurable), this.#fail)

  /** Of a file beside the log: where there is no room for it, nothing else is the worse for that. */
  readonly #syncBeside = (makeDurable: () => void): Effect.Effect<void, StorageError> =>
    Effect.catchIf(sync(this.#disk, this.#holder, makeDurable), (error) => error.reason !== "DiskFull", this.#fail)

  readonly rememberDisks = (known: KnownDisks): Effect.Effect<void, StorageError> =>
    Effect.suspend(() =>
      this.#disk.holder === this.#holder
        ? sync(this.#disk, this.#holder, () => void (this.#disk.knownDisks = known))
        : Effect.never
    )

  readonly recover = (initial: Configuration): Effect.Effect<Recovered, StorageError> =>
    Effect.suspend(() => this.#disk.holder === this.#holder ? this.#recoverOnce(initial) : Effect.never)

  readonly #recoverOnce = Effect.fnUntraced({ self: this }, function*(initial: Configuration) {
    const disk = this.#disk
    if (this.#isRecovered) return yield* misuse(disk, "Failed", "the disk was recovered already; that is done once")
    if (disk.isUnreadable) {
      return yield* failure("Corrupt", "a sector cannot be read: restore the disk, or replace the node")
    }
    if (disk.configuration === undefined) {
      yield* sync(disk, this.#holder, () => {
        disk.configuration = initial
        disk.snapshot = none(initial)
      })
    }
    const damage = disk.file === undefined ? undefined : damageOf(disk.file)
    if (damage !== undefined) {
      yield* Effect.logWarning(`A snapshot is of no use: ${damage}`)
      disk.snapshot = none(disk.configuration ?? initial)
    }
    const { snapshot } = disk
    if (snapshot.last.index > 0 && !SnapshotFormat.isHeld(snapshot.last, disk.prev, disk.entries)) {
      yield* sync(
        disk,
        this.#holder,
        () => beginAnew(disk, { prev: snapshot.last, configuration: snapshot.configuration })
      )
    }
    this.#isRecovered = true
    this.#failed = undefined
    const { configuration = initial, entries, hardState, prev } = disk
    const lost = prev.index > 0 ? damage : undefined
    return { hardState, snapshot, prev, configuration, entries: entries.slice(), damage: lost } satisfies Recovered
  })

  readonly persist = (write: Write): Effect.Effect<void, StorageError> =>
    this.#whileOpen(() => {
      if (isEmptyWrite(write)) return Effect.void
      const disk = this.#disk
      const { entries, hardState, install } = write
      const installed = install === undefined ? undefined : this.#received.get(nameOf(install.snapshot.last))
      if (install !== undefined && installed === undefined) {
        return this.#fail(misuse(disk, "Failed", `no snapshot ${nameOf(install.snapshot.last)} was received`))
      }
      const reset = install === undefined || install.keepsLog ? undefined : startAt(install.snapshot)
      const bounds = boundsOf(disk)
      const begin = reset?.prev.index ?? bounds.prev
      const end = reset?.prev.index ?? bounds.last
      const index = entries[0]?.index ?? end + 1
      if (begin < bounds.prev || index <= begin || index > end + 1) {
        const log = `a log that begins after ${begin} and ends at ${end}`
        return this.#fail(misuse(disk, "Failed", `entries from index ${index} do not follow ${log}`))
      }
      if (install !== undefined) this.#received.delete(nameOf(install.snapshot.last))
      disk.pending.push({ hardState, installed, reset, entries })
      return this.#sync(() => settle(disk))
    })

  readonly saveSnapshot = (
    { configuration, last }: Pick<Snapshot, "last" | "configuration">,
    content: Stream.Stream<Uint8Array>
  ): Effect.Effect<Snapshot, StorageError> =>
    this.#whileOpen(Effect.fnUntraced({ self: this }, function*() {
      const { clusterId, nodeId } = this.#disk.identity
      const encoder = SnapshotFormat.encoder({ clusterId, takenBy: nodeId, last, configuration })
      const pieces: Array<Uint8Array> = [encoder.head]
      yield* Stream.runForEach(content, (bytes) =>
        Effect.sync(() => {
          encoder.add(bytes)
          pieces.push(new Uint8Array(bytes))
        }))
      const bytes = Buffer.concat([...pieces, encoder.trailer()])
      const file: File = { snapshot: { last, configuration, sizeBytes: bytes.length }, bytes }
      yield* this.#syncBeside(() => makeLatest(this.#disk, file))
      return this.#disk.snapshot
    }))

  readonly openSnapshot: Effect.Effect<SnapshotReader | undefined, StorageError> = this.#whileOpen(() => {
    const { file, snapshot } = this.#disk
    return Effect.succeed(
      file === undefined || snapshot.last.index === 0 ? undefined : this.#readerOf({ snapshot, bytes: file })
    )
  })

  readonly #readerOf = ({ bytes, snapshot }: File): SnapshotReader => {
    const read = (offset: number, length: number) =>
      this.#whileOpen(() => Effect.succeed(new Uint8Array(bytes.subarray(offset, offset + length))))
    const content = Stream.unwrap(this.#whileOpen(() => {
      const checked = check(bytes)
      if (checked._tag !== "Whole") return Effect.fail(failure("Corrupt", damageOf(bytes) ?? "the snapshot is unknown"))
      const end = checked.contentAt + checked.contentBytes
      return Effect.succeed(Stream.unfold(checked.contentAt, (at) => {
        const to = Math.min(at + pieceBytes, end)
        return at < end ? Effect.map(read(at, to - at), (piece) => [piece, to] as const) : Effect.undefined
      }))
    }))
    return { snapshot, content, read }
  }

  readonly receiveSnapshot = (snapshot: Snapshot): Effect.Effect<SnapshotWriter, StorageError> =>
    this.#whileOpen(() => {
      const pieces: Array<Uint8Array> = []
      const checker = SnapshotFormat.checker(snapshot.sizeBytes)
      let isFinished = false
      const unlessFinished = <A>(use: () => Effect.Effect<A, StorageError>) =>
        this.#whileOpen(() =>
          isFinished
            ? Effect.fail(misuse(this.#disk, "Failed", "no more can be written to a snapshot that is finished"))
            : use()
        )
      const write = (bytes: Uint8Array) =>
        unlessFinished(() => {
          checker.add(bytes)
          pieces.push(new Uint8Array(bytes))
          return Effect.void
        })
      const finish = unlessFinished(() => {
        isFinished = true
        const problem = SnapshotFormat.mismatch(checker.end(), snapshot, this.#disk.identity.clusterId)
        if (problem !== undefined) return Effect.succeed(problem)
        const file: File = { snapshot, bytes: Buffer.concat(pieces) }
        return Effect.as(this.#syncBeside(() => this.#received.set(nameOf(snapshot.last), file)), undefined)
      })
      return Effect.succeed({ write, finish })
    })

  readonly discardSnapshot = (last: EntryId): Effect.Effect<void, StorageError> =>
    this.#whileOpen(() => Effect.sync(() => void this.#received.delete(nameOf(last))))

  /** At once durable: of a compaction that is not, a crash leaves only a longer log. */
  readonly compact = ({ configuration, prev }: Start): Effect.Effect<void, StorageError> =>
    this.#whileOpen(() => {
      const disk = this.#disk
      const count = prev.index - disk.prev.index
      if (count <= 0) return Effect.void
      const { index } = disk.snapshot.last
      if (prev.index > index) {
        const problem = `no snapshot stands for the entries up to ${prev.index}: the latest ends at ${index}`
        return Effect.fail(misuse(disk, "Failed", problem))
      }
      if (count > disk.entries.length) {
        const problem = `a log that ends at ${disk.prev.index + disk.entries.length} cannot begin after ${prev.index}`
        return this.#fail(misuse(disk, "Failed", problem))
      }
      disk.entries.splice(0, count)
      disk.prev = prev
      disk.configuration = configuration
      return Effect.void
    })
}

const nameOf = ({ index, term }: EntryId): string => `${index}-${term}`

const startAt = ({ configuration, last }: Snapshot): Start => ({ prev: last, configuration })

const make = Effect.fnUntraced(function*(disk: MemoryDisk) {
  const session = new Session(disk, yield* open(disk))
  const { compact, discardSnapshot, openSnapshot, persist, receiveSnapshot, recover, rememberDisks, saveSnapshot } =
    session
  return Storage.of({
    identity: disk.identity,
    knownDisks: disk.knownDisks,
    rememberDisks,
    recover,
    persist,
    saveSnapshot,
    openSnapshot,
    receiveSnapshot,
    discardSnapshot,
    compact
  })
})

/** A layer on `disk`. Building it fails with reason "Locked" while another layer has the disk open. */
export const layer = (options: { readonly disk: Disk }): Layer.Layer<Storage, StorageError> =>
  Layer.effect(
    Storage,
    options.disk instanceof MemoryDisk
      ? make(options.disk)
      : Effect.die(new Error("a disk is made by StorageMemory.makeDisk"))
  )
