/**
 * The compact loop alone: what a snapshot says, and when those who asked for it hear.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { ofVoters } from "../../src/domain/Configuration.ts"
import type { EntryId } from "../../src/domain/Entry.ts"
import type { Event } from "../../src/domain/Event.ts"
import type { NodeState } from "../../src/domain/NodeState.ts"
import * as StorageMemory from "../../src/layers/StorageMemory.ts"
import * as Compactor from "../../src/services/Compactor.ts"
import { Storage } from "../../src/services/Storage.ts"
import { idOf, readLatest, streamOf } from "../contracts/sentSnapshots.ts"
import { node, repeat } from "../domain/Given.ts"

const configuration = ofVoters(["n1", "n2", "n3"])

const syncMs = 50

/** A server on a disk that takes `syncMs` to sync, whose state machine has applied what `capture` says. */
const compacting = Effect.gen(function*() {
  const disk = StorageMemory.makeDisk({ clusterId: "c1", nodeId: "n1" })
  const storage = Context.get(yield* Layer.build(StorageMemory.layer({ disk })), Storage)
  yield* storage.recover(configuration)
  disk.syncDelayMs = syncMs
  const events: Array<Event> = []
  let last = idOf(1, 5)
  let released = 0
  let state: NodeState = node({ terms: repeat(1, 12), configuration })
  let onCapture = (): void => {}
  const compactor = yield* Compactor.make({
    storage,
    applier: {
      capture: Effect.sync(() => {
        onCapture()
        return { last, content: Stream.ensuring(streamOf(`state at ${last.index}`), Effect.sync(() => released++)) }
      }),
      lastApplied: () => last.index
    },
    state: () => state,
    offer: (event) => void events.push(event)
  })
  yield* Effect.forkScoped(compactor.run, { startImmediately: true })
  return {
    compactor,
    disk,
    storage,
    applied: (index: number) => void (last = idOf(1, index)),
    released: () => released,
    /** While the state is being captured a leader's snapshot takes the place of the log. */
    replacedBy: (at: EntryId) =>
      void (onCapture = () => {
        state = node({ terms: [], prev: at, configuration: ofVoters(["n1", "n4"]) })
      }),
    installed: (at: EntryId) => void (state = { ...state, snapshot: { ...state.snapshot, last: at } }),
    failed: () => events.filter((event) => event._tag === "SnapshotFailed").length,
    taken: () => events.flatMap((event) => event._tag === "SnapshotTaken" ? [event.snapshot.last.index] : [])
  }
})

describe("the compact loop", () => {
  it.effect("says that a snapshot is taken once it is durable, to its core and to who asked for it", () =>
    Effect.gen(function*() {
      const { compactor, disk, taken } = yield* compacting
      const asked = yield* Effect.forkChild(compactor.take, { startImmediately: true })
      yield* TestClock.adjust(syncMs - 1)
      assert.deepStrictEqual([disk.durable().snapshot.last.index, taken(), asked.pollUnsafe()], [0, [], undefined])
      yield* TestClock.adjust(1)
      const exit = asked.pollUnsafe()
      assert.deepStrictEqual(exit?._tag === "Success" ? exit.value : exit, disk.durable().snapshot)
      assert.deepStrictEqual([disk.durable().snapshot.last, taken()], [idOf(1, 5), [5]])
      assert.deepStrictEqual(disk.durable().snapshot.configuration, configuration)
    }))

  it.effect("gives who asks after one has begun what was applied by then", () =>
    Effect.gen(function*() {
      const { applied, compactor, taken } = yield* compacting
      const first = yield* Effect.forkChild(compactor.take, { startImmediately: true })
      yield* TestClock.adjust(syncMs - 1)
      applied(8)
      const [second, third] = [
        yield* Effect.forkChild(compactor.take, { startImmediately: true }),
        yield* Effect.forkChild(compactor.take, { startImmediately: true })
      ]
      yield* TestClock.adjust(2 * syncMs)
      const indices = [first, second, third].map((fiber) => {
        const exit = fiber.pollUnsafe()
        return exit?._tag === "Success" ? exit.value.last.index : undefined
      })
      assert.deepStrictEqual([indices, taken()], [[5, 8, 8], [5, 8]])
    }))

  it.effect("tells its core, too, where an installed snapshot has overtaken the one asked for: it may ask again", () =>
    Effect.gen(function*() {
      const { compactor, disk, failed, installed, taken } = yield* compacting
      for (const at of [idOf(1, 9), idOf(1, 5)]) {
        installed(at)
        compactor.offer({ _tag: "TakeSnapshot" })
        yield* TestClock.adjust(2 * syncMs)
      }
      assert.deepStrictEqual([taken(), failed(), disk.durable().snapshot.last.index], [[], 2, 0])
    }))

  it.effect("takes none of a state whose log is gone by then: what its configuration was is not known any more", () =>
    Effect.gen(function*() {
      const { compactor, disk, failed, released, replacedBy, taken } = yield* compacting
      replacedBy(idOf(2, 9))
      const asked = yield* Effect.forkChild(compactor.take, { startImmediately: true })
      yield* TestClock.adjust(2 * syncMs)
      const exit = asked.pollUnsafe()
      assert.strictEqual(exit?._tag === "Success" ? exit.value.last.index : exit, 9)
      assert.deepStrictEqual([taken(), failed(), released(), disk.durable().snapshot.last.index], [[], 1, 1, 0])
    }))

  it.effect("goes on where there is no room for a snapshot, says so, and takes one once there is", () =>
    Effect.gen(function*() {
      const { compactor, disk, failed, taken } = yield* compacting
      disk.nextFailure = "DiskFull"
      const asked = yield* Effect.forkChild(Effect.flip(compactor.take), { startImmediately: true })
      yield* TestClock.adjust("10 seconds")
      const exit = asked.pollUnsafe()
      assert.strictEqual(exit?._tag === "Success" ? exit.value._tag : exit, "SnapshotFailed")
      assert.deepStrictEqual([taken(), failed(), disk.durable().snapshot.last.index], [[], 1, 0])
      compactor.offer({ _tag: "TakeSnapshot" })
      yield* TestClock.adjust(2 * syncMs)
      assert.deepStrictEqual([taken(), disk.durable().snapshot.last.index], [[5], 5])
    }))

  it.effect("writes one anew that is damaged, though it stands for all that is applied", () =>
    Effect.gen(function*() {
      const { compactor, installed, storage } = yield* compacting
      installed(idOf(1, 5))
      const renewed = yield* Effect.forkChild(compactor.renew, { startImmediately: true })
      yield* TestClock.adjust(2 * syncMs)
      const exit = renewed.pollUnsafe()
      assert.strictEqual(exit?._tag, "Success")
      assert.strictEqual((yield* readLatest(storage))?.text, "state at 5")
    }))
})
