/**
 * The snapshots in a server's directory, beside its write-ahead log. `SnapshotFormat.ts` has the format of a file.
 *
 * - `<index, 15 digits>-<term>.snapshot`: the entries up to that one. The latest counts.
 * - `<index>-<term>.received`: whole and durable, sent by a leader, not yet installed.
 * - `<index>-<term>.<n>.partial`: being written.
 *
 * A file is written under a new name of the last kind, synced, then renamed, and the directory synced; only then older snapshots are deleted.
 * So a crash leaves the latest snapshot as it was, or the new one, and perhaps files that nobody needs: partial and received ones, and
 * snapshots older than the latest. The next start deletes these, once it has found everything else in order.
 *
 * Installing a received snapshot renames it first; then, where the log does not go on from it, the log is told to begin anew. A crash between the
 * two leaves a snapshot that the log does not hold the last entry of. Nothing else does, so that recovery knows what was to come: the log
 * begins behind the snapshot (`SnapshotRecovery.decide`).
 *
 * A snapshot that is damaged, or cannot be read, is never used, and stays until a later one is durable: it may be of use to whoever repairs
 * the disk. An older one that is whole takes its place while it has not been deleted yet. Where the log is whole the state can be made from it.
 * Otherwise the state is lost here. Of that recovery tells; the log is kept, with all that it promised to others.
 *
 * Files are written and read a little at a time, and synced every few MiB: one long sync at the end would hold up those of the log.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import * as Path from "node:path"
import { type EntryId, origin } from "../domain/Entry.ts"
import type { Snapshot } from "../domain/Snapshot.ts"
import {
  type Identity,
  type SnapshotReader,
  type SnapshotWriter,
  type Storage,
  StorageError
} from "../services/Storage.ts"
import * as SnapshotFormat from "./SnapshotFormat.ts"
import {
  check,
  describe,
  failed,
  type Found,
  isOlder,
  pieceBytes,
  remove,
  stemOf,
  unsupported
} from "./SnapshotRecovery.ts"
import * as File from "./wal/File.ts"

const unsyncedBytesMax = 4 << 20

/** A file that grows, under a name that nobody looks for. */
interface Growing {
  readonly path: string
  readonly fd: number
  position: number
  unsyncedBytes: number
  /** False once it was deleted or got another name. */
  isThere: boolean
}

const grow = Effect.fnUntraced(function*(file: Growing, bytes: Uint8Array) {
  yield* File.write(file.fd, file.path, bytes, file.position)
  file.position += bytes.length
  file.unsyncedBytes += bytes.length
  if (file.unsyncedBytes < unsyncedBytesMax) return
  yield* File.syncData(file.fd, file.path)
  file.unsyncedBytes = 0
})

const begin = (path: string): Effect.Effect<Growing, StorageError> =>
  Effect.map(File.open(path, "wx"), (fd) => ({ path, fd, position: 0, unsyncedBytes: 0, isThere: true }))

const end = (file: Growing): Effect.Effect<void> =>
  Effect.andThen(File.close(file.fd), Effect.suspend(() => file.isThere ? remove(file.path) : Effect.void))

/** Writes head, content and trailer, the content gathered into pieces of the same size. */
const writeAll = Effect.fnUntraced(function*(
  file: Growing,
  head: SnapshotFormat.Head,
  content: Stream.Stream<Uint8Array>
) {
  const encoder = SnapshotFormat.encoder(head)
  const piece = Buffer.allocUnsafeSlow(pieceBytes)
  let filled = 0
  const flush = Effect.suspend(() => {
    if (filled === 0) return Effect.void
    const bytes = piece.subarray(0, filled)
    filled = 0
    encoder.add(bytes)
    return grow(file, bytes)
  })
  yield* grow(file, encoder.head)
  yield* Stream.runForEach(
    content,
    Effect.fnUntraced(function*(bytes) {
      for (let at = 0; at < bytes.length;) {
        const part = bytes.subarray(at, at + pieceBytes - filled)
        piece.set(part, filled)
        filled += part.length
        at += part.length
        if (filled === pieceBytes) yield* flush
      }
    })
  )
  yield* flush
  yield* grow(file, encoder.trailer())
  yield* File.sync(file.fd, file.path)
})

