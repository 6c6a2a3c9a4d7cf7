/**
 * `Storage` in a directory: a write-ahead log of segments, and snapshots.
 *
 * - `wal/Record.ts`: the format of a record, and how a torn tail is told from damage
 * - `wal/Segment.ts`: the format of a file, and what a crash can leave of one
 * - `wal/Recovery.ts`, `wal/Writer.ts`: reading it back, and appending
 * - `wal/Lock.ts`: what keeps a second process out
 * - `SnapshotFormat.ts`: the format of a snapshot, and how a whole one is told
 * - `DisksFile.ts`: which disks the other servers have
 * - `SnapshotFile.ts`, `SnapshotRecovery.ts`: the files of snapshots, what a crash can leave of them, and what counts after it
 *
 * `docs/decisions/0002-write-ahead-log.md`, `0005-snapshots.md` and `0007-lost-disks.md` say why it is made like this.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { randomBytes } from "node:crypto"
import * as Path from "node:path"
import { type Install, isEmptyWrite, type Start, type Write } from "../domain/Command.ts"
import type { Configuration } from "../domain/Configuration.ts"
import { origin } from "../domain/Entry.ts"
import type { NodeId } from "../domain/NodeId.ts"
import { none } from "../domain/Snapshot.ts"
import { type Identity, type Recovered, Storage, StorageError } from "../services/Storage.ts"
import * as DisksFile from "./DisksFile.ts"
import * as SnapshotFile from "./SnapshotFile.ts"
import * as SnapshotRecovery from "./SnapshotRecovery.ts"
import * as File from "./wal/File.ts"
import { lock } from "./wal/Lock.ts"
import * as Recovery from "./wal/Recovery.ts"
import * as Segment from "./wal/Segment.ts"
import * as Writer from "./wal/Writer.ts"

export interface Options {
  /** Created, with those above it, unless it exists. */
  readonly directory: string
  /** Used only when the storage is first made; from then on the stored one counts. */
  readonly clusterId: string
  /** Must be the stored one, once there is one. */
  readonly nodeId: NodeId
  /** The size of a segment file, in bytes. A larger write gets a larger file. Default 16 MiB. */
  readonly segmentBytes?: number
}

const segmentBytesDefault = 16 << 20
const segmentBytesMin = Segment.headerBytes + 1024
const segmentBytesMax = 1 << 30

const failed = (path: string, message: string): StorageError => new StorageError({ reason: "Failed", path, message })

type Wanted = Omit<Identity, "diskId">

/** The headers of all segments; makes the first one, and with it the identity, where there is none. */
const openDirectory = Effect.fnUntraced(function*(directory: string, wanted: Wanted, segmentBytes: number) {
  yield* File.makeDirectory(directory)
  yield* lock(directory)
  const found = yield* Segment.list(directory)
  if (found.segments.length === 0) {
    yield* DisksFile.read(directory, undefined)
    // A crash may have come between making the directory and syncing its parent; where that cannot be read, it was not ours to make.
    yield* Effect.ignore(File.syncDirectory(Path.dirname(directory)))
    for (const path of found.blanks) yield* File.unlink(path)
    const blank = yield* Segment.makeBlank(directory, 0, segmentBytes)
    const identity: Identity = { ...wanted, diskId: randomBytes(16).toString("hex") }
    yield* Effect.ensuring(Segment.open(blank, identity, 1), File.close(blank.fd))
  }
  const { blanks, segments } = found.segments.length > 0 ? found : yield* Segment.list(directory)
  const stored = yield* Recovery.readHeaders(segments, wanted.nodeId)
  const [first] = stored
  if (first === undefined) return yield* failed(directory, `the first file of ${directory} is gone`)
  const { identity } = first.header
  const knownDisks = yield* DisksFile.read(directory, identity)
  if (identity.clusterId !== wanted.clusterId) {
    yield* Effect.logInfo("the cluster's name or its servers' addresses are not those of the first start; its id stays")
      .pipe(
        Effect.annotateLogs({ directory, cluster: identity.clusterId })
      )
  }
  return { blanks, identity, knownDisks, stored }
})

/** A storage that was recovered. */
interface Opened {
  readonly writer: Writer.Writer
  readonly snapshots: SnapshotFile.Snapshots
}

interface Directory {
  readonly directory: string
  readonly identity: Identity
  readonly segmentBytes: number
  readonly scope: Scope.Scope
}

/** Checks everything that is there, and only then changes what a crash left. */
const recover = Effect.fnUntraced(function*(
  options: Directory,
  { blanks, stored }: { readonly blanks: ReadonlyArray<string>; readonly stored: ReadonlyArray<Recovery.Stored> },
  initial: Configuration
) {
  const { directory, identity } = options
  const found = yield* Recovery.read(stored)
  const files = yield* SnapshotRecovery.examine(directory, identity)
  const { damage, isReset, snapshot } = SnapshotRecovery.decide(directory, files, found.log)
  const writer = Writer.make(options, yield* Recovery.settle(found))
  const snapshots = SnapshotFile.make(options, files, snapshot)
  const opened: Opened = { writer, snapshots }
  yield* Effect.onError(
    Effect.gen(function*() {
      // What is there may be there only until power is lost: the last process ended between a rename and its sync.
      yield* File.syncDirectory(directory)
      if (found.log.configuration === undefined) {
        yield* writer.append({ hardState: undefined, start: { ...beginning(initial), keepsLog: true }, entries: [] })
      }
      if (snapshot !== undefined && isReset) yield* writer.append({ ...resetTo(snapshot), hardState: undefined })
      for (const path of blanks) yield* File.unlink(path)
      yield* DisksFile.clean(directory)
      yield* SnapshotRecovery.clean(directory, files, snapshot)
      yield* writer.deleteOld
    }),
    () => writer.close
  )
  if (damage === undefined) {
    for (const problem of files.problems) yield* Effect.logWarning(`A snapshot is of no use: ${problem}`)
  }
  const { configuration = initial, entries, hardState = { term: 0, votedFor: undefined }, prev } = found.log
  const start: Start = isReset && snapshot !== undefined
    ? { prev: snapshot.last, configuration: snapshot.configuration }
    : { prev, configuration }
  const recovered: Recovered = {
    ...start,
    hardState,
    snapshot: snapshot ?? none(configuration),
    entries: isReset ? [] : entries,
    damage
  }
  return { opened, recovered }
})

