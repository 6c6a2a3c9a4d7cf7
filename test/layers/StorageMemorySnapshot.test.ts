/**
 * Snapshots on a disk that is a value: when they are durable, what a crash leaves of an install, and damage.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { ofVoters } from "../../src/domain/Configuration.ts"
import { origin } from "../../src/domain/Entry.ts"
import { none } from "../../src/domain/Snapshot.ts"
import * as StorageMemory from "../../src/layers/StorageMemory.ts"
import type { Storage } from "../../src/services/Storage.ts"
import { idOf, readLatest, receive, save, sent, streamOf } from "../contracts/sentSnapshots.ts"
import { entriesOf, initial, plain, reopen, session, writeOf } from "../contracts/storage.ts"
import { quietly } from "./storageDirectory.ts"

const makeDisk = () => {
  const disk = StorageMemory.makeDisk({ clusterId: "c1", nodeId: "n1" })
  return { disk, layer: StorageMemory.layer({ disk }) }
}

const other = ofVoters(["n2", "n5"])

describe("a snapshot on a memory disk", () => {
  it.effect("is durable when the sync after its last piece ends, and lost in a crash before that", () =>
    Effect.gen(function*() {
      const { disk, layer } = makeDisk()
      yield* session(layer, (storage) =>
        Effect.gen(function*() {
          yield* storage.persist(writeOf(entriesOf(1, 1, 5)))
          disk.syncDelayMs = 10
          const content = Stream.mapEffect(streamOf("a", "b", "c"), (piece) => Effect.as(Effect.sleep(5), piece))
          const saving = yield* Effect.forkChild(
            storage.saveSnapshot({ last: idOf(1, 4), configuration: other }, content)
          )
          yield* TestClock.adjust(24)
          assert.isUndefined(saving.pollUnsafe())
          assert.deepStrictEqual(disk.durable().snapshot, none(initial))
          yield* TestClock.adjust(1)
          assert.deepStrictEqual(disk.durable().snapshot, yield* Fiber.join(saving))
          const lost = yield* Effect.forkChild(save(storage, idOf(1, 5), "lost"))
          yield* TestClock.adjust(9)
          yield* disk.crash
          yield* TestClock.adjust(1000)
          assert.isUndefined(lost.pollUnsafe())
          disk.syncDelayMs = 0
        }))
      yield* session(layer, (storage, { snapshot }) =>
        Effect.gen(function*() {
          assert.deepStrictEqual(snapshot.last, idOf(1, 4))
          assert.strictEqual((yield* readLatest(storage))?.text, "abc")
        }))
    }))

  it.effect("that finds no room is not there, and everything else goes on; whose sync fails otherwise ends the layer", () =>
    Effect.gen(function*() {
      const { disk, layer } = makeDisk()
      yield* session(layer, (storage) =>
        Effect.gen(function*() {
          yield* storage.persist(writeOf(entriesOf(1, 1, 5)))
          disk.nextFailure = "DiskFull"
          assert.strictEqual((yield* Effect.flip(save(storage, idOf(1, 4), "x"))).reason, "DiskFull")
          yield* storage.persist(writeOf(entriesOf(1, 6, 6)))
          disk.nextFailure = "Failed"
          assert.strictEqual((yield* Effect.flip(save(storage, idOf(1, 4), "x"))).reason, "Failed")
          assert.strictEqual((yield* Effect.flip(storage.persist(writeOf(entriesOf(1, 7, 7))))).reason, "Failed")
          assert.isUndefined(disk.misuse())
        }))
      assert.strictEqual((yield* reopen(layer)).snapshot.last.index, 0)
    }))

  it.effect("that is damaged is missed where the log needs it, and only there", () =>
    Effect.gen(function*() {
      for (const prev of [0, 3]) {
        const { disk, layer } = makeDisk()
        disk.damageSnapshot()
        yield* session(layer, (storage) =>
          Effect.gen(function*() {
            yield* storage.persist(writeOf(entriesOf(1, 1, 5), { term: 2, votedFor: "n3" }))
            yield* save(storage, idOf(1, 4), "x".repeat(100))
            yield* storage.compact({ prev: prev === 0 ? origin : idOf(1, prev), configuration: other })
            disk.damageSnapshot()
            const damaged = yield* Effect.flip(readLatest(storage))
            assert.strictEqual(damaged.reason, "Corrupt")
          }))
        for (let start = 0; start < 2; start++) {
          const recovered = yield* reopen(layer)
          if (prev === 0) assert.isUndefined(recovered.damage)
          else assert.include(recovered.damage, "damaged at byte")
          assert.deepStrictEqual(recovered.snapshot.last, origin)
          assert.deepStrictEqual(disk.durable().snapshot.last, origin)
          assert.deepStrictEqual(plain(recovered.entries), plain(entriesOf(1, prev + 1, 5)))
          assert.deepStrictEqual(recovered.hardState, { term: 2, votedFor: "n3" })
        }
        const incoming = sent(idOf(1, 5), "from the leader")
        yield* session(layer, (storage) =>
          Effect.gen(function*() {
            assert.isUndefined(yield* readLatest(storage))
            yield* receive(storage, incoming)
            yield* storage.persist(writeOf([], undefined, { snapshot: incoming.snapshot, keepsLog: true }))
          }))
        const whole = yield* reopen(layer)
        assert.isUndefined(whole.damage)
        assert.deepStrictEqual(whole.snapshot, incoming.snapshot)
      }
    }).pipe(quietly))
})

describe("an install that a crash tears", () => {
  const incoming = sent(idOf(4, 8), "s", other)

  /** What is found after `units` of an install, a vote and two entries survived. */
  const torn = Effect.fnUntraced(function*(keepsLog: boolean, stored: number, units: number, term = 4) {
    const { disk, layer } = makeDisk()
    yield* session(layer, (storage) =>
      Effect.gen(function*() {
        yield* storage.persist(writeOf(entriesOf(term, 1, stored), { term: 4, votedFor: "n1" }))
        yield* receive(storage, incoming)
        disk.syncDelayMs = 10
        const from = (keepsLog ? stored : 8) + 1
        const install = { snapshot: incoming.snapshot, keepsLog }
        const write = writeOf(entriesOf(5, from, from + 1), { term: 5, votedFor: undefined }, install)
        yield* Effect.forkChild(storage.persist(write), { startImmediately: true })
        yield* disk.tear(units)
        disk.syncDelayMs = 0
      }))
    const raw = disk.durable()
    const before = `${raw.prev.index}+${raw.entries.length}`
    const { entries, hardState, prev, snapshot } = yield* reopen(layer)
    assert.deepStrictEqual(plain(disk.durable().entries), plain(entries))
    assert.deepStrictEqual(disk.durable().prev, prev)
    assert.deepStrictEqual(disk.durable().configuration, prev.index === 0 ? initial : other)
    return `${units}: term ${hardState.term}, snapshot ${snapshot.last.index}, log ${before}, recovered `
      + `${prev.index}+${entries.length}`
  })

  it.effect("has its vote, then the snapshot, then the new log, then entries; recovery completes what is half done", () =>
    Effect.gen(function*() {
      const found: Array<string> = []
      for (const units of [0, 1, 2, 3, 4, 5, 6]) found.push(yield* torn(false, 3, units))
      assert.deepStrictEqual(found, [
        "0: term 4, snapshot 0, log 0+3, recovered 0+3",
        "1: term 5, snapshot 0, log 0+3, recovered 0+3",
        "2: term 5, snapshot 8, log 0+3, recovered 8+0",
        "3: term 5, snapshot 8, log 8+0, recovered 8+0",
        "4: term 5, snapshot 8, log 8+1, recovered 8+1",
        "5: term 5, snapshot 8, log 8+2, recovered 8+2",
        "6: term 5, snapshot 8, log 8+2, recovered 8+2"
      ])
    }))

  it.effect("has a log that is long enough, and another one, replaced, too", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* torn(false, 9, 2, 3), "2: term 5, snapshot 8, log 0+9, recovered 8+0")
    }))

  it.effect("that keeps the log has no new beginning of it", () =>
    Effect.gen(function*() {
      const found: Array<string> = []
      for (const units of [0, 1, 2, 3, 4]) found.push(yield* torn(true, 9, units))
      assert.deepStrictEqual(found, [
        "0: term 4, snapshot 0, log 0+9, recovered 0+9",
        "1: term 5, snapshot 0, log 0+9, recovered 0+9",
        "2: term 5, snapshot 8, log 0+9, recovered 0+9",
        "3: term 5, snapshot 8, log 0+10, recovered 0+10",
        "4: term 5, snapshot 8, log 0+11, recovered 0+11"
      ])
    }))
})