/** The snapshots of a directory, once it was recovered. */
export interface Snapshots {
  readonly latest: () => Snapshot | undefined
  readonly save: Storage["Service"]["saveSnapshot"]
  readonly open: Storage["Service"]["openSnapshot"]
  readonly receive: Storage["Service"]["receiveSnapshot"]
  readonly discard: Storage["Service"]["discardSnapshot"]
  /** Makes the received snapshot that ends at `last` the latest, unless a later one is. */
  readonly install: (last: EntryId) => Effect.Effect<void, StorageError>
}

interface State {
  readonly directory: string
  readonly identity: Identity
  /** Older snapshots are deleted in it, in the background. */
  readonly scope: Scope.Scope
  /** Held while files get their names. */
  readonly naming: Semaphore.Semaphore
  latest: Snapshot | undefined
  /** The names of snapshots on disk. */
  names: ReadonlyArray<string>
  readonly received: Map<string, Snapshot>
  partials: number
}

const pathOf = ({ directory }: State, last: EntryId, kind: string): string =>
  Path.join(directory, `${stemOf(last)}.${kind}`)

const partialPath = (state: State, last: EntryId): string => pathOf(state, last, `${++state.partials}.partial`)

/** Gives the file at `from` the name of a snapshot, unless a later one is there. Older ones go. */
const publish = Effect.fnUntraced(function*(state: State, from: string, snapshot: Snapshot) {
  const { directory, latest, scope } = state
  if (latest !== undefined && latest.last.index > snapshot.last.index) {
    yield* remove(from)
    return latest
  }
  const path = pathOf(state, snapshot.last, "snapshot")
  yield* File.rename(from, path)
  yield* File.syncDirectory(directory)
  state.latest = snapshot
  const old = state.names.filter((name) => isOlder(name, snapshot.last))
  state.names = [...new Set([...state.names.filter((name) => !old.includes(name)), Path.basename(path)])]
  yield* Effect.forkIn(Effect.forEach(old, (name) => remove(Path.join(directory, name))), scope)
  return snapshot
})

const save = (state: State): Snapshots["save"] => (of, content) =>
  Effect.acquireUseRelease(
    Effect.suspend(() => begin(partialPath(state, of.last))),
    Effect.fnUntraced(function*(file) {
      const { clusterId, nodeId } = state.identity
      const { configuration, last } = of
      yield* writeAll(file, { clusterId, takenBy: nodeId, last, configuration }, content)
      const snapshot: Snapshot = { last, configuration, sizeBytes: file.position }
      const named = Effect.suspend(() => {
        file.isThere = false
        return publish(state, file.path, snapshot)
      })
      return yield* Effect.uninterruptible(state.naming.withPermit(named))
    }),
    end
  )

const corrupt = (path: string, damage: { readonly at: number; readonly problem: string }): StorageError =>
  new StorageError({
    reason: "Corrupt",
    path,
    message: `${
      describe(path, damage)
    }. Start this server again: it goes on with an older snapshot, or one of the leader`
  })

/** A file that is open for reading. */
interface Opened {
  readonly path: string
  readonly fd: number
  /** False once the descriptor may be another file's. */
  isOpen: boolean
}

const opened = (path: string): Effect.Effect<Opened, StorageError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.map(File.open(path, "r"), (fd): Opened => ({ path, fd, isOpen: true })),
    (file) =>
      Effect.suspend(() => {
        file.isOpen = false
        return File.close(file.fd)
      })
  )

