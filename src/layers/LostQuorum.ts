/**
 * The way out of a lost quorum: of the directory of one server, which does not run, makes that of a new cluster in which it is alone.
 *
 * All that is in its log becomes that cluster's past, also what was never known to be committed. Entries that changed the configuration become
 * no-ops, so that indices stay, and with them revisions and sessions. The cluster's id is new, so that the old servers refuse this one and are refused by
 * it; the disk's is new, since nothing that was promised on the old one holds any more; the term is higher than any in the log.
 *
 * The new directory is made beside the old one and takes its place only once it is whole and durable:
 *
 * ```
 * DIR   DIR.recovering   DIR.recovered   DIR.before-recovery
 * old   some of new                                            written, synced, read back
 * old                    new                                   renamed, the directory above synced
 *                        new             old                   the same
 * new                                    old                   the same
 * ```
 *
 * So a crash leaves the old directory in its place, and then what is beside it is of no use and is written anew the next time, since the
 * old server may have run meanwhile; or none in its place and the new one complete beside it, which the next time is put there; or the new one. The
 * old one is never written to.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { randomBytes } from "node:crypto"
import * as Path from "node:path"
import type { HardState } from "../domain/Command.ts"
import * as Configuration from "../domain/Configuration.ts"
import { type Entry, type EntryId, noop, sizeBytes } from "../domain/Entry.ts"
import type { Snapshot } from "../domain/Snapshot.ts"
import { type Identity, Storage, StorageError } from "../services/Storage.ts"
import * as DisksFile from "./DisksFile.ts"
import * as SnapshotFile from "./SnapshotFile.ts"
import * as SnapshotFormat from "./SnapshotFormat.ts"
import * as SnapshotRecovery from "./SnapshotRecovery.ts"
import * as StorageFile from "./StorageFile.ts"
import * as File from "./wal/File.ts"
import { lock } from "./wal/Lock.ts"
import * as Recovery from "./wal/Recovery.ts"
import * as Segment from "./wal/Segment.ts"

/** What the directory of a server holds. */
export interface Held {
  readonly identity: Identity
  readonly hardState: HardState
  /** In force at the end of the log. */
  readonly configuration: Configuration.Configuration
  /** What the log goes on from; `undefined` while it is whole. */
  readonly snapshot: Snapshot | undefined
  /** The log begins after it. */
  readonly prev: EntryId
  readonly entries: ReadonlyArray<Entry>
  readonly files: SnapshotRecovery.Found
}

/** What there is to do. Paths are absolute, without symbolic links. */
export type Found =
  /** A server of a cluster of several. `backup`: where its directory would be moved. */
  | { readonly _tag: "Member"; readonly directory: string; readonly backup: string; readonly held: Held }
  /** A server that is alone already, recovered or never otherwise. */
  | { readonly _tag: "Alone"; readonly directory: string; readonly held: Held }
  /** A recovery that was interrupted when all was done but for the new directory's name. The old one is at `backup`. */
  | { readonly _tag: "Interrupted"; readonly directory: string; readonly backup: string; readonly held: Held }

/** Of the new log, as for `StorageFile.layer`. */
export type Options = Pick<StorageFile.Options, "segmentBytes">

const refused = (path: string, message: string): StorageError =>
  new StorageError({ reason: "Failed", path, message: `${message}. Nothing was changed` })

export const lastOf = ({ entries, prev }: Held): EntryId => entries[entries.length - 1] ?? prev

const unfinishedOf = (directory: string): string => `${directory}.recovering`

const finishedOf = (directory: string): string => `${directory}.recovered`

const backupOf = (directory: string, number: number): string =>
  `${directory}.before-recovery${number === 1 ? "" : `-${number}`}`

