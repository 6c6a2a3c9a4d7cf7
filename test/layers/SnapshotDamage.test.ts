/**
 * What becomes of a server whose snapshot is damaged, cannot be read, or is gone.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { crc32 } from "node:zlib"
import { origin } from "../../src/domain/Entry.ts"
import { none } from "../../src/domain/Snapshot.ts"
import * as StorageFile from "../../src/layers/StorageFile.ts"
import * as Record from "../../src/layers/wal/Record.ts"
import * as Segment from "../../src/layers/wal/Segment.ts"
import { idOf, readLatest, receive, save, sent } from "../contracts/sentSnapshots.ts"
import { entriesOf, initial, plain, reopen, session, writeOf } from "../contracts/storage.ts"
import {
  changed,
  type Image,
  imageOf,
  isSameImage,
  quietly,
  recoverOnly,
  restore,
  temporaryDirectory
} from "./storageDirectory.ts"

const layerOf = (directory: string) =>
  StorageFile.layer({ directory, clusterId: "c1", nodeId: "n1", segmentBytes: 5120 })

const nameOf = (term: number, index: number): string => `${String(index).padStart(15, "0")}-${term}.snapshot`

/** A server with entries 1 to 9, a snapshot at 6, and a log that begins behind `prev`. */
const stopped = Effect.fnUntraced(function*(prev: number) {
  const directory = yield* temporaryDirectory
  yield* session(layerOf(directory), (storage) =>
    Effect.gen(function*() {
      yield* storage.persist(writeOf(entriesOf(1, 1, 9), { term: 2, votedFor: "n2" }))
      yield* save(storage, idOf(1, 6), "the state at six")
      yield* storage.compact({ prev: idOf(1, prev), configuration: initial })
    }))
  return { directory, image: imageOf(directory) }
})

const flip = (image: Image, name: string, at: number): Image =>
  changed(image, name, (bytes) => void bytes.writeUInt8(bytes.readUInt8(at) ^ 0x20, at))

const without = (image: Image, ...names: ReadonlyArray<string>): Image =>
  new Map([...image].filter(([name]) => !names.includes(name)))

const sizeOf = (image: Image, name: string): number => image.get(name)?.length ?? assert.fail(`no file ${name}`)

/** The messages of what is logged while `effect` runs. */
const logged = <A, E, R>(effect: Effect.Effect<A, E, R>) => {
  const lines: Array<string> = []
  const logger = Logger.map(Logger.formatJson, (line) => void lines.push(line))
  return Effect.map(Effect.provide(effect, Logger.layer([logger])), (value) => ({ value, lines }))
}

