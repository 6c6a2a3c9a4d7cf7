/**
 * What recovery cuts, and what it refuses: the rule in the header of `wal/Record.ts`, byte by byte.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as StorageFile from "../../src/layers/StorageFile.ts"
import { entriesOf, plain, reopen, session, writeOf } from "../contracts/storage.ts"
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

const segmentBytes = 5120
const headerBytes = 4096
const firstFile = "000000000000001.wal"
const layerOf = (directory: string) => StorageFile.layer({ directory, clusterId: "c1", nodeId: "n1", segmentBytes })

/** The places of the records in a file, found by its mark: where each begins, and where the last one ends. */
const recordsOf = (bytes: Buffer): ReadonlyArray<number> => {
  const starts: Array<number> = []
  for (let at = headerBytes; bytes.subarray(at, at + 8).equals(bytes.subarray(28, 36));) {
    starts.push(at)
    at += Math.ceil((28 + bytes.readUInt32BE(at + 16)) / 8) * 8
  }
  return starts
}

const fileOf = (image: Image, name = firstFile): Buffer => image.get(name) ?? assert.fail(`no file ${name}`)

/** A directory after a crash of a server that had stored `before` and then the entries 4 to 6, and its image. */
const crashed = Effect.gen(function*() {
  const directory = yield* temporaryDirectory
  const image = yield* session(layerOf(directory), (storage) =>
    Effect.gen(function*() {
      yield* storage.persist(before)
      yield* storage.persist(writeOf(entriesOf(2, 4, 6, 12), { term: 2, votedFor: "n3" }))
      return imageOf(directory)
    }))
  return { directory, image }
})
const before = writeOf(entriesOf(1, 1, 3, 12), { term: 1, votedFor: "n2" })

const refusal = Effect.fnUntraced(function*(directory: string, image: Image, what: string) {
  restore(directory, image)
  const error = yield* Effect.flip(recoverOnly(directory))
  assert.isTrue(isSameImage(imageOf(directory), image), `${what}: the refused directory was changed`)
  return error
})

describe("StorageFile, with a torn tail", () => {
  it.live("cuts the last record wherever it ends too soon, and keeps all before it", () =>
    Effect.gen(function*() {
      const { directory, image } = yield* crashed
      const start = recordsOf(fileOf(image)).at(-1) ?? 0
      const end = fileOf(image).findLastIndex((byte) => byte !== 0) + 1
      assert.isAbove(end - start, 80)
      for (let at = start; at < end; at++) {
        restore(directory, changed(image, firstFile, (bytes) => void bytes.fill(0, at)))
        const recovered = yield* recoverOnly(directory)
        assert.deepStrictEqual(plain(recovered.entries), plain(before.entries), `zeros from byte ${at}`)
        assert.deepStrictEqual(recovered.hardState, before.hardState)
        assert.isTrue(fileOf(imageOf(directory)).subarray(start).every((byte) => byte === 0), "the tail is zeroed")
      }
    }).pipe(quietly))

  it.live("cuts the last record whichever of its bytes is wrong", () =>
    Effect.gen(function*() {
      const { directory, image } = yield* crashed
      const start = recordsOf(fileOf(image)).at(-1) ?? 0
      const end = fileOf(image).findLastIndex((byte) => byte !== 0) + 1
      for (let at = start; at < end; at++) {
        restore(directory, changed(image, firstFile, (bytes) => void bytes.writeUInt8(bytes.readUInt8(at) ^ 0x10, at)))
        const recovered = yield* recoverOnly(directory)
        assert.deepStrictEqual(plain(recovered.entries), plain(before.entries), `byte ${at}`)
      }
    }).pipe(quietly))

  it.live("refuses the same damage when the server had stopped cleanly", () =>
    Effect.gen(function*() {
      const { directory } = yield* crashed
      const image = imageOf(directory)
      const starts = recordsOf(fileOf(image))
      assert.strictEqual(starts.length, 4)
      for (let at = starts[2] ?? 0; at < (starts[3] ?? 0); at++) {
        const flipped = changed(image, firstFile, (bytes) => void bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at))
        assert.strictEqual((yield* refusal(directory, flipped, `byte ${at}`)).reason, "Corrupt", `byte ${at}`)
      }
    }))
})