describe("a write behind an install", () => {
  it.effect("that is not durable yet follows it, and is lost before it", () =>
    Effect.gen(function*() {
      const incoming = sent(idOf(4, 8), "s", other)
      for (const [units, expected] of [[1, "8+0"], [2, "8+0"], [3, "8+1"], [9, "8+2"]] as const) {
        const { disk, layer } = makeDisk()
        yield* session(layer, (storage) =>
          Effect.gen(function*() {
            yield* receive(storage, incoming)
            disk.syncDelayMs = 10
            const install = writeOf([], undefined, { snapshot: incoming.snapshot, keepsLog: false })
            for (const write of [install, writeOf(entriesOf(5, 9, 10))]) {
              const fiber = yield* Effect.forkChild(storage.persist(write), { startImmediately: true })
              assert.isUndefined(fiber.pollUnsafe())
            }
            yield* disk.tear(units)
            disk.syncDelayMs = 0
          }))
        const { entries, prev } = yield* reopen(layer)
        assert.strictEqual(`${prev.index}+${entries.length}`, expected)
      }
    }))
})

describe("a memory disk", () => {
  it.effect("shows what is durable without a copy, as it changes", () =>
    Effect.gen(function*() {
      const { disk, layer } = makeDisk()
      const durable = disk.durable()
      assert.isUndefined(durable.configuration)
      yield* session(layer, (storage) =>
        Effect.gen(function*() {
          yield* storage.persist(writeOf(entriesOf(1, 1, 6)))
          const snapshot = yield* save(storage, idOf(1, 4), "x", other)
          yield* storage.compact({ prev: idOf(1, 3), configuration: other })
          assert.strictEqual(disk.durable(), durable)
          assert.deepStrictEqual(durable.prev, idOf(1, 3))
          assert.deepStrictEqual(durable.configuration, other)
          assert.deepStrictEqual(durable.snapshot, snapshot)
          assert.deepStrictEqual(plain(durable.entries), plain(entriesOf(1, 4, 6)))
        }))
    }))

  it.effect("notes who installs what never came, gives up what no snapshot has, or writes before the log", () =>
    Effect.gen(function*() {
      const { snapshot } = sent(idOf(1, 3), "s")
      const misuses = [
        (storage: Storage["Service"]) => storage.persist(writeOf([], undefined, { snapshot, keepsLog: false })),
        (storage: Storage["Service"]) => storage.compact({ prev: idOf(1, 5), configuration: initial }),
        (storage: Storage["Service"]) =>
          Effect.andThen(
            storage.compact({ prev: idOf(1, 4), configuration: initial }),
            storage.persist(writeOf(entriesOf(2, 4, 4)))
          )
      ]
      for (const misuse of misuses) {
        const { disk, layer } = makeDisk()
        yield* session(layer, (storage) =>
          Effect.gen(function*() {
            yield* storage.persist(writeOf(entriesOf(1, 1, 6)))
            yield* save(storage, idOf(1, 4), "x")
            assert.isUndefined(disk.misuse())
            assert.strictEqual((yield* Effect.flip(misuse(storage))).reason, "Failed")
            assert.strictEqual(disk.misuse()?.reason, "Failed")
          }))
      }
    }))
})