describe("StorageFile, with a damaged snapshot", () => {
  const six = nameOf(1, 6)

  it.live("that the log needs, says so: any byte flipped, any length too short", () =>
    Effect.gen(function*() {
      const { directory, image } = yield* stopped(5)
      const size = sizeOf(image, six)
      const damaged = Array.from({ length: size }, (_, at) => [
        flip(image, six, at),
        changed(image, six, (bytes) => bytes.subarray(0, at))
      ]).flat()
      for (const [i, found] of [...damaged, without(image, six)].entries()) {
        restore(directory, found)
        const { damage, entries, hardState, isReset, prev, snapshot } = yield* recoverOnly(directory)
        assert.isUndefined(snapshot, `image ${i}`)
        assert.isFalse(isReset)
        assert.include(damage, directory)
        assert.include(damage, "up to entry 5")
        assert.deepStrictEqual(prev, idOf(1, 5))
        assert.deepStrictEqual(hardState, { term: 2, votedFor: "n2" })
        assert.deepStrictEqual(plain(entries), plain(entriesOf(1, 6, 9)))
      }
    }).pipe(quietly))

  it.live("that the log needs, starts, changes nothing of it, and is whole again with the leader's", () =>
    Effect.gen(function*() {
      const { directory, image } = yield* stopped(5)
      restore(directory, flip(image, six, 90))
      const incoming = sent(idOf(1, 8), "the state at eight")
      yield* session(layerOf(directory), (storage, recovered) =>
        Effect.gen(function*() {
          assert.include(recovered.damage, six)
          assert.include(recovered.damage, "CRC")
          assert.deepStrictEqual(recovered.snapshot, none(initial))
          assert.isUndefined(yield* readLatest(storage))
          assert.isTrue(Fs.existsSync(Path.join(directory, six)))
          yield* storage.persist(writeOf(entriesOf(3, 10, 10), { term: 3, votedFor: undefined }))
          assert.isUndefined(yield* receive(storage, incoming))
          yield* storage.persist(writeOf([], undefined, { snapshot: incoming.snapshot, keepsLog: true }))
        }))
      yield* session(layerOf(directory), (storage, recovered) =>
        Effect.gen(function*() {
          assert.isUndefined(recovered.damage)
          assert.deepStrictEqual(recovered.snapshot, incoming.snapshot)
          assert.deepStrictEqual(recovered.prev, idOf(1, 5))
          assert.deepStrictEqual(plain(recovered.entries), plain([...entriesOf(1, 6, 9), ...entriesOf(3, 10, 10)]))
          assert.strictEqual((yield* readLatest(storage))?.text, "the state at eight")
        }))
      assert.deepStrictEqual(Fs.readdirSync(directory).filter((name) => name.endsWith("snapshot")), [nameOf(1, 8)])
    }).pipe(quietly))

  it.live("beside a whole log, warns, goes on with the log, and keeps the file until a later one is durable", () =>
    Effect.gen(function*() {
      const { directory, image } = yield* stopped(0)
      restore(directory, flip(image, six, 100))
      const { lines, value } = yield* logged(reopen(layerOf(directory)))
      assert.isUndefined(value.damage)
      assert.deepStrictEqual(value.snapshot, none(initial))
      assert.deepStrictEqual(plain(value.entries), plain(entriesOf(1, 1, 9)))
      assert.include(lines.join("\n"), `${six} is damaged at byte`)
      assert.isTrue(Fs.existsSync(Path.join(directory, six)))
      yield* session(layerOf(directory), (storage) => save(storage, idOf(1, 5), "five")).pipe(quietly)
      assert.isTrue(Fs.existsSync(Path.join(directory, six)))
      yield* session(layerOf(directory), (storage) => save(storage, idOf(1, 7), "seven")).pipe(quietly)
      const recovered = yield* reopen(layerOf(directory))
      assert.deepStrictEqual(recovered.snapshot.last, idOf(1, 7))
      assert.deepStrictEqual(Fs.readdirSync(directory).filter((name) => name.endsWith("snapshot")), [nameOf(1, 7)])
    }))

  it.live("uses an older one that is still there and that the log goes on from; one that ends too soon is none", () =>
    Effect.gen(function*() {
      const { directory, image } = yield* stopped(5)
      const others = yield* stopped(5)
      yield* session(layerOf(others.directory), (storage) => save(storage, idOf(1, 8), "eight"))
      const eight = nameOf(1, 8)
      const both = new Map([...image, [eight, Fs.readFileSync(Path.join(others.directory, eight))]])
      restore(directory, flip(both, eight, 150))
      assert.deepStrictEqual((yield* recoverOnly(directory)).snapshot?.last, idOf(1, 6))
      yield* session(layerOf(directory), (storage, { damage, snapshot }) =>
        Effect.gen(function*() {
          assert.isUndefined(damage)
          assert.deepStrictEqual(snapshot.last, idOf(1, 6))
          assert.strictEqual((yield* readLatest(storage))?.text, "the state at six")
        }))
      const four = sent(idOf(1, 4), "too short")
      restore(directory, new Map([...without(image, six), [nameOf(1, 4), four.bytes]]))
      const short = yield* recoverOnly(directory)
      assert.isUndefined(short.snapshot)
      assert.include(short.damage, "no snapshot that the log goes on from")
      const apart = sent(idOf(2, 5), "of another log")
      restore(directory, new Map([...without(image, six), [nameOf(2, 5), apart.bytes]]))
      const kept = yield* recoverOnly(directory)
      assert.isUndefined(kept.snapshot)
      assert.isFalse(kept.isReset)
      assert.include(kept.damage, "no snapshot that the log goes on from")
    }).pipe(quietly))

  it.live("under the name of another is none", () =>
    Effect.gen(function*() {
      const { directory, image } = yield* stopped(5)
      for (const name of [nameOf(1, 7), nameOf(2, 6), nameOf(1, 5)]) {
        restore(directory, new Map([...without(image, six), [name, image.get(six) ?? Buffer.alloc(0)]]))
        assert.include((yield* recoverOnly(directory)).damage, "not its name")
      }
    }))

  it.live("that cannot be read at all does not keep the server from starting", () =>
    Effect.gen(function*() {
      const { directory } = yield* stopped(5)
      Fs.rmSync(Path.join(directory, six))
      Fs.mkdirSync(Path.join(directory, six))
      const { damage } = yield* recoverOnly(directory)
      Fs.rmdirSync(Path.join(directory, six))
      assert.include(damage, "could not")
    }))

  it.live("is not handed to the state machine, even when it went bad after the start", () =>
    Effect.gen(function*() {
      const { directory } = yield* stopped(5)
      for (const damage of ["flipped", "cut"]) {
        yield* session(layerOf(directory), (storage) =>
          Effect.scoped(Effect.gen(function*() {
            yield* save(storage, idOf(1, 7), "x".repeat(700_000))
            const path = Path.join(directory, nameOf(1, 7))
            const bytes = Fs.readFileSync(path)
            bytes.writeUInt8(3, bytes.length - 100)
            Fs.writeFileSync(path, damage === "cut" ? bytes.subarray(0, -50) : bytes)
            const reader = yield* storage.openSnapshot
            let pieces = 0
            const error = yield* Effect.flip(
              Stream.runForEach(reader?.content ?? Stream.empty, () => Effect.sync(() => pieces++))
            )
            assert.strictEqual(error.reason, "Corrupt", damage)
            assert.strictEqual(pieces, 0)
          })))
      }
    }).pipe(quietly))
})

