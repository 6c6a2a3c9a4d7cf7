/**
 * Snapshots of the key-value store: what they hold, what they are made of, and that nothing waits for them.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import * as Protocol from "../../src/layers/kv/Protocol.ts"
import * as Store from "../../src/layers/kv/Store.ts"

type Kv = ReturnType<typeof Store.make>

const bytesOf = (content: Stream.Stream<Uint8Array>): Effect.Effect<Buffer> =>
  Effect.map(Stream.mkUint8Array(content), (bytes) => Buffer.from(bytes))

/** What a snapshot that is taken and run at once holds. */
const contentOf = (store: Kv): Effect.Effect<Buffer> => Effect.flatMap(store.snapshot, bytesOf)

const piecesOf = (bytes: Uint8Array, size: number): Stream.Stream<Uint8Array> =>
  Stream.fromArray(
    Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.slice(i * size, (i + 1) * size))
  )

const restoredFrom = Effect.fnUntraced(function*(bytes: Uint8Array, pieceBytes = 64 << 10) {
  const store = Store.make()
  yield* store.restore(piecesOf(bytes, pieceBytes))
  return store
})

/** All that queries can tell: every item with its revision and version, and the last revision. */
const told = (store: Kv) => {
  const items: Array<Protocol.Item> = []
  for (let after: string | undefined;;) {
    const page = store.respond({ _tag: "List", prefix: "", limit: 1000, ...(after === undefined ? {} : { after }) })
    if (page._tag !== "Listed") throw new Error("a list was not answered by a list")
    items.push(...page.items)
    if (!page.more) return { items, revision: page.revision }
    after = page.items.at(-1)?.key
  }
}

const keyOf = (n: number): string => `key/${String(n).padStart(6, "0")}`

const put = (key: string, value: Uint8Array): Protocol.Command => ({ _tag: "Put", key, value })

const filled = (keys: number, valueBytes = 100): Kv => {
  const store = Store.make()
  for (let i = 0; i < keys; i++) {
    const n = i * 7919 % keys
    store.apply(put(keyOf(n), new Uint8Array(valueBytes).fill(n)), { index: i + 1, term: 1 })
  }
  return store
}

/** Keys of every length of UTF-8, in an order that UTF-8 would not have, and enough of them for several nodes of the tree. */
const keys = ["a", "ключ", "日本", "😀", "\uFFFF", "k".repeat(4096), ...Array.from({ length: 90 }, (_, i) => keyOf(i))]

const Change = Schema.Struct({
  key: Schema.Literals(keys),
  kind: Schema.Literals(["put", "put", "put", "delete", "refused"]),
  valueBytes: Schema.Literals([0, 1, 100, 5000, 70_000, 200_000])
})

const commandOf = ({ key, kind, valueBytes }: typeof Change.Type, n: number): Protocol.Command =>
  kind === "delete"
    ? { _tag: "Delete", key }
    : { ...put(key, new Uint8Array(valueBytes).fill(n)), ...(kind === "refused" ? { ifRevision: 1_000_000 } : {}) }

const applyAll = (store: Kv, changes: ReadonlyArray<typeof Change.Type>, from: number): void => {
  // Indices beyond 32 bits, as a log may have them.
  changes.forEach((change, i) => store.apply(commandOf(change, from + i), { index: 2 ** 40 + from + i, term: 1 }))
}