const beginning = (configuration: Configuration): Start => ({ prev: origin, configuration })

/** A log that goes on behind a snapshot, and holds nothing yet. */
const resetTo = ({ configuration, last }: Install["snapshot"]) => ({
  start: { prev: last, configuration, keepsLog: false },
  entries: []
})

/**
 * First the vote, then the snapshot, then the entries: a crash in between leaves a term that is at least that of every entry. A snapshot
 * without its beginning of the log is what recovery completes.
 */
const persistInstall = Effect.fnUntraced(function*(
  { snapshots, writer }: Opened,
  { entries, hardState }: Write,
  { keepsLog, snapshot }: Install
) {
  if (hardState !== undefined) yield* writer.append({ hardState, start: undefined, entries: [] })
  yield* Effect.catch(snapshots.install(snapshot.last), writer.fail)
  if (!keepsLog) return yield* writer.append({ ...resetTo(snapshot), hardState: undefined, entries })
  if (entries.length > 0) yield* writer.append({ hardState: undefined, start: undefined, entries })
})

const persist = (opened: Opened, write: Write): Effect.Effect<void, StorageError> => {
  const { entries, hardState, install } = write
  if (install === undefined) return opened.writer.append({ hardState, start: undefined, entries })
  return Effect.andThen(opened.writer.barrier, Effect.uninterruptible(persistInstall(opened, write, install)))
}

/** Moves the beginning of the log forward. */
const advance = ({ snapshots, writer }: Opened, directory: string, start: Start): Effect.Effect<void, StorageError> => {
  const { index } = start.prev
  if (index <= writer.prev().index) return Effect.void
  const last = snapshots.latest()?.last.index ?? 0
  return index <= last
    ? writer.append({ hardState: undefined, start: { ...start, keepsLog: true }, entries: [] })
    : Effect.fail(failed(directory, `no snapshot stands for the entries up to ${index}: the latest ends at ${last}`))
}

const make = Effect.fnUntraced(function*(options: Options) {
  const directory = Path.resolve(options.directory)
  const segmentBytes = Math.min(Math.max(options.segmentBytes ?? segmentBytesDefault, segmentBytesMin), segmentBytesMax)
  const wanted: Wanted = { clusterId: options.clusterId, nodeId: options.nodeId }
  const problem = Segment.identityProblem(wanted)
  if (problem !== undefined) return yield* failed(directory, problem)
  const { identity, knownDisks, ...files } = yield* openDirectory(directory, wanted, segmentBytes)
  const scope = yield* Effect.scope
  const writing = Semaphore.makeUnsafe(1)
  const deleting = Semaphore.makeUnsafe(1)
  let opened: Opened | undefined

  const recoverOnce = Effect.fnUntraced(function*(initial: Configuration) {
    if (opened !== undefined) return yield* failed(directory, `${directory} was recovered already; that is done once`)
    const outcome = yield* recover({ directory, identity, segmentBytes, scope }, files, initial)
    yield* Scope.addFinalizer(scope, deleting.withPermit(writing.withPermit(outcome.opened.writer.close)))
    opened = outcome.opened
    return outcome.recovered
  })

  const whenRecovered = <A, R>(
    use: (opened: Opened) => Effect.Effect<A, StorageError, R>
  ): Effect.Effect<A, StorageError, R> =>
    Effect.suspend(() =>
      opened === undefined
        ? Effect.fail(failed(directory, `nothing can be done with ${directory} before it is recovered`))
        : use(opened)
    )

  return Storage.of({
    identity,
    knownDisks,
    rememberDisks: (known) => Effect.uninterruptible(DisksFile.write(directory, identity, known)),
    recover: (initial) => writing.withPermit(Effect.uninterruptible(recoverOnce(initial))),
    persist: (write) =>
      whenRecovered((opened) =>
        isEmptyWrite(write) ? opened.writer.barrier : writing.withPermit(Effect.suspend(() => persist(opened, write)))
      ),
    saveSnapshot: (of, content) => whenRecovered(({ snapshots }) => snapshots.save(of, content)),
    openSnapshot: whenRecovered(({ snapshots }) => snapshots.open),
    receiveSnapshot: (snapshot) => whenRecovered(({ snapshots }) => snapshots.receive(snapshot)),
    discardSnapshot: (last) => whenRecovered(({ snapshots }) => snapshots.discard(last)),
    compact: (start) =>
      whenRecovered((opened) =>
        Effect.andThen(
          writing.withPermit(Effect.suspend(() => advance(opened, directory, start))),
          deleting.withPermit(opened.writer.deleteOld)
        )
      )
  })
})

/**
 * A layer that keeps a server's state in `directory`, and every other process out of it until its scope closes. Its
 * bytes survive `kill -9` and power loss. Building it fails with reason "Locked", "Foreign", "Unsupported", "Corrupt"
 * (a header), "DiskFull" or "Failed"; `recover` with "Corrupt" (a record), "Foreign" or "Unsupported" (a snapshot) and the last two. A directory
 * refused for one of the first four reasons is left as it was.
 */
export const layer = (options: Options): Layer.Layer<Storage, StorageError> => Layer.effect(Storage, make(options))
