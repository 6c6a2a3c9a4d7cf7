/**
 * The snapshots that a server finds in its directory when it starts, and which of them counts. `SnapshotFile.ts` says what a crash can leave.
 */
import * as Effect from "effect/Effect"
import { Buffer } from "node:buffer"
import * as Path from "node:path"
import { type EntryId, origin } from "../domain/Entry.ts"
import type { Snapshot } from "../domain/Snapshot.ts"
import { type Identity, StorageError } from "../services/Storage.ts"
import * as SnapshotFormat from "./SnapshotFormat.ts"
import * as File from "./wal/File.ts"
import type { Log } from "./wal/Recovery.ts"

/** How much of a file is read or written at once. */
export const pieceBytes = 1 << 18

export const stemOf = ({ index, term }: EntryId): string => `${String(index).padStart(15, "0")}-${term}`

/** The index in the name of a snapshot; `undefined` where it is not the name of one. */
const indexOf = (name: string): number | undefined => {
  const index = /^(\d{15})-\d+\.snapshot$/.exec(name)?.[1]
  return index === undefined ? undefined : Number(index)
}

/** Whether it is the name of a snapshot that ends before `last`. */
export const isOlder = (name: string, last: EntryId): boolean => (indexOf(name) ?? Infinity) < last.index

const isLeftover = (name: string): boolean => /^\d{15}-\d+\.(?:received|\d+\.partial)$/.test(name)

export const failed = (path: string, message: string): StorageError =>
  new StorageError({ reason: "Failed", path, message })

/** Deletes a file that nobody needs, or leaves that to the next start. */
export const remove = (path: string): Effect.Effect<void> =>
  Effect.catch(File.unlink(path), () =>
    Effect.annotateLogs(
      Effect.logWarning("A file that is not needed could not be deleted; the next start tries again"),
      { path }
    ))

/** Reads all of a file to see what it is. */
export const check = Effect.fnUntraced(function*(
  read: (offset: number, length: number) => Effect.Effect<Uint8Array, StorageError>,
  sizeBytes: number
) {
  const checker = SnapshotFormat.checker(sizeBytes)
  for (let at = 0; at < sizeBytes; at += pieceBytes) checker.add(yield* read(at, Math.min(pieceBytes, sizeBytes - at)))
  return checker.end()
})

const withFile = <A, E>(path: string, use: (fd: number) => Effect.Effect<A, E>): Effect.Effect<A, E | StorageError> =>
  Effect.acquireUseRelease(File.open(path, "r"), use, File.close)

export const describe = (path: string, { at, problem }: { readonly at: number; readonly problem: string }): string =>
  `${path} is damaged at byte ${at}: ${problem}`

/** The snapshots in a directory. Nothing on disk was changed. */
export interface Found {
  /** The latest that is whole. */
  readonly latest: Snapshot | undefined
  /** Why those later than it are of no use. */
  readonly problems: ReadonlyArray<string>
  /** The names of all. */
  readonly names: ReadonlyArray<string>
  /** What a crash left behind. */
  readonly leftovers: ReadonlyArray<string>
}

const foreign = (path: string, cluster: string, { clusterId }: Identity): StorageError =>
  new StorageError({
    reason: "Foreign",
    path,
    message: `${path} belongs to cluster ${cluster}, and this directory to cluster ${clusterId}. Nothing was changed. `
      + `Move that file away`
  })

export const unsupported = (path: string, version: number): StorageError =>
  new StorageError({
    reason: "Unsupported",
    path,
    message: `${path} has format version ${version}, which this program does not read. Nothing was changed. Start this `
      + `server with the program that wrote it, or a later one`
  })

/** The snapshot at `path`, or why it is none. */
const examineOne = Effect.fnUntraced(function*(path: string, identity: Identity) {
  const piece = Buffer.allocUnsafeSlow(pieceBytes)
  const checked = yield* withFile(
    path,
    (fd) =>
      Effect.flatMap(
        File.sizeOf(fd, path),
        (size) => check((offset, length) => File.readInto(fd, path, piece.subarray(0, length), offset), size)
      )
  )
  if (checked._tag === "Unsupported") return yield* unsupported(path, checked.version)
  if (checked._tag === "Damaged") return describe(path, checked)
  const { head, snapshot } = checked
  if (head.clusterId !== identity.clusterId) return yield* foreign(path, head.clusterId, identity)
  return `${stemOf(snapshot.last)}.snapshot` === Path.basename(path)
    ? snapshot
    : describe(path, { at: 0, problem: `it ends at index ${snapshot.last.index}, which is not its name` })
})

/** Looks for the latest snapshot that is whole. Fails when one is not this cluster's, or of a format that is not known. */
export const examine = Effect.fnUntraced(function*(directory: string, identity: Identity) {
  const all = yield* File.list(directory)
  const names = all.filter((name) => indexOf(name) !== undefined)
  const problems: Array<string> = []
  let latest: Snapshot | undefined
  for (const name of names.toReversed()) {
    const path = Path.join(directory, name)
    const found = yield* Effect.catchIf(
      examineOne(path, identity),
      (error) => error.reason === "Failed",
      (error) => Effect.succeed(error.message)
    )
    if (typeof found !== "string") {
      latest = found
      break
    }
    problems.push(found)
  }
  return { latest, problems, names, leftovers: all.filter(isLeftover) } satisfies Found
})

/** What a log and the snapshots beside it are together. */
export interface Decision {
  /** The latest that the log goes on from. */
  readonly snapshot: Snapshot | undefined
  /** The log gives way to the snapshot. */
  readonly isReset: boolean
  /** Why the state before the log is not here, where it is not. */
  readonly damage: string | undefined
}

/** Decides what counts, as the header of `SnapshotFile.ts` says. */
export const decide = (directory: string, found: Found, { entries, prev }: Log): Decision => {
  const { latest, problems } = found
  // Of the entry right before the log there is only one: another term there is a file that does not belong here.
  const isUsable = latest !== undefined &&
    (latest.last.index > prev.index || SnapshotFormat.isHeld(latest.last, prev, []))
  if (isUsable) {
    return { snapshot: latest, isReset: !SnapshotFormat.isHeld(latest.last, prev, entries), damage: undefined }
  }
  if (prev.index === 0) return { snapshot: undefined, isReset: false, damage: undefined }
  const why = problems.length > 0 ? problems.join("; ") : `${directory} has no snapshot that the log goes on from`
  const damage =
    `The state up to entry ${prev.index}, where the log begins, is lost here: ${why}. It comes back from the `
    + `leader; this server keeps its term, its vote and its log, and does not need to be replaced`
  return { snapshot: undefined, isReset: false, damage }
}

/** Deletes what nobody needs beside `snapshot`, the one that counts. */
export const clean = Effect.fnUntraced(function*(directory: string, found: Found, snapshot: Snapshot | undefined) {
  const old = found.names.filter((name) => isOlder(name, snapshot?.last ?? origin))
  for (const name of [...found.leftovers, ...old]) yield* remove(Path.join(directory, name))
})
