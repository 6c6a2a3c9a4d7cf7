/**
 * The files that snapshots and compaction make and delete.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as StorageFile from "../../src/layers/StorageFile.ts"
import type { Storage } from "../../src/services/Storage.ts"
import { idOf, readLatest, receive, save, sent, streamOf } from "../contracts/sentSnapshots.ts"
import { entriesOf, entryAt, initial, plain, reopen, session, writeOf } from "../contracts/storage.ts"
import { delaying, failing, temporaryDirectory, watchChanges } from "./storageDirectory.ts"

const layerOf = (directory: string, segmentBytes = 5120) =>
  StorageFile.layer({ directory, clusterId: "c1", nodeId: "n1", segmentBytes })

const namesOf = (directory: string, kind: string): ReadonlyArray<string> =>
  Fs.readdirSync(directory).filter((name) => name.endsWith(kind)).toSorted()

const snapshotName = (index: number): string => `${String(index).padStart(15, "0")}-1.snapshot`

describe("StorageFile, saving a snapshot", () => {
  it.live("syncs as it goes, names the file once all of it is durable, and only then deletes the one before", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* session(layerOf(directory), (storage) =>
        Effect.gen(function*() {
          yield* storage.persist(writeOf(entriesOf(1, 1, 9)))
          yield* save(storage, idOf(1, 3), "three")
          const changes = yield* watchChanges
          const mebibytes = Array.from({ length: 10 }, () => Buffer.alloc(1 << 20, 7))
          yield* storage.saveSnapshot({ last: idOf(1, 8), configuration: initial }, streamOf(...mebibytes))
          while (Fs.existsSync(Path.join(directory, snapshotName(3)))) yield* Effect.sleep("1 millis")
          const partial = "000000000000008-1.2.partial"
          const told = changes.map(({ _tag, name }) => `${_tag} ${name}`)
          const writes = changes.filter(({ _tag }) => _tag === "Write").length
          assert.isAbove(writes, 40)
          assert.strictEqual(told[0], `Create ${partial}`)
          // Twice in between, after four MiB each, and once at the end.
          assert.strictEqual(told.filter((what) => what === `Sync ${partial}`).length, 3)
          assert.deepStrictEqual(told.slice(-4), [
            `Sync ${partial}`,
            `Rename ${partial}`,
            `Sync ${Path.basename(directory)}`,
            `Delete ${snapshotName(3)}`
          ])
          assert.isTrue(changes.every((change) => change._tag !== "Write" || change.bytes.length <= 1 << 18))
        }))
    }))

  for (const [call, code, reason] of [["write", "ENOSPC", "DiskFull"], ["fdatasync", "EIO", "Failed"]] as const) {
    it.live(`fails with ${reason} after ${code} from ${call}, gives the room back, and keeps what was there`, () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const before = yield* session(layerOf(directory), (storage) =>
          Effect.gen(function*() {
            yield* storage.persist(writeOf(entriesOf(1, 1, 9)))
            const three = yield* save(storage, idOf(1, 3), "three")
            yield* Effect.scoped(Effect.gen(function*() {
              yield* failing(call, code)
              const content = streamOf(Buffer.alloc(5 << 20))
              const of = { last: idOf(1, 8), configuration: initial }
              assert.strictEqual((yield* Effect.flip(storage.saveSnapshot(of, content))).reason, reason)
            }))
            assert.deepStrictEqual(namesOf(directory, "partial"), [])
            assert.strictEqual((yield* readLatest(storage))?.text, "three")
            return three
          }))
        assert.deepStrictEqual((yield* reopen(layerOf(directory))).snapshot, before)
      }))
  }
})

describe("StorageFile, receiving a snapshot", () => {
  it.live("that does not come to its end, or is too long, leaves no file and takes no more disk than announced", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* session(layerOf(directory), (storage) =>
        Effect.gen(function*() {
          const { bytes, snapshot } = sent(idOf(1, 5), "s".repeat(500))
          yield* Effect.scoped(Effect.gen(function*() {
            const writer = yield* storage.receiveSnapshot(snapshot)
            for (let i = 0; i < 20; i++) yield* writer.write(bytes)
            const [name = ""] = namesOf(directory, "partial")
            assert.strictEqual(Fs.statSync(Path.join(directory, name)).size, snapshot.sizeBytes)
          }))
          assert.deepStrictEqual(namesOf(directory, "partial"), [])
          yield* Effect.scoped(Effect.gen(function*() {
            const writer = yield* storage.receiveSnapshot(snapshot)
            yield* writer.write(bytes)
            assert.isUndefined(yield* writer.finish)
            assert.strictEqual((yield* Effect.flip(writer.finish)).reason, "Failed")
            assert.strictEqual((yield* Effect.flip(writer.write(bytes))).reason, "Failed")
          }))
          assert.deepStrictEqual(namesOf(directory, "received"), ["000000000000005-1.received"])
          yield* storage.discardSnapshot(snapshot.last)
          assert.deepStrictEqual(namesOf(directory, "received"), [])
        }))
    }))

  it.live("that cannot be given its name fails the storage for good", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const { bytes, snapshot } = sent(idOf(1, 5), "s")
      yield* session(layerOf(directory), (storage) =>
        Effect.gen(function*() {
          yield* Effect.scoped(Effect.gen(function*() {
            const writer = yield* storage.receiveSnapshot(snapshot)
            yield* writer.write(bytes)
            yield* writer.finish
          }))
          const install = writeOf([], undefined, { snapshot, keepsLog: false })
          yield* Effect.scoped(Effect.andThen(failing("rename", "EIO"), Effect.flip(storage.persist(install))))
          for (const write of [writeOf(entriesOf(1, 1, 1)), writeOf([])]) {
            assert.strictEqual((yield* Effect.flip(storage.persist(write))).reason, "Failed")
          }
        }))
      const recovered = yield* reopen(layerOf(directory))
      assert.strictEqual(recovered.snapshot.last.index, 0)
      assert.deepStrictEqual(recovered.entries, [])
    }))
})

describe("StorageFile, compacting", () => {
  it.live("deletes the files that hold nothing else, oldest first, and recovers from the rest", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* session(layerOf(directory), (storage) =>
        Effect.gen(function*() {
          for (let i = 1; i <= 40; i++) {
            yield* storage.persist(writeOf([entryAt(1, i, 400)], { term: i, votedFor: "n3" }))
          }
          yield* save(storage, idOf(1, 30), "thirty")
          const before = namesOf(directory, "wal")
          assert.isAbove(before.length, 15)
          const changes = yield* watchChanges
          yield* storage.compact({ prev: idOf(1, 20), configuration: initial })
          const half = namesOf(directory, "wal")
          assert.deepStrictEqual(half, before.slice(-half.length))
          assert.closeTo(half.length, before.length / 2, 2)
          const deleted = changes.filter(({ _tag }) => _tag === "Delete").map(({ name }) => name)
          assert.deepStrictEqual(deleted, before.slice(0, deleted.length))
          for (const [i, change] of changes.entries()) {
            if (change._tag === "Delete") assert.strictEqual(changes[i + 1]?.name, Path.basename(directory))
          }
        }))
      yield* session(layerOf(directory), (storage, recovered) =>
        Effect.gen(function*() {
          assert.deepStrictEqual(recovered.prev, idOf(1, 20))
          assert.deepStrictEqual(recovered.hardState, { term: 40, votedFor: "n3" })
          assert.deepStrictEqual(plain(recovered.entries), plain(entriesOf(1, 21, 40, 400)))
          yield* storage.compact({ prev: idOf(1, 30), configuration: initial })
          assert.isAtMost(namesOf(directory, "wal").length, 8)
        }))
      assert.deepStrictEqual(plain((yield* reopen(layerOf(directory))).entries), plain(entriesOf(1, 31, 40, 400)))
    }))

  it.live("deletes what a log held that began anew behind a snapshot, at once or after a restart", () =>
    Effect.gen(function*() {
      for (const isRestarted of [false, true]) {
        const directory = yield* temporaryDirectory
        const incoming = sent(idOf(3, 5), "s")
        const compact = (storage: Storage["Service"]) =>
          storage.compact({ prev: incoming.snapshot.last, configuration: initial })
        yield* session(layerOf(directory), (storage) =>
          Effect.gen(function*() {
            for (let i = 1; i <= 9; i++) yield* storage.persist(writeOf([entryAt(1, i, 700)]))
            yield* receive(storage, incoming)
            yield* storage.persist(writeOf([], undefined, { snapshot: incoming.snapshot, keepsLog: false }))
            assert.isAbove(namesOf(directory, "wal").length, 7)
            if (!isRestarted) {
              yield* compact(storage)
              assert.strictEqual(namesOf(directory, "wal").length, 1)
            } else yield* Effect.andThen(failing("unlink", "EIO"), Effect.exit(compact(storage)))
          }))
        const { entries, prev } = yield* reopen(layerOf(directory))
        assert.strictEqual(namesOf(directory, "wal").length, 1, `restarted: ${isRestarted}`)
        assert.deepStrictEqual(prev, idOf(3, 5))
        assert.deepStrictEqual(entries, [])
      }
    }))

  it.live("deletes at the next start what a crash kept it from deleting", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* session(layerOf(directory), (storage) =>
        Effect.gen(function*() {
          for (let i = 1; i <= 10; i++) yield* storage.persist(writeOf([entryAt(1, i, 700)]))
          yield* save(storage, idOf(1, 9), "nine")
          yield* Effect.scoped(Effect.gen(function*() {
            yield* failing("unlink", "EIO")
            yield* Effect.flip(storage.compact({ prev: idOf(1, 9), configuration: initial }))
          }))
          assert.isAbove(namesOf(directory, "wal").length, 8)
        }))
      const { entries, prev } = yield* reopen(layerOf(directory))
      assert.deepStrictEqual(prev, idOf(1, 9))
      assert.deepStrictEqual(plain(entries), plain(entriesOf(1, 10, 10, 700)))
      assert.isAtMost(namesOf(directory, "wal").length, 2)
    }))

  it.live("does not hold up writes while files are deleted", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* session(layerOf(directory), (storage) =>
        Effect.gen(function*() {
          for (let i = 1; i <= 10; i++) yield* storage.persist(writeOf([entryAt(1, i, 700)]))
          yield* save(storage, idOf(1, 9), "nine")
          yield* Effect.scoped(Effect.gen(function*() {
            yield* delaying("unlink", 20)
            const compacting = yield* Effect.forkChild(storage.compact({ prev: idOf(1, 9), configuration: initial }))
            for (let i = 11; i <= 16; i++) {
              yield* storage.persist(writeOf([entryAt(1, i, 50)]))
              assert.isUndefined(compacting.pollUnsafe(), `write ${i} came after the deletions`)
            }
            yield* Fiber.join(compacting)
          }))
        }))
      assert.strictEqual((yield* reopen(layerOf(directory))).entries.length, 7)
    }))

  it.live("keeps a directory small under a long run of writes, however often it is restarted", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      let most = 0
      for (let round = 0; round < 3; round++) {
        yield* session(layerOf(directory), (storage) =>
          Effect.gen(function*() {
            for (let i = round * 60 + 1; i <= round * 60 + 60; i++) {
              yield* storage.persist(writeOf([entryAt(1, i, 300)]))
              if (i % 10 !== 0) continue
              yield* save(storage, idOf(1, i), "s".repeat(2000))
              yield* storage.compact({ prev: idOf(1, i - 2), configuration: initial })
              most = Math.max(most, Fs.readdirSync(directory).length)
            }
          }))
      }
      assert.isAtMost(most, 14)
      const { entries, prev } = yield* reopen(layerOf(directory))
      assert.deepStrictEqual(prev, idOf(1, 178))
      assert.deepStrictEqual(plain(entries), plain(entriesOf(1, 179, 180, 300)))
    }))
})