describe("StorageFile refuses, and leaves as it was, a directory", () => {
  const refused = Effect.fnUntraced(function*(directory: string, image: Image) {
    const leftover = `${String(7).padStart(15, "0")}-1.1.partial`
    const whole = new Map([...image, [leftover, Buffer.from("left by a crash")]])
    restore(directory, whole)
    const error = yield* Effect.flip(reopen(layerOf(directory)))
    assert.isTrue(isSameImage(imageOf(directory), whole), "the refused directory was changed")
    return error
  })

  it.live("with a snapshot of a later version", () =>
    Effect.gen(function*() {
      const { directory, image } = yield* stopped(5)
      const later = changed(image, nameOf(1, 6), (bytes) => {
        bytes.writeUInt32BE(2, 8)
        const end = 20 + bytes.readUInt32BE(16)
        bytes.writeUInt32BE(crc32(bytes.subarray(16, end), crc32(bytes.subarray(0, 12))), 12)
      })
      const error = yield* refused(directory, later)
      assert.strictEqual(error.reason, "Unsupported")
      assert.include(error.message, "format version 2")
    }))

  it.live("with a snapshot of another cluster", () =>
    Effect.gen(function*() {
      const { directory, image } = yield* stopped(5)
      const { bytes } = sent(idOf(1, 7), "s", initial, "c2")
      const error = yield* refused(directory, new Map([...image, [nameOf(1, 7), bytes]]))
      assert.strictEqual(error.reason, "Foreign")
    }))

  it.live("whose first files are gone although their entries are still needed", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* session(layerOf(directory), (storage) =>
        Effect.gen(function*() {
          for (let i = 1; i <= 9; i++) yield* storage.persist(writeOf(entriesOf(1, i, i, 400)))
          yield* save(storage, idOf(1, 3), "three")
          yield* storage.compact({ prev: idOf(1, 3), configuration: initial })
        }))
      const image = imageOf(directory)
      const logs = [...image.keys()].filter((name) => name.endsWith(".wal"))
      assert.isAbove(logs.length, 3)
      for (let gone = 1; gone < logs.length; gone++) {
        const error = yield* refused(directory, without(image, ...logs.slice(0, gone)))
        assert.strictEqual(error.reason, "Corrupt", `${gone} gone`)
        assert.include(error.message, "missing")
      }
    }))

  it.live("whose files do not agree on where the log ends or begins", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* session(layerOf(directory), (storage) =>
        Effect.gen(function*() {
          for (let i = 1; i <= 3; i++) yield* storage.persist(writeOf(entriesOf(1, i, i, 600)))
        }))
      const image = imageOf(directory)
      const name = [...image.keys()][1] ?? ""
      const header = yield* Segment.readHeader(Path.join(directory, name))
      const bytes = image.get(name) ?? Buffer.alloc(0)
      const found = Record.decode(bytes, Segment.headerBytes, header.mark)
      if (found._tag !== "Whole") return assert.fail(found.problem)
      const last = found.parts.start?.last ?? assert.fail("it does not say where the log ends")
      const starts = [
        { prev: origin, last: idOf(last.term, last.index - 1), keepsLog: true },
        { prev: origin, last: idOf(last.term + 1, last.index), keepsLog: true },
        { prev: idOf(1, last.index + 1), last, keepsLog: true }
      ]
      for (const start of starts) {
        const record = Record.make({ ...found.parts, start }) ?? assert.fail("too large")
        const again = Record.encode(record, header.mark, found.sequence, Buffer.alloc(record.bytes))
        const error = yield* refused(
          directory,
          changed(image, name, (copy) => void again.copy(copy, Segment.headerBytes))
        )
        assert.strictEqual(error.reason, "Corrupt")
        assert.include(error.message, "it says that")
      }
    }))
})
