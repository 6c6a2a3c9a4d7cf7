/**
 * The few calls on files that a write-ahead log and snapshots need, as Effects that fail with `StorageError`.
 *
 * They wrap the callback API of node:fs: promises on a FileHandle cost 10-30 % more, and the platform's FileSystem
 * has no positional write and no fdatasync. None can be interrupted: a call that the kernel still works on when its
 * file is closed could hit whatever file gets the same descriptor next.
 */
import * as Effect from "effect/Effect"
import { Buffer } from "node:buffer"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { StorageError } from "../../services/Storage.ts"

type Failure = NodeJS.ErrnoException | null

const advice = "The node must stop: what the disk holds is unknown until it is read again at the next start"

/** What a failed system call means. `doing` completes "could not …". */
export const failure = (doing: string, path: string, error: NodeJS.ErrnoException): StorageError =>
  error.code === "ENOSPC" || error.code === "EDQUOT"
    ? new StorageError({
      reason: "DiskFull",
      path,
      message:
        `could not ${doing} ${path}: the disk is full (${error.code}). ${advice}; free space, then start it again`
    })
    : new StorageError({ reason: "Failed", path, message: `could not ${doing} ${path}: ${error.message}. ${advice}` })

const call = <A>(
  doing: string,
  path: string,
  run: (done: (error: Failure, value: A) => void) => void
): Effect.Effect<A, StorageError> =>
  Effect.uninterruptible(
    Effect.callback<A, StorageError>((resume) =>
      run((error, value) => resume(error === null ? Effect.succeed(value) : Effect.fail(failure(doing, path, error))))
    )
  )

const command = (
  doing: string,
  path: string,
  run: (done: (error: Failure) => void) => void
): Effect.Effect<void, StorageError> => call<void>(doing, path, (done) => run((error) => done(error ?? null)))

/** Opens `path`; the flags are those of `fs.open`. */
export const open = (path: string, flags: string): Effect.Effect<number, StorageError> =>
  call("open", path, (done) => Fs.open(path, flags, 0o640, done))

/**
 * A file whose every write is durable when it returns, with what is needed to read it: where the system has O_DSYNC, one call of the kernel, and
 * one trip to the thread pool, do what a write and an fdatasync would. macOS takes O_DSYNC and leaves the bytes in the drive's cache, which its
 * fdatasync does not: so only Linux is asked for it.
 */
export type SynchronousFd = number & { readonly [synchronous]: true }
declare const synchronous: unique symbol

const { O_CREAT, O_DSYNC, O_EXCL, O_RDWR } = Fs.constants
const isSynchronous = process.platform === "linux"
const synchronously = O_RDWR | (isSynchronous ? O_DSYNC : 0)

/** Opens `path` to write to it durably; a new file, or one that is there. */
export const openSynchronous = (path: string, which: "new" | "existing"): Effect.Effect<SynchronousFd, StorageError> =>
  Effect.map(
    call<number>(
      "open",
      path,
      (done) => Fs.open(path, which === "new" ? synchronously | O_CREAT | O_EXCL : synchronously, 0o640, done)
    ),
    (fd) => fd as SynchronousFd
  )

/** Closes a descriptor. A failure is of no interest: everything that matters was synced before. */
export const close = (fd: number): Effect.Effect<void> =>
  Effect.uninterruptible(Effect.callback<void>((resume) => Fs.close(fd, () => resume(Effect.void))))

export const sizeOf = (fd: number, path: string): Effect.Effect<number, StorageError> =>
  Effect.map(call<Fs.Stats>("examine", path, (done) => Fs.fstat(fd, done)), (stats) => stats.size)

/** The names in a directory, sorted. */
export const list = (directory: string): Effect.Effect<ReadonlyArray<string>, StorageError> =>
  Effect.map(call<Array<string>>("list", directory, (done) => Fs.readdir(directory, done)), (names) => names.toSorted())

/** Fills `into` with the file's bytes from `position` on. Gives what there is of them: fewer where the file ends. */
export const readInto = Effect.fnUntraced(function*(fd: number, path: string, into: Buffer, position: number) {
  let at = 0
  while (at < into.length) {
    const count = yield* call<number>(
      "read",
      path,
      (done) => Fs.read(fd, into, at, into.length - at, position + at, done)
    )
    if (count === 0) break
    at += count
  }
  return into.subarray(0, at)
})

/** The file's first `length` bytes, or all of them when it is shorter. The caller bounds `length`. */
export const read = (fd: number, path: string, length: number): Effect.Effect<Buffer, StorageError> =>
  Effect.suspend(() => readInto(fd, path, Buffer.allocUnsafeSlow(length), 0))

