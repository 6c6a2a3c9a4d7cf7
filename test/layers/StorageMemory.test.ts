import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as StorageMemory from "../../src/layers/StorageMemory.ts"
import { entriesOf, plain, reopen, session, storageContract, writeOf } from "../contracts/storage.ts"

const makeDisk = (syncDelayMs = 0) => StorageMemory.makeDisk({ clusterId: "c1", nodeId: "n1", syncDelayMs })

storageContract("StorageMemory", Effect.sync(() => ({ layer: StorageMemory.layer({ disk: makeDisk() }) })))

describe("StorageMemory", () => {
  it.effect("reports the identity of its disk", () =>
    Effect.gen(function*() {
      const identity = yield* session(StorageMemory.layer({ disk: makeDisk() }), (storage) =>
        Effect.succeed(storage.identity))
      assert.deepStrictEqual(identity, { clusterId: "c1", nodeId: "n1" })
    }))

  it.effect("a write is durable when its sync ends, not before", () =>
    Effect.gen(function*() {
      const disk = makeDisk()
      yield* session(StorageMemory.layer({ disk }), (storage) =>
        Effect.gen(function*() {
          disk.syncDelayMs = 10
          const fiber = yield* Effect.forkChild(storage.persist(writeOf(entriesOf(1, 1, 2))))
          yield* TestClock.adjust(9)
          assert.isUndefined(fiber.pollUnsafe())
          yield* TestClock.adjust(1)
          yield* Fiber.join(fiber)
        }))
      disk.syncDelayMs = 0
      assert.deepStrictEqual(plain((yield* reopen(StorageMemory.layer({ disk }))).entries), plain(entriesOf(1, 1, 2)))
    }))

  it.effect("a crash loses what was not synced, and the write it interrupts never succeeds", () =>
    Effect.gen(function*() {
      const disk = makeDisk()
      yield* session(StorageMemory.layer({ disk }), (storage) =>
        Effect.gen(function*() {
          yield* storage.persist(writeOf(entriesOf(1, 1, 2), { term: 1, votedFor: "n1" }))
          disk.syncDelayMs = 10
          const inFlight = yield* Effect.forkChild(storage.persist(writeOf(entriesOf(2, 2, 3), {
            term: 2,
            votedFor: "n2"
          })))
          yield* TestClock.adjust(5)
          yield* disk.crash
          disk.syncDelayMs = 0
          const recovered = yield* reopen(StorageMemory.layer({ disk }))
          assert.deepStrictEqual(plain(recovered.entries), plain(entriesOf(1, 1, 2)))
          assert.deepStrictEqual(recovered.hardState, { term: 1, votedFor: "n1" })
          yield* TestClock.adjust(1000)
          const late = yield* Effect.forkChild(storage.persist(writeOf(entriesOf(2, 2, 3))))
          yield* TestClock.adjust(1000)
          assert.isUndefined(inFlight.pollUnsafe())
          assert.isUndefined(late.pollUnsafe())
        }))
      yield* session(StorageMemory.layer({ disk }), (storage) => storage.persist(writeOf(entriesOf(3, 3, 3))))
      const after = yield* reopen(StorageMemory.layer({ disk }))
      assert.deepStrictEqual(plain(after.entries), plain([...entriesOf(1, 1, 2), ...entriesOf(3, 3, 3)]))
    }))

  it.effect("a crashed layer that closes late does not take the disk from the one that has it now", () =>
    Effect.gen(function*() {
      const disk = makeDisk()
      const layer = StorageMemory.layer({ disk })
      const crashed = yield* Effect.forkChild(session(layer, () => Effect.andThen(disk.crash, Effect.sleep(10))))
      yield* TestClock.adjust(1)
      yield* session(layer, () =>
        Effect.gen(function*() {
          yield* TestClock.adjust(10)
          yield* Fiber.join(crashed)
          assert.strictEqual((yield* Effect.flip(reopen(layer))).reason, "Locked")
        }))
    }))

  it.effect("after a failed sync every write fails the same way, and what it wrote is not durable", () =>
    Effect.gen(function*() {
      for (const reason of ["DiskFull", "Failed"] as const) {
        const disk = makeDisk()
        const layer = StorageMemory.layer({ disk })
        yield* session(layer, (storage) =>
          Effect.gen(function*() {
            yield* storage.persist(writeOf(entriesOf(1, 1, 1)))
            disk.nextFailure = reason
            for (const write of [writeOf(entriesOf(1, 2, 2)), writeOf(entriesOf(1, 2, 2)), writeOf([])]) {
              assert.strictEqual((yield* Effect.flip(storage.persist(write))).reason, reason)
            }
          }))
        assert.deepStrictEqual(plain((yield* reopen(layer)).entries), plain(entriesOf(1, 1, 1)))
      }
    }))
})
