import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import type { Write } from "../../src/domain/Command.ts"
import * as StorageMemory from "../../src/layers/StorageMemory.ts"
import { snapshotContract } from "../contracts/snapshots.ts"
import { entriesOf, plain, reopen, session, storageContract, writeOf } from "../contracts/storage.ts"
import { storageWalk } from "../contracts/storageWalk.ts"

const makeDisk = (syncDelayMs = 0) => StorageMemory.makeDisk({ clusterId: "c1", nodeId: "n1", syncDelayMs })

const harness = Effect.sync(() => ({ layer: StorageMemory.layer({ disk: makeDisk() }) }))

storageContract("StorageMemory", harness)
snapshotContract("StorageMemory", harness)
storageWalk("StorageMemory", harness, 100)

describe("StorageMemory", () => {
  it.effect("reports the identity of its disk", () =>
    Effect.gen(function*() {
      const identity = yield* session(StorageMemory.layer({ disk: makeDisk() }), (storage) =>
        Effect.succeed(storage.identity))
      assert.deepInclude(identity, { clusterId: "c1", nodeId: "n1" })
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

/** Entries 1.1, 1.2 and term 1 are durable; then comes a write that is torn after `units`. Gives what is found afterwards. */
const torn = Effect.fnUntraced(function*(write: Write, units: number) {
  const disk = makeDisk()
  const layer = StorageMemory.layer({ disk })
  yield* session(layer, (storage) =>
    Effect.gen(function*() {
      yield* storage.persist(writeOf(entriesOf(1, 1, 2), { term: 1, votedFor: "n1" }))
      disk.syncDelayMs = 10
      const inFlight = yield* Effect.forkChild(storage.persist(write))
      yield* TestClock.adjust(5)
      yield* disk.tear(units)
      yield* TestClock.adjust(1000)
      assert.isUndefined(inFlight.pollUnsafe())
      disk.syncDelayMs = 0
    }))
  const { entries, hardState } = yield* reopen(layer)
  assert.deepStrictEqual(disk.durable().hardState, hardState)
  assert.deepStrictEqual(plain(disk.durable().entries), plain(entries))
  return { disk, term: hardState.term, ids: entries.map(({ index, term }) => `${term}.${index}`).join(" ") }
})

describe("a write that a crash tears", () => {
  const appended = writeOf(entriesOf(2, 3, 5), { term: 2, votedFor: "n2" })

  it.effect("leaves its first units, in order: term and vote first, then its entries one by one", () =>
    Effect.gen(function*() {
      const found: Array<string> = []
      for (const units of [0, 1, 2, 3, 4, 5, 1000]) {
        const { ids, term } = yield* torn(appended, units)
        found.push(`${units}: term ${term}, ${ids}`)
      }
      assert.deepStrictEqual(found, [
        "0: term 1, 1.1 1.2",
        "1: term 2, 1.1 1.2",
        "2: term 2, 1.1 1.2 2.3",
        "3: term 2, 1.1 1.2 2.3 2.4",
        "4: term 2, 1.1 1.2 2.3 2.4 2.5",
        "5: term 2, 1.1 1.2 2.3 2.4 2.5",
        "1000: term 2, 1.1 1.2 2.3 2.4 2.5"
      ])
    }))

  it.effect("without a term and a vote leaves its first entries", () =>
    Effect.gen(function*() {
      const { ids, term } = yield* torn(writeOf(entriesOf(1, 3, 5)), 2)
      assert.deepStrictEqual({ ids, term }, { ids: "1.1 1.2 1.3 1.4", term: 1 })
    }))

  it.effect("that replaces entries has not replaced them until its first one is there, and then the rest is gone", () =>
    Effect.gen(function*() {
      const replaced = writeOf(entriesOf(2, 1, 2))
      assert.strictEqual((yield* torn(replaced, 0)).ids, "1.1 1.2")
      assert.strictEqual((yield* torn(replaced, 1)).ids, "2.1")
    }))

  it.effect("can be continued from where it was torn", () =>
    Effect.gen(function*() {
      const { disk } = yield* torn(appended, 2)
      const layer = StorageMemory.layer({ disk })
      yield* session(layer, (storage, recovered) => {
        assert.strictEqual(recovered.entries.length, 3)
        return storage.persist(writeOf(entriesOf(3, 4, 6), { term: 3, votedFor: "n3" }))
      })
      const { entries, hardState } = yield* reopen(layer)
      assert.deepStrictEqual(hardState, { term: 3, votedFor: "n3" })
      assert.deepStrictEqual(
        plain(entries),
        plain([...entriesOf(1, 1, 2), ...entriesOf(2, 3, 3), ...entriesOf(3, 4, 6)])
      )
    }))

  it.effect("keeps what waited before it, and loses what waited after it", () =>
    Effect.gen(function*() {
      const disk = makeDisk()
      const layer = StorageMemory.layer({ disk })
      yield* session(layer, (storage) =>
        Effect.gen(function*() {
          disk.syncDelayMs = 10
          for (const [first, last] of [[1, 2], [3, 4], [5, 6]] as const) {
            yield* Effect.forkChild(storage.persist(writeOf(entriesOf(1, first, last))), { startImmediately: true })
          }
          yield* disk.tear(3)
          disk.syncDelayMs = 0
        }))
      assert.deepStrictEqual(plain((yield* reopen(layer)).entries), plain(entriesOf(1, 1, 3)))
    }))

  it.effect("changes nothing where nothing was being written", () =>
    Effect.gen(function*() {
      const disk = makeDisk()
      const layer = StorageMemory.layer({ disk })
      yield* session(layer, (storage) => Effect.andThen(storage.persist(writeOf(entriesOf(1, 1, 2))), disk.tear(5)))
      assert.deepStrictEqual(plain((yield* reopen(layer)).entries), plain(entriesOf(1, 1, 2)))
    }))

  it.effect("takes the disk from the layer that has it, as any crash does", () =>
    Effect.gen(function*() {
      const disk = makeDisk()
      const layer = StorageMemory.layer({ disk })
      yield* session(layer, (storage) =>
        Effect.gen(function*() {
          yield* disk.tear(0)
          yield* session(layer, (next) => next.persist(writeOf(entriesOf(2, 1, 1))))
          const late = yield* Effect.forkChild(storage.persist(writeOf(entriesOf(1, 1, 1))))
          yield* TestClock.adjust(1000)
          assert.isUndefined(late.pollUnsafe())
        }))
      assert.deepStrictEqual(plain((yield* reopen(layer)).entries), plain(entriesOf(2, 1, 1)))
    }))
})

describe("a disk in trouble", () => {
  it.effect("shows as durable what a crash now would leave, while a write is under way", () =>
    Effect.gen(function*() {
      const disk = makeDisk()
      yield* session(StorageMemory.layer({ disk }), (storage) =>
        Effect.gen(function*() {
          disk.syncDelayMs = 10
          const inFlight = yield* Effect.forkChild(storage.persist(writeOf(entriesOf(1, 1, 2), {
            term: 1,
            votedFor: "n1"
          })))
          yield* TestClock.adjust(9)
          assert.strictEqual(disk.durable().hardState.term, 0)
          assert.deepStrictEqual(plain(disk.durable().entries), [])
          yield* TestClock.adjust(1)
          yield* Fiber.join(inFlight)
          assert.deepStrictEqual(disk.durable().hardState, { term: 1, votedFor: "n1" })
          assert.deepStrictEqual(plain(disk.durable().entries), plain(entriesOf(1, 1, 2)))
        }))
    }))

  it.effect("with a sector that cannot be read fails its recovery as Corrupt, and has everything once it can be", () =>
    Effect.gen(function*() {
      const disk = makeDisk()
      const layer = StorageMemory.layer({ disk })
      yield* session(layer, (storage) => storage.persist(writeOf(entriesOf(1, 1, 2))))
      disk.isUnreadable = true
      for (const attempt of [1, 2]) {
        const error = yield* Effect.flip(reopen(layer))
        assert.strictEqual(error.reason, "Corrupt", `attempt ${attempt}`)
        assert.include(error.message, "cannot be read")
      }
      disk.isUnreadable = false
      assert.deepStrictEqual(plain((yield* reopen(layer)).entries), plain(entriesOf(1, 1, 2)))
    }))

  it.effect("fails one sync, the next that ends, and works again for the next who opens it", () =>
    Effect.gen(function*() {
      const disk = makeDisk()
      const layer = StorageMemory.layer({ disk })
      yield* session(layer, (storage) =>
        Effect.gen(function*() {
          disk.syncDelayMs = 10
          const inFlight = yield* Effect.forkChild(Effect.flip(storage.persist(writeOf(entriesOf(1, 1, 1)))))
          yield* TestClock.adjust(5)
          disk.nextFailure = "DiskFull"
          yield* TestClock.adjust(5)
          assert.strictEqual((yield* Fiber.join(inFlight)).reason, "DiskFull")
          assert.isUndefined(disk.nextFailure)
          disk.syncDelayMs = 0
        }))
      yield* session(layer, (storage) => storage.persist(writeOf(entriesOf(2, 1, 2))))
      assert.deepStrictEqual(plain((yield* reopen(layer)).entries), plain(entriesOf(2, 1, 2)))
    }))

  it.effect("may tear the write that a failed sync left behind", () =>
    Effect.gen(function*() {
      const disk = makeDisk()
      const layer = StorageMemory.layer({ disk })
      yield* session(layer, (storage) =>
        Effect.gen(function*() {
          disk.nextFailure = "Failed"
          yield* Effect.flip(storage.persist(writeOf(entriesOf(1, 1, 3))))
          assert.deepStrictEqual(plain(disk.durable().entries), [])
          yield* disk.tear(2)
        }))
      assert.deepStrictEqual(plain((yield* reopen(layer)).entries), plain(entriesOf(1, 1, 2)))
    }))
})