describe("a snapshot", () => {
  it.effect.prop(
    "restores to the state at the time it was taken, whatever was written before its stream was run",
    { before: Schema.Array(Change), after: Schema.Array(Change), size: Schema.Literals([1, 7, 4096, 1 << 30]) },
    ({ after, before, size }) =>
      Effect.gen(function*() {
        const store = filled(keys.length)
        applyAll(store, before, 1)
        const [state, content] = [told(store), yield* contentOf(store)]
        const snapshot = yield* store.snapshot
        applyAll(store, after, 1000)
        const written = yield* bytesOf(snapshot)
        assert.isTrue(written.equals(content))
        const restored = yield* restoredFrom(written, written.length > 100_000 ? Math.max(size, 1000) : size)
        assert.deepStrictEqual(told(restored), state)
        applyAll(restored, after, 1000)
        assert.deepStrictEqual(told(restored), told(store))
      }),
    { arbitrary: { runs: 60, seed: 1 } }
  )

  it.effect("of 5,000 keys does not change while every key is written or deleted between its pieces", () =>
    Effect.gen(function*() {
      const store = filled(5000)
      const state = told(store)
      const pieces: Array<Uint8Array> = []
      let index = 5000
      yield* Stream.runForEach(yield* store.snapshot, (piece) =>
        Effect.sync(() => {
          pieces.push(piece)
          for (let i = 0; i < 5000; i++) {
            const key = keyOf((i * 31 + pieces.length) % 6000)
            store.apply(i % 3 === 0 ? { _tag: "Delete", key } : put(key, Uint8Array.of(1)), { index: ++index, term: 1 })
          }
        }))
      assert.isAbove(pieces.length, 5)
      assert.deepStrictEqual(told(yield* restoredFrom(Buffer.concat(pieces))), state)
      assert.notDeepEqual(told(store), state)
    }))

  it.effect("that is taken while another is still being written holds its own state", () =>
    Effect.gen(function*() {
      const store = filled(500)
      const [first, firstState] = [yield* store.snapshot, told(store)]
      store.apply(put(keyOf(3), Uint8Array.of(1)), { index: 501, term: 1 })
      const [second, secondState] = [yield* store.snapshot, told(store)]
      store.apply({ _tag: "Delete", key: keyOf(4) }, { index: 502, term: 1 })
      const [firstBytes, secondBytes] = yield* Effect.all([bytesOf(first), bytesOf(second)], { concurrency: 2 })
      assert.deepStrictEqual(told(yield* restoredFrom(firstBytes)), firstState)
      assert.deepStrictEqual(told(yield* restoredFrom(secondBytes)), secondState)
    }))

  it.effect("of keys as long as can be is whole", () =>
    Effect.gen(function*() {
      const store = Store.make()
      for (let i = 0; i < 100; i++) {
        const key = String(i).padStart(Protocol.keyBytesMax - i % 7, "k")
        store.apply(put(key, new Uint8Array(i)), { index: i + 1, term: 1 })
      }
      assert.deepStrictEqual(told(yield* restoredFrom(yield* contentOf(store))), told(store))
    }))

  it.effect("of a restored store is the same, byte for byte", () =>
    Effect.gen(function*() {
      const bytes = yield* contentOf(filled(3000))
      assert.isTrue((yield* contentOf(yield* restoredFrom(bytes))).equals(bytes))
    }))

  it.effect("has the format that the header of Content.ts says", () =>
    Effect.gen(function*() {
      const store = Store.make()
      store.apply(put("b", Uint8Array.of(9)), { index: 3, term: 1 })
      store.apply(put("é", Uint8Array.of()), { index: 4, term: 1 })
      store.apply(put("b", Uint8Array.of(7, 255)), { index: 2 ** 40 + 1, term: 1 })
      const header = ["746b76", "01", "010000000001", "000000000002"]
      const b = ["0001", "62", "0000000e", "07ff", "010000000001", "000000000002"]
      const eAcute = ["0002", "c3a9", "0000000c", "", "000000000004", "000000000001"]
      assert.strictEqual((yield* contentOf(store)).toString("hex"), [...header, ...b, ...eAcute].join(""))
    }))

  it.effect("comes in pieces of at most 64 KiB, each in memory of its own", () =>
    Effect.gen(function*() {
      const store = filled(1000)
      store.apply(put("large", new Uint8Array(300_000).fill(5)), { index: 1001, term: 1 })
      const pieces = yield* Stream.runCollect(yield* store.snapshot)
      assert.isAbove(pieces.length, 6)
      assert.isBelow(pieces.length, 10)
      for (const piece of pieces) assert.isAtMost(piece.length, 64 << 10)
      assert.strictEqual(new Set(pieces.map((piece) => piece.buffer)).size, pieces.length)
    }))
})

