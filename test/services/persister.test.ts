/**
 * The persist loop alone: groups, barriers, and the order of what they release.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { emptyWrite, type Write } from "../../src/domain/Command.ts"
import { ofVoters } from "../../src/domain/Configuration.ts"
import { command, type Entry, sizeBytes } from "../../src/domain/Entry.ts"
import * as Persister from "../../src/services/Persister.ts"
import { noKnownDisks, Storage } from "../../src/services/Storage.ts"

const entry = (index: number, bytes: number): Entry => ({ term: 1, index, payload: command(new Uint8Array(bytes)) })
const writeOf = (...entries: ReadonlyArray<Entry>): Write => ({ ...emptyWrite, entries })
const apply = (to: number): Persister.Released => ({ _tag: "Apply", from: to, to })

const notAsked = () => Effect.die(new Error("not asked"))

/** A persister whose disk takes its first write when `go` says so; what it wrote and released, in order. */
const started = Effect.gen(function*() {
  const go = yield* Deferred.make<void>()
  const writes: Array<Write> = []
  const released: Array<number> = []
  const storage = Storage.of({
    identity: { clusterId: "test", nodeId: "n1", diskId: "d1" },
    knownDisks: noKnownDisks,
    rememberDisks: notAsked,
    recover: notAsked,
    saveSnapshot: notAsked,
    openSnapshot: notAsked(),
    receiveSnapshot: notAsked,
    discardSnapshot: notAsked,
    compact: notAsked,
    persist: (write) => Effect.andThen(Deferred.await(go), Effect.sync(() => void writes.push(write)))
  })
  const persister = yield* Persister.make(
    storage,
    (released_) =>
      Effect.sync(() => {
        if (released_._tag === "Apply") released.push(released_.to)
      }),
    () => {}
  )
  yield* Effect.forkScoped(persister.run, { startImmediately: true })
  const settled = Effect.gen(function*() {
    for (let i = 0; i < 50; i++) yield* Effect.yieldNow
  })
  return { go, persister, released, settled, writes }
})

const installing = (index: number): Write => ({
  ...emptyWrite,
  install: { snapshot: { last: { term: 1, index }, configuration: ofVoters(["n1"]), sizeBytes: 1 }, keepsLog: false }
})

describe("the persist loop", () => {
  it.effect("writes an installed snapshot in its place: after the entries before it, with those after it", () =>
    Effect.gen(function*() {
      const { go, persister, settled, writes } = yield* started
      for (const write of [writeOf(entry(1, 10)), writeOf(entry(2, 10)), installing(9), writeOf(entry(10, 10))]) {
        yield* persister.submit(write, [])
      }
      yield* persister.submit(installing(20), [])
      yield* settled
      yield* Deferred.succeed(go, undefined)
      yield* settled
      const indicesOf = ({ entries }: Write) => entries.map((one) => one.index)
      const installs = writes.filter((write) => write.install !== undefined)
      assert.deepStrictEqual(installs.map((write) => write.install?.snapshot.last.index), [9, 20])
      assert.deepStrictEqual(installs.map(indicesOf), [[10], []])
      assert.deepStrictEqual(writes.flatMap(indicesOf), [1, 2, 10])
    }))

  it.effect("writes what waits as one group, and releases in order only after it", () =>
    Effect.gen(function*() {
      const { go, persister, released, settled, writes } = yield* started
      for (const index of [1, 2, 3, 4]) yield* persister.submit(writeOf(entry(index, 10)), [apply(index)])
      yield* settled
      assert.deepStrictEqual([writes.length, released], [0, []])
      yield* Deferred.succeed(go, undefined)
      yield* settled
      assert.isAtMost(writes.length, 2)
      assert.deepStrictEqual(writes.flatMap((write) => write.entries.map(({ index }) => index)), [1, 2, 3, 4])
      assert.deepStrictEqual(released, [1, 2, 3, 4])
    }))

  it.effect("lets a barrier pass at once when nothing is under way, and behind what is otherwise", () =>
    Effect.gen(function*() {
      const { go, persister, released, settled, writes } = yield* started
      yield* persister.submit(emptyWrite, [apply(1)])
      assert.deepStrictEqual(released, [1])
      yield* persister.submit(writeOf(entry(1, 10)), [apply(2)])
      yield* persister.submit(emptyWrite, [apply(3)])
      yield* settled
      assert.deepStrictEqual(released, [1])
      yield* Deferred.succeed(go, undefined)
      yield* settled
      assert.deepStrictEqual(released, [1, 2, 3])
      assert.strictEqual(writes.length, 1)
    }))

  it.effect("writes what a slow disk finds waiting in pieces of a bounded size", () =>
    Effect.gen(function*() {
      const { go, persister, released, settled, writes } = yield* started
      const indices = Array.from({ length: 12 }, (_, i) => i + 1)
      for (const index of indices) yield* persister.submit(writeOf(entry(index, 8 << 20)), [apply(index)])
      yield* Deferred.succeed(go, undefined)
      yield* settled
      const sizes = writes.map((write) => write.entries.reduce((sum, each) => sum + sizeBytes(each), 0))
      assert.isAtMost(Math.max(...sizes), 32 << 20)
      assert.deepStrictEqual(writes.flatMap((write) => write.entries.map(({ index }) => index)), indices)
      assert.deepStrictEqual(released, indices)
    }))
})