/** Writes all of `bytes` at `position`: a short write goes on with the rest, until nothing more fits. */
export const writeThen = (fd: number, bytes: Uint8Array, position: number, done: (error: Failure) => void): void =>
  Fs.write(fd, bytes, 0, bytes.length, position, (error, count) => {
    if (error !== null) return done(error)
    if (count === bytes.length) return done(null)
    writeThen(fd, bytes.subarray(count), position + count, done)
  })

/** Writes all of `bytes` at `position`; they are durable then. */
export const writeDurablyThen = (
  fd: SynchronousFd,
  bytes: Uint8Array,
  position: number,
  done: (error: Failure) => void
): void =>
  writeThen(fd, bytes, position, (error) => {
    if (error !== null || isSynchronous) return done(error)
    Fs.fdatasync(fd, done)
  })

export const write = (fd: number, path: string, bytes: Uint8Array, position: number) =>
  command("write to", path, (done) => writeThen(fd, bytes, position, done))

export const writeDurably = (fd: SynchronousFd, path: string, bytes: Uint8Array, position: number) =>
  command("write to", path, (done) => writeDurablyThen(fd, bytes, position, done))

export const sync = (fd: number, path: string) => command("sync", path, (done) => Fs.fsync(fd, done))

/** Makes what was written durable, and of the rest only what is needed to read it. */
export const syncData = (fd: number, path: string) => command("sync", path, (done) => Fs.fdatasync(fd, done))

export const rename = (from: string, to: string) => command("rename to", to, (done) => Fs.rename(from, to, done))

/** Where `path` is, without symbolic links; `undefined` where nothing is. */
export const realPath = (path: string): Effect.Effect<string | undefined, StorageError> =>
  call<string | undefined>(
    "find",
    path,
    (done) => Fs.realpath(path, (error, found) => error?.code === "ENOENT" ? done(null, undefined) : done(error, found))
  )

/** Where the symbolic link at `path` points, whether that is there or not; `undefined` where there is none. */
export const linkTarget = (path: string): Effect.Effect<string | undefined, StorageError> =>
  call<string | undefined>(
    "find",
    path,
    (done) =>
      Fs.readlink(path, (error, target) =>
        error?.code === "ENOENT" || error?.code === "EINVAL" ? done(null, undefined) : done(error, target))
  )

const deviceOf = (path: string): Effect.Effect<number, StorageError> =>
  Effect.map(call<Fs.Stats>("examine", path, (done) => Fs.stat(path, done)), ({ dev }) => dev)

/** Whether another file system begins at this directory. */
export const isMountPoint = (directory: string): Effect.Effect<boolean, StorageError> =>
  Effect.zipWith(deviceOf(directory), deviceOf(Path.dirname(directory)), (one, other) => one !== other)

/** Removes an empty directory. */
export const removeDirectory = (path: string) => command("delete", path, (done) => Fs.rmdir(path, done))

export const unlink = (path: string) => command("delete", path, (done) => Fs.unlink(path, done))

/** Makes what was created, renamed or deleted in a directory durable. */
export const syncDirectory = (directory: string): Effect.Effect<void, StorageError> =>
  Effect.acquireUseRelease(open(directory, "r"), (fd) => sync(fd, directory), close)

const mkdir = (path: string): Effect.Effect<"made" | "exists" | "no parent", StorageError> =>
  Effect.uninterruptible(Effect.callback((resume) =>
    Fs.mkdir(path, { mode: 0o750 }, (error) => {
      if (error === null) return resume(Effect.succeed("made"))
      if (error.code === "EEXIST") return resume(Effect.succeed("exists"))
      if (error.code === "ENOENT") return resume(Effect.succeed("no parent"))
      const message =
        `could not create the directory ${path}: ${error.message}. Choose another, or correct its permissions`
      resume(Effect.fail(new StorageError({ reason: "Failed", path, message })))
    })
  ))

/**
 * Creates a directory and those above it, durably, unless it exists. Not by mkdir's own recursion: where a file system never lets a
 * directory be made and says ENOENT, as /proc does, that goes on for ever.
 */
export const makeDirectory = Effect.fnUntraced(function*(directory: string): Effect.fn.Return<void, StorageError> {
  const parent = Path.dirname(directory)
  let outcome = yield* mkdir(directory)
  if (outcome === "no parent" && parent !== directory) {
    yield* makeDirectory(parent)
    outcome = yield* mkdir(directory)
  }
  if (outcome === "made") return yield* syncDirectory(parent)
  const stats = yield* call<Fs.Stats | undefined>(
    "examine",
    directory,
    (done) => Fs.stat(directory, (error, found) => done(null, error === null ? found : undefined))
  )
  if (stats?.isDirectory() === true) return
  const problem = stats === undefined ? "cannot be created there" : "is not a directory"
  return yield* new StorageError({
    reason: "Failed",
    path: directory,
    message: `${directory} ${problem}: choose another data directory`
  })
})
