/**
 * Directories for the tests of `StorageFile`: temporary ones, their bytes, and a node:fs whose calls are watched or
 * made to fail.
 */
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import Fs from "node:fs"
import { syncBuiltinESMExports } from "node:module"
import * as Os from "node:os"
import * as Path from "node:path"
import * as SnapshotRecovery from "../../src/layers/SnapshotRecovery.ts"
import * as File from "../../src/layers/wal/File.ts"
import * as Recovery from "../../src/layers/wal/Recovery.ts"
import * as Segment from "../../src/layers/wal/Segment.ts"

export const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "titan-storage-"))),
  (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true }))
)

/** The files of a directory: name and bytes. */
export type Image = ReadonlyMap<string, Buffer>

export const imageOf = (directory: string): Image =>
  new Map(Fs.readdirSync(directory).toSorted().map((name) => [name, Fs.readFileSync(Path.join(directory, name))]))

/** Keeps the warnings about what is cut out of a test that cuts thousands of times. */
export const quietly = Effect.provideService(References.MinimumLogLevel, "Error")

/** Makes a directory hold exactly the files of an image. */
export const restore = (directory: string, image: Image): void => {
  for (const name of Fs.readdirSync(directory)) if (!image.has(name)) Fs.rmSync(Path.join(directory, name))
  for (const [name, bytes] of image) Fs.writeFileSync(Path.join(directory, name), bytes)
}

export const isSameImage = (a: Image, b: Image): boolean =>
  a.size === b.size && [...a].every(([name, bytes]) => b.get(name)?.equals(bytes) === true)

/** An image with one file's bytes changed by `change`, which gets a copy of them. */
export const changed = (image: Image, name: string, change: (bytes: Buffer) => Buffer | void): Image => {
  const copy = Buffer.from(image.get(name) ?? [])
  return new Map([...image, [name, change(copy) ?? copy]])
}

/**
 * What the layer does to recover a directory that has segments, without its lock: for tests that do it thousands of
 * times. A log that gives way to a snapshot is only told of, not written.
 */
export const recoverOnly = Effect.fnUntraced(function*(directory: string) {
  const stored = yield* Recovery.readHeaders((yield* Segment.list(directory)).segments, "n1")
  const found = yield* Recovery.read(stored)
  const { identity } = stored[0]?.header ?? (yield* Effect.die(new Error("no segment")))
  const files = yield* SnapshotRecovery.examine(directory, identity)
  const decision = SnapshotRecovery.decide(directory, files, found.log)
  const recovery = yield* Recovery.settle(found)
  yield* File.close(recovery.segment.fd)
  return { ...recovery, ...decision }
})

type Callback = (error: NodeJS.ErrnoException | null, ...rest: ReadonlyArray<unknown>) => void
type Call = (...args: ReadonlyArray<unknown>) => void

const replaceCall = (name: "open" | "write" | "rename" | "unlink" | "fdatasync" | "fsync", call: Call) => {
  Object.assign(Fs, { [name]: call })
  syncBuiltinESMExports()
}

/** Until the scope closes, a call of node:fs fails with `code`, unless `isSpared` says otherwise of its arguments. */
export const failing = (
  name: "write" | "fdatasync" | "rename" | "unlink",
  code: string,
  isSpared: (...args: ReadonlyArray<unknown>) => boolean = () => false
) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const original = Fs[name] as unknown as Call
      let calls = 0
      replaceCall(name, (...args) => {
        if (isSpared(...args)) return original(...args)
        calls++
        const done = args[args.length - 1] as Callback
        done(Object.assign(new Error(`${code}: injected`), { code }), 0)
      })
      return { original, calls: () => calls }
    }),
    ({ original }) => Effect.sync(() => replaceCall(name, original))
  )

/** Until the scope closes, a call of node:fs begins only after `delayMs`. */
export const delaying = (name: "unlink", delayMs: number) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const original = Fs[name] as unknown as Call
      replaceCall(name, (...args) => void setTimeout(() => original(...args), delayMs))
      return original
    }),
    (original) => Effect.sync(() => replaceCall(name, original))
  )