describe("restoring", () => {
  it.effect("an empty store's snapshot gives an empty store", () =>
    Effect.gen(function*() {
      const store = yield* restoredFrom(yield* contentOf(Store.make()))
      assert.deepStrictEqual(told(store), { items: [], revision: 0 })
    }))

  it.effect("replaces everything", () =>
    Effect.gen(function*() {
      const store = filled(200)
      const small = Store.make()
      small.apply(put("only", Uint8Array.of(1)), { index: 7, term: 1 })
      yield* store.restore(yield* small.snapshot)
      assert.deepStrictEqual(told(store), told(small))
      yield* store.restore(yield* Store.make().snapshot)
      assert.deepStrictEqual(told(store), { items: [], revision: 0 })
    }))

  it.effect("keeps alive nothing of the pieces", () =>
    Effect.gen(function*() {
      const bytes = yield* contentOf(filled(10))
      const store = yield* restoredFrom(bytes)
      const found = store.respond({ _tag: "Get", key: keyOf(3) })
      assert.strictEqual(found._tag === "Found" ? found.value.buffer.byteLength : undefined, 100)
    }))

  it.effect("from a stream that fails, fails with its error, and leaves the store as it was", () =>
    Effect.gen(function*() {
      const store = filled(10)
      const state = told(store)
      const half = (yield* contentOf(filled(20))).subarray(0, 700)
      const content = Stream.concat(piecesOf(half, 100), Stream.fail("the disk is gone"))
      assert.strictEqual(yield* Effect.flip(store.restore(content)), "the disk is gone")
      assert.deepStrictEqual(told(store), state)
    }))

  const problemOf = Effect.fnUntraced(function*(bytes: Uint8Array) {
    const store = filled(10)
    const state = told(store)
    const exit = yield* Effect.exit(store.restore(piecesOf(bytes, 64)))
    assert.deepStrictEqual(told(store), state)
    return Exit.isFailure(exit) && Cause.hasDies(exit.cause) ? String(Cause.squash(exit.cause)) : "no defect"
  })

  it.effect("what is cut short, anywhere, is a defect that says so, and leaves the store as it was", () =>
    Effect.gen(function*() {
      const bytes = yield* contentOf(filled(3, 5))
      for (let length = 0; length < bytes.length; length++) {
        assert.match(
          yield* problemOf(bytes.subarray(0, length)),
          length < 16 ? /ends after \d+ bytes, within its header/ : /ends after record \d of 3/
        )
      }
    }))

  it.effect("what this version does not know is a defect that says what it is", () =>
    Effect.gen(function*() {
      const bytes = yield* contentOf(filled(3))
      const changed = (at: number, value: number) => Buffer.from(bytes.map((byte, i) => i === at ? value : byte))
      assert.match(yield* problemOf(changed(3, 9)), /has format 9, and this version of Titan reads format 1/)
      assert.match(yield* problemOf(changed(0, 9)), /another state machine wrote it/)
      assert.match(yield* problemOf(Buffer.concat([bytes, Buffer.alloc(2)])), /2 bytes follow its last record/)
      // The number of the first key, so that it comes after the second one.
      assert.match(yield* problemOf(changed(16 + 2 + 9, 0x37)), /its record 2 is out of order/)
    }))
})

describe("the process", () => {
  /** Turns of the event loop while `work` runs: what timers and sockets wait for. */
  const turnsDuring = Effect.fnUntraced(function*<A>(work: Effect.Effect<A>) {
    let turns = 0
    let running = true
    const turn = (): void => {
      turns++
      if (running) setImmediate(turn)
    }
    turn()
    const result = yield* work
    running = false
    return { result, turns }
  })

  it.live("goes on between the pieces of a snapshot, though the reader never waits", () =>
    Effect.gen(function*() {
      const { result, turns } = yield* turnsDuring(Stream.runCollect(yield* filled(50_000).snapshot))
      assert.isAbove(result.length, 90)
      assert.isAtLeast(turns, 90)
    }))

  it.live("goes on while a store is restored, though all of it comes at once", () =>
    Effect.gen(function*() {
      const bytes = yield* contentOf(filled(50_000))
      const { turns } = yield* turnsDuring(restoredFrom(bytes, bytes.length))
      assert.isAtLeast(turns, 90)
    }))
})
