/**
 * The file in which a server remembers disks: what a crash leaves of it, and what is refused.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { crc32 } from "node:zlib"
import * as DisksFile from "../../src/layers/DisksFile.ts"
import * as StorageFile from "../../src/layers/StorageFile.ts"
import { type KnownDisks, noKnownDisks } from "../../src/services/Storage.ts"
import { entriesOf, reopen, session, writeOf } from "../contracts/storage.ts"
import { powerLosses } from "./powerLoss.ts"
import {
  changed,
  failing,
  imageOf,
  isSameImage,
  quietly,
  restore,
  temporaryDirectory,
  watchChanges
} from "./storageDirectory.ts"

const layerOf = (directory: string, nodeId = "n1") =>
  StorageFile.layer({ directory, clusterId: "c1", nodeId, segmentBytes: 5120 })

const knowing = (...ids: ReadonlyArray<string>): KnownDisks => ({
  isAdmitted: true,
  disks: new Map(ids.map((id) => [id, `disk of ${id}`]))
})

const knownIn = (directory: string) => session(layerOf(directory), (storage) => Effect.succeed(storage.knownDisks))

/** A directory that remembers `known`. */
const remembering = Effect.fnUntraced(function*(known: KnownDisks) {
  const directory = yield* temporaryDirectory
  yield* session(
    layerOf(directory),
    (storage) => Effect.andThen(storage.persist(writeOf(entriesOf(1, 1, 2))), storage.rememberDisks(known))
  )
  return directory
})

const refused = Effect.fnUntraced(function*(directory: string, nodeId?: string) {
  const image = imageOf(directory)
  const error = yield* Effect.flip(reopen(layerOf(directory, nodeId)))
  assert.isTrue(isSameImage(imageOf(directory), image), "the refused directory was changed")
  return error
})

describe("the memory of disks", () => {
  it.live("is after a crash at any point what it was, or what it was to be; never less than was promised", () =>
    Effect.gen(function*() {
      const directory = yield* remembering(knowing("n2"))
      const image = imageOf(directory)
      let durableAfter = 0
      const changes = yield* Effect.scoped(Effect.gen(function*() {
        const changes = yield* watchChanges
        yield* session(layerOf(directory), (storage) => {
          changes.length = 0
          return Effect.andThen(
            storage.rememberDisks(knowing("n2", "n3")),
            Effect.sync(() => void (durableAfter = changes.length))
          )
        })
        return changes.slice(0, durableAfter)
      }))
      const losses = powerLosses(changes, Path.basename(directory), image)
      assert.isAbove(losses.length, 10)
      const found = new Set<number>()
      for (const { changes: done, image, what } of losses) {
        restore(directory, image)
        const { disks } = yield* knownIn(directory)
        found.add(disks.size)
        assert.include(done === durableAfter ? [2] : [1, 2], disks.size, what)
        assert.isFalse(Fs.existsSync(Path.join(directory, "disks.partial")), what)
      }
      assert.sameMembers([...found], [1, 2])
    }).pipe(quietly))

  it.live("stays as it was when there is no room for more, and the storage goes on", () =>
    Effect.gen(function*() {
      const directory = yield* remembering(knowing("n2"))
      yield* session(layerOf(directory), (storage) =>
        Effect.gen(function*() {
          yield* Effect.scoped(Effect.gen(function*() {
            yield* failing("write", "ENOSPC")
            const error = yield* Effect.flip(storage.rememberDisks(knowing("n3")))
            assert.strictEqual(error.reason, "DiskFull")
          }))
          yield* storage.persist(writeOf(entriesOf(1, 3, 3)))
        }))
      assert.deepStrictEqual(yield* knownIn(directory), knowing("n2"))
      yield* session(layerOf(directory), (storage) => storage.rememberDisks(knowing("n3")))
      assert.deepStrictEqual(yield* knownIn(directory), knowing("n3"))
    }))

  it.live("is refused with any of its bytes changed, or cut anywhere, and says what to do", () =>
    Effect.gen(function*() {
      const directory = yield* remembering(knowing("n2", "n3"))
      const { identity } = yield* session(layerOf(directory), Effect.succeed)
      const image = imageOf(directory)
      const length = image.get("disks")?.length ?? 0
      for (let at = 0; at < length; at++) {
        const flipped = changed(image, "disks", (bytes) => void bytes.writeUInt8(bytes.readUInt8(at) ^ 4, at))
        for (const damaged of [flipped, changed(image, "disks", (bytes) => bytes.subarray(0, at))]) {
          restore(directory, damaged)
          const error = yield* Effect.flip(DisksFile.read(directory, identity))
          assert.strictEqual(error.reason, "Corrupt", `byte ${at}`)
        }
      }
      assert.include((yield* refused(directory)).message, "delete this file and start again")
      Fs.unlinkSync(Path.join(directory, "disks"))
      assert.deepStrictEqual(yield* knownIn(directory), noKnownDisks)
    }))

  it.live("is refused in a version that is not known", () =>
    Effect.gen(function*() {
      const directory = yield* remembering(knowing("n2"))
      const later = changed(imageOf(directory), "disks", (bytes) => {
        bytes.writeUInt32BE(2, 8)
        bytes.writeUInt32BE(crc32(bytes.subarray(16), crc32(bytes.subarray(0, 12))), 12)
      })
      restore(directory, later)
      const error = yield* refused(directory)
      assert.strictEqual(error.reason, "Unsupported")
      assert.include(error.message, "format version 2; this program reads version 1")
    }))

  it.live("tells of a log that was deleted, or that another took the place of", () =>
    Effect.gen(function*() {
      const directory = yield* remembering(knowing("n2"))
      const image = imageOf(directory)
      const others = imageOf(yield* remembering(knowing("n2")))
      const memory = [["disks", image.get("disks") ?? Buffer.alloc(0)]] as const
      for (const mixed of [new Map(memory), new Map([...others, ...memory])]) {
        restore(directory, mixed)
        const error = yield* refused(directory)
        assert.strictEqual(error.reason, "Foreign")
        assert.include(error.message, "run titan member replace n1 NEW=URL")
      }
    }))
})