/** Everything in a directory that is locked, checked as a start of its server does. Changes nothing. */
const read = Effect.fnUntraced(function*(directory: string) {
  const [first, ...rest] = (yield* Segment.list(directory)).segments
  if (first === undefined) return yield* refused(directory, `${directory} holds no state of a server`)
  const { identity } = yield* Segment.readHeader(first)
  yield* DisksFile.read(directory, identity)
  const { log } = yield* Recovery.read(yield* Recovery.readHeaders([first, ...rest], identity.nodeId))
  const files = yield* SnapshotRecovery.examine(directory, identity)
  const { damage, isReset, snapshot } = SnapshotRecovery.decide(directory, files, log)
  if (damage !== undefined) {
    return yield* new StorageError({
      reason: "Corrupt",
      path: directory,
      message:
        `${damage}. But of a lost quorum there is no leader. Nothing was changed. Recover another server, or restore a copy `
        + `of this directory`
    })
  }
  const { configuration = Configuration.unknown, hardState = { term: 0, votedFor: undefined } } = log
  const begins = isReset && snapshot !== undefined
    ? { prev: snapshot.last, configuration: snapshot.configuration, entries: [] }
    : { prev: log.prev, configuration, entries: log.entries }
  const inForce = begins.entries.findLast(({ payload }) => payload._tag === "Configuration")?.payload
  const held: Held = {
    ...begins,
    identity,
    hardState,
    snapshot,
    files,
    configuration: inForce?._tag === "Configuration" ? inForce.configuration : begins.configuration
  }
  if (lastOf(held).index === 0) {
    return yield* refused(
      directory,
      `the log of ${identity.nodeId} in ${directory} is empty: there is nothing to recover`
    )
  }
  return held
})

const isAlone = ({ configuration, identity: { nodeId } }: Held): boolean =>
  Configuration.members(configuration).join() === nodeId

/** How many earlier recoveries have left the directory that was there before. */
const countBackups = Effect.fnUntraced(function*(directory: string) {
  const names = yield* File.list(Path.dirname(directory))
  let count = 0
  while (names.includes(Path.basename(backupOf(directory, count + 1)))) count++
  return count
})

/** Where a directory is, also when only a symbolic link to it is left, and whether it is there. */
const placeOf = Effect.fnUntraced(function*(given: string) {
  const path = Path.resolve(given)
  const found = yield* File.realPath(path)
  if (found !== undefined) return { directory: found, isThere: true }
  const target = yield* File.linkTarget(path)
  return { directory: target === undefined ? path : Path.resolve(Path.dirname(path), target), isThere: false }
})

/**
 * Where a recovery of `given`, which is not there, was interrupted when all was done but for its name; `undefined` where it is there, or there was none.
 */
export const interruptedAt = Effect.fnUntraced(function*(given: string) {
  const { directory, isThere } = yield* placeOf(given)
  return isThere ? undefined : yield* File.realPath(finishedOf(directory))
})

/**
 * What `recover` would go by, read and checked. Locks the directory, as its server would, until the scope closes: fails with "Locked" while that runs,
 * with what the server's own start would fail with, and with "Failed" where there is nothing to recover. Changes nothing.
 */
export const examine = Effect.fnUntraced(function*(
  given: string
): Effect.fn.Return<Found, StorageError, Scope.Scope> {
  const { directory, isThere } = yield* placeOf(given)
  if (!isThere) {
    const finished = yield* interruptedAt(given)
    if (finished === undefined) return yield* refused(directory, `there is no ${directory}`)
    yield* lock(finished)
    const held = yield* read(finished)
    return { _tag: "Interrupted", directory, backup: backupOf(directory, yield* countBackups(directory)), held }
  }
  yield* lock(directory)
  const held = yield* read(directory)
  if (isAlone(held)) return { _tag: "Alone", directory, held }
  if (yield* File.isMountPoint(directory)) {
    return yield* refused(
      directory,
      `${directory} is a mount point, in whose place no other directory can be put. Move what is in it to a directory below it, recover that, and `
        + `start the server with it as --data-dir`
    )
  }
  return { _tag: "Member", directory, backup: backupOf(directory, 1 + (yield* countBackups(directory))), held }
})

/** So much of the log is written at once. */
const batchBytes = 1 << 20

function* batchesOf(entries: ReadonlyArray<Entry>): Generator<ReadonlyArray<Entry>> {
  let batch: Array<Entry> = []
  let bytes = 0
  for (const entry of entries) {
    batch.push(entry.payload._tag === "Configuration" ? { ...entry, payload: noop } : entry)
    bytes += sizeBytes(entry)
    if (bytes < batchBytes) continue
    yield batch
    batch = []
    bytes = 0
  }
  if (batch.length > 0) yield batch
}