describe("StorageFile, with damage to what was durable", () => {
  it.live(
    "refuses any flipped byte of a header or an earlier record, says where, and changes nothing",
    () =>
      Effect.gen(function*() {
        const { directory, image } = yield* crashed
        const starts = recordsOf(fileOf(image))
        const end = starts.at(-1) ?? 0
        assert.strictEqual(starts.length, 3)
        for (let at = 0; at < end; at++) {
          const flipped = changed(image, firstFile, (bytes) => void bytes.writeUInt8(bytes.readUInt8(at) ^ 0x80, at))
          const error = yield* refusal(directory, flipped, `byte ${at}`)
          const where = starts.findLast((start) => start <= at) ?? 0
          assert.strictEqual(error.reason, "Corrupt", `byte ${at}: ${error.message}`)
          assert.include(error.message, `${directory}/${firstFile} is damaged at byte ${where}:`)
          assert.include(error.message, "never start it again under its id with an empty directory")
        }
      }),
    120_000
  )

  it.live("refuses an earlier record that was zeroed, in part or whole", () =>
    Effect.gen(function*() {
      const { directory, image } = yield* crashed
      const [first = 0, second = 0, third = 0] = recordsOf(fileOf(image))
      for (const [from, to] of [[first, second], [second, third], [first, third], [first + 8, second - 9]] as const) {
        const zeroed = changed(image, firstFile, (bytes) => void bytes.fill(0, from, to))
        assert.strictEqual((yield* refusal(directory, zeroed, `${from} to ${to}`)).reason, "Corrupt")
      }
    }))

  it.live("refuses a file that is shorter or longer than it was made", () =>
    Effect.gen(function*() {
      const { directory, image } = yield* crashed
      for (const size of [0, 100, headerBytes, segmentBytes - 1, segmentBytes + 1]) {
        const resized = changed(image, firstFile, (bytes) => Buffer.concat([bytes, Buffer.alloc(1)]).subarray(0, size))
        const error = yield* refusal(directory, resized, `${size} bytes`)
        assert.strictEqual(error.reason, "Corrupt")
        assert.include(error.message, `${size} bytes`)
      }
    }))

  it.live("refuses a missing file, a damaged end of an older file, and files out of order", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* session(layerOf(directory), (storage) =>
        Effect.gen(function*() {
          for (let i = 1; i <= 8; i++) yield* storage.persist(writeOf(entriesOf(1, i, i, 400)))
        }))
      const image = imageOf(directory)
      const names = [...image.keys()]
      const [first = "", second = "", third = ""] = names
      assert.isAbove(names.length, 3)
      for (const missing of [first, second, third]) {
        const without = new Map([...image].filter(([name]) => name !== missing))
        assert.strictEqual((yield* refusal(directory, without, `without ${missing}`)).reason, "Corrupt")
      }
      const lastRecord = recordsOf(fileOf(image, second)).at(-1) ?? 0
      const cut = changed(image, second, (bytes) => void bytes.fill(0, lastRecord))
      const torn = changed(image, second, (bytes) => void bytes.fill(0, lastRecord + 40))
      const garbage = changed(image, second, (bytes) => void bytes.fill(7, bytes.length - 3))
      const swapped = new Map([...image, [second, fileOf(image, third)], [third, fileOf(image, second)]])
      for (const [what, damaged] of Object.entries({ cut, torn, garbage, swapped })) {
        const error = yield* refusal(directory, damaged, what)
        assert.strictEqual(error.reason, "Corrupt", what)
        assert.include(error.message, second, what)
      }
    }))

  it.live("takes nothing a client wrote for a record, not even a copy of the file", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const image = yield* session(layerOf(directory), (storage) =>
        Effect.gen(function*() {
          yield* storage.persist(before)
          const copy = Buffer.concat([fileOf(imageOf(directory)), fileOf(imageOf(directory)).subarray(headerBytes)])
          const payload = { _tag: "Command", bytes: copy } as const
          yield* storage.persist(writeOf([{ term: 1, index: 4, payload }]))
          return imageOf(directory)
        }))
      const [, name = ""] = [...image.keys()]
      restore(directory, changed(image, name, (bytes) => void bytes.fill(0, headerBytes, headerBytes + 512)))
      assert.deepStrictEqual(plain((yield* recoverOnly(directory)).entries), plain(before.entries))
      yield* reopen(layerOf(directory))
    }).pipe(quietly))
})