/** Whether `fs.open` with these flags makes a file. */
export const isCreating = (flags: unknown): boolean =>
  typeof flags === "number" ? (flags & Fs.constants.O_CREAT) !== 0 : flags === "wx" || flags === "w"

/** Whether each write to a file that was opened with these flags is a sync as well. */
export const isSynchronous = (flags: unknown): boolean =>
  typeof flags === "number" && (flags & Fs.constants.O_DSYNC) !== 0

/** A change of a directory, in the order in which it was asked for. */
export type Change =
  | { readonly _tag: "Create"; readonly name: string }
  | { readonly _tag: "Write"; readonly name: string; readonly position: number; readonly bytes: Buffer }
  | { readonly _tag: "Rename"; readonly name: string; readonly to: string }
  | { readonly _tag: "Delete"; readonly name: string }
  | { readonly _tag: "Sync"; readonly name: string }

/** Watches what is done to files until the scope closes: `changes` grows. */
export const watchChanges = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const changes: Array<Change> = []
      const names = new Map<number, string>()
      const synchronous = new Set<number>()
      const originals = {
        open: Fs.open,
        write: Fs.write,
        rename: Fs.rename,
        unlink: Fs.unlink,
        fdatasync: Fs.fdatasync,
        fsync: Fs.fsync
      }
      const call = { ...originals } as unknown as Record<keyof typeof originals, Call>
      replaceCall("open", (path, flags, mode, done) => {
        const name = Path.basename(String(path))
        if (isCreating(flags)) changes.push({ _tag: "Create", name })
        const opened: Callback = (error, fd) => {
          if (error === null) names.set(Number(fd), name)
          synchronous.delete(Number(fd))
          if (error === null && isSynchronous(flags)) synchronous.add(Number(fd))
          ;(done as Callback)(error, fd)
        }
        call.open(path, flags, mode, opened)
      })
      replaceCall("write", (fd, bytes, offset, length, position, done) => {
        const from = Number(offset)
        changes.push({
          _tag: "Write",
          name: names.get(Number(fd)) ?? "",
          position: Number(position),
          bytes: Buffer.from((bytes as Uint8Array).subarray(from, from + Number(length)))
        })
        if (synchronous.has(Number(fd))) changes.push({ _tag: "Sync", name: names.get(Number(fd)) ?? "" })
        call.write(fd, bytes, offset, length, position, done)
      })
      replaceCall("rename", (from, to, done) => {
        const [name, newName] = [Path.basename(String(from)), Path.basename(String(to))]
        changes.push({ _tag: "Rename", name, to: newName })
        for (const [fd, known] of names) if (known === name) names.set(fd, newName)
        call.rename(from, to, done)
      })
      replaceCall("unlink", (path, done) => {
        changes.push({ _tag: "Delete", name: Path.basename(String(path)) })
        call.unlink(path, done)
      })
      for (const name of ["fdatasync", "fsync"] as const) {
        replaceCall(name, (fd, done) => {
          changes.push({ _tag: "Sync", name: names.get(Number(fd)) ?? "" })
          call[name](fd, done)
        })
      }
      return { changes, originals }
    }),
    ({ originals }) =>
      Effect.sync(() => {
        Object.assign(Fs, originals)
        syncBuiltinESMExports()
      })
  ),
  ({ changes }) => changes
)

const writeInto = (bytes: Buffer, position: number, written: Buffer): Buffer => {
  const grown = Buffer.alloc(Math.max(bytes.length, position + written.length))
  bytes.copy(grown)
  written.copy(grown, position)
  return grown
}

/** The image after a change. */
export const applyChange = (image: Image, change: Change): Image => {
  const after = new Map(image)
  const bytes = image.get(change.name) ?? Buffer.alloc(0)
  switch (change._tag) {
    case "Create":
      return after.set(change.name, Buffer.alloc(0))
    case "Write":
      return after.set(change.name, writeInto(bytes, change.position, change.bytes))
    case "Rename":
      after.delete(change.name)
      return after.set(change.to, bytes)
    case "Delete":
      after.delete(change.name)
      return after
    case "Sync":
      return after
  }
}