/** The same snapshot with another head. */
const copySnapshot = Effect.fnUntraced(function*(
  from: string,
  { files, identity }: Held,
  snapshot: Snapshot,
  configuration: Configuration.Configuration
) {
  const storage = yield* Storage
  const { clusterId, nodeId } = storage.identity
  const scope = yield* Effect.scope
  const opened = yield* SnapshotFile.make({ directory: from, identity, scope }, files, snapshot).open
  if (opened === undefined) return yield* refused(from, `${from} has lost its snapshot`)
  const checked = yield* SnapshotRecovery.check(opened.read, snapshot.sizeBytes)
  if (checked._tag !== "Whole") return yield* refused(from, `the snapshot in ${from} has changed while it was read`)
  const encoder = SnapshotFormat.encoder({ clusterId, takenBy: nodeId, last: snapshot.last, configuration })
  const sizeBytes = encoder.head.length + checked.contentBytes + SnapshotFormat.trailerBytes
  const copy: Snapshot = { last: snapshot.last, configuration, sizeBytes }
  const writer = yield* storage.receiveSnapshot(copy)
  yield* writer.write(encoder.head)
  yield* Stream.runForEach(opened.content, (bytes) => {
    encoder.add(bytes)
    return writer.write(bytes)
  })
  yield* writer.write(encoder.trailer())
  const problem = yield* writer.finish
  if (problem !== undefined) return yield* refused(from, `the snapshot in ${from} could not be copied: ${problem}`)
  return copy
}, Effect.scoped)

/** Writes the whole new directory, and returns once it is durable. */
const write = Effect.fnUntraced(function*(
  to: string,
  from: string,
  held: Held,
  alone: Configuration.Configuration,
  options: Options
) {
  const { entries, hardState, identity: { nodeId }, snapshot } = held
  const layer = StorageFile.layer({ ...options, directory: to, clusterId: randomBytes(8).toString("hex"), nodeId })
  const written = Effect.gen(function*() {
    const storage = yield* Storage
    yield* storage.recover(alone)
    const copy = snapshot === undefined ? undefined : yield* copySnapshot(from, held, snapshot, alone)
    const term = Math.max(hardState.term, lastOf(held).term) + 1
    yield* storage.persist({
      hardState: { term, votedFor: undefined },
      install: copy === undefined ? undefined : { snapshot: copy, keepsLog: false },
      entries: []
    })
    const behind = entries.filter(({ index }) => index > (snapshot?.last.index ?? 0))
    for (const batch of batchesOf(behind)) {
      yield* storage.persist({ hardState: undefined, install: undefined, entries: batch })
    }
  })
  yield* Effect.scoped(Effect.provide(written, layer, { local: true }))
})

/** Reads back what was written: it must be what was meant. */
const verify = (directory: string, from: Held, alone: Configuration.Configuration) =>
  Effect.scoped(Effect.gen(function*() {
    yield* lock(directory)
    const held = yield* read(directory)
    const [last, expected] = [lastOf(held), lastOf(from)]
    const isSame = last.index === expected.index && last.term === expected.term &&
      held.snapshot?.last.index === from.snapshot?.last.index && Configuration.isSame(held.configuration, alone)
    if (isSame) return held
    return yield* refused(
      directory,
      `${directory} was written, and what it holds is not what it should: this is a mistake in Titan`
    )
  }))

/** Removes what an earlier recovery wrote. */
const removeWritten = Effect.fnUntraced(function*(directory: string) {
  if ((yield* File.realPath(directory)) === undefined) return
  yield* Effect.scoped(Effect.gen(function*() {
    yield* lock(directory)
    for (const name of yield* File.list(directory)) yield* File.unlink(Path.join(directory, name))
  }))
  yield* File.removeDirectory(directory)
})

/** The configuration of the server alone, at the address that it had. */
const aloneOf = ({ configuration, identity: { nodeId } }: Held): Configuration.Configuration => {
  const address = configuration.addresses.get(nodeId)
  return Configuration.ofVoters([nodeId], new Map(address === undefined ? [] : [[nodeId, address]]))
}

/**
 * Does what `examine` found, in the same scope. Returns the state of the new cluster once it is durable in the directory's place. Where it fails, or
 * the process ends, doing it again completes it.
 */
export const recover = Effect.fnUntraced(function*(
  found: Exclude<Found, { readonly _tag: "Alone" }>,
  options: Options = {}
) {
  const { backup, directory } = found
  const [above, unfinished, finished] = [Path.dirname(directory), unfinishedOf(directory), finishedOf(directory)]
  let { held } = found
  if (found._tag === "Member") {
    const alone = aloneOf(held)
    for (const earlier of [unfinished, finished]) yield* removeWritten(earlier)
    yield* write(unfinished, directory, held, alone, options)
    held = yield* verify(unfinished, held, alone)
    yield* File.rename(unfinished, finished)
    yield* File.syncDirectory(above)
    yield* File.rename(directory, backup)
  }
  yield* File.syncDirectory(above)
  yield* File.rename(finished, directory)
  yield* File.syncDirectory(above)
  return held
})