const readerOf = (file: Opened, snapshot: Snapshot): SnapshotReader => {
  const { fd, path } = file
  const { sizeBytes } = snapshot

  const read = Effect.fnUntraced(function*(offset: number, length: number) {
    if (!file.isOpen) return yield* failed(path, `${path} was closed`)
    const wanted = Math.max(0, Math.min(length, sizeBytes - offset))
    const bytes = yield* File.readInto(fd, path, Buffer.allocUnsafeSlow(wanted), offset)
    if (bytes.length === wanted) return bytes
    return yield* corrupt(path, { at: offset + bytes.length, problem: `it had ${sizeBytes} bytes and ends here` })
  })

  const content = Stream.unwrap(Effect.gen(function*() {
    const checked = yield* check(read, sizeBytes)
    if (checked._tag === "Unsupported") return yield* unsupported(path, checked.version)
    if (checked._tag === "Damaged") return yield* corrupt(path, checked)
    const end = checked.contentAt + checked.contentBytes
    return Stream.unfold(checked.contentAt, (at) =>
      at < end
        ? Effect.map(read(at, Math.min(pieceBytes, end - at)), (bytes) => [bytes, at + bytes.length] as const)
        : Effect.undefined)
  }))

  return { snapshot, content, read }
}

/** The latest snapshot, open until the scope closes. Later ones only take the name of its file away. */
const openLatest = (state: State): Snapshots["open"] =>
  state.naming.withPermit(Effect.suspend(() => {
    const { latest } = state
    return latest === undefined
      ? Effect.undefined
      : Effect.map(opened(pathOf(state, latest.last, "snapshot")), (file) => readerOf(file, latest))
  }))

const receive = (state: State): Snapshots["receive"] =>
  Effect.fnUntraced(function*(snapshot) {
    const file = yield* Effect.acquireRelease(Effect.suspend(() => begin(partialPath(state, snapshot.last))), end)
    const checker = SnapshotFormat.checker(snapshot.sizeBytes)
    let isFinished = false
    const finished = failed(file.path, "no more can be written to a snapshot that is finished")

    const write = (bytes: Uint8Array) =>
      Effect.suspend(() => {
        if (isFinished) return Effect.fail(finished)
        checker.add(bytes)
        // What is too long will be refused: that takes no disk.
        return grow(file, bytes.subarray(0, snapshot.sizeBytes - file.position))
      })

    const finish = Effect.gen(function*() {
      if (isFinished) return yield* finished
      isFinished = true
      const problem = SnapshotFormat.mismatch(checker.end(), snapshot, state.identity.clusterId)
      file.isThere = false
      if (problem !== undefined) {
        yield* remove(file.path)
        return problem
      }
      yield* File.sync(file.fd, file.path)
      yield* File.rename(file.path, pathOf(state, snapshot.last, "received"))
      yield* File.syncDirectory(state.directory)
      state.received.set(stemOf(snapshot.last), snapshot)
      return undefined
    })

    return { write, finish: state.naming.withPermit(Effect.uninterruptible(finish)) } satisfies SnapshotWriter
  })

const install = (state: State): Snapshots["install"] => (last) =>
  Effect.uninterruptible(state.naming.withPermit(Effect.suspend(() => {
    const snapshot = state.received.get(stemOf(last))
    const path = pathOf(state, last, "received")
    if (snapshot === undefined) return Effect.fail(failed(path, `no snapshot ${stemOf(last)} was received`))
    state.received.delete(stemOf(last))
    return publish(state, path, snapshot)
  })))

const discard = (state: State): Snapshots["discard"] => (last) =>
  Effect.uninterruptible(
    state.naming.withPermit(
      Effect.suspend(() => state.received.delete(stemOf(last)) ? remove(pathOf(state, last, "received")) : Effect.void)
    )
  )

/** The snapshots that recovery found, of which `latest` counts and the older ones are deleted. */
export const make = (
  options: Pick<State, "directory" | "identity" | "scope">,
  found: Found,
  latest: Snapshot | undefined
): Snapshots => {
  const names = found.names.filter((name) => !isOlder(name, latest?.last ?? origin))
  const naming = Semaphore.makeUnsafe(1)
  const state: State = { ...options, naming, latest, names, received: new Map(), partials: 0 }
  return {
    latest: () => state.latest,
    save: save(state),
    open: openLatest(state),
    receive: receive(state),
    discard: discard(state),
    install: install(state)
  }
}
