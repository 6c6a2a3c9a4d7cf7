/**
 * The two ends of a snapshot's way to a follower, each alone: what a sender makes of answers, and a receiver of pieces, that are late, lost,
 * doubled or about something else.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import type { EntryId } from "../../src/domain/Entry.ts"
import type { Event } from "../../src/domain/Event.ts"
import type { NodeState } from "../../src/domain/NodeState.ts"
import { withProgress } from "../../src/domain/Pipeline.ts"
import * as Progress from "../../src/domain/Progress.ts"
import { becomeLeader } from "../../src/domain/RoleChange.ts"
import * as Turn from "../../src/domain/Turn.ts"
import * as StorageMemory from "../../src/layers/StorageMemory.ts"
import * as SnapshotReceiver from "../../src/services/SnapshotReceiver.ts"
import * as SnapshotSender from "../../src/services/SnapshotSender.ts"
import { Storage } from "../../src/services/Storage.ts"
import { type InstallSnapshot, type InstallSnapshotResult, Transport } from "../../src/services/Transport.ts"
import { idOf, save, sent } from "../contracts/sentSnapshots.ts"
import { initial } from "../contracts/storage.ts"
import { node, repeat } from "../domain/Given.ts"

const layer = () => StorageMemory.layer({ disk: StorageMemory.makeDisk({ clusterId: "c1", nodeId: "n1" }) })

/** Enough for everything that does not wait for the clock. */
const settled = Effect.gen(function*() {
  for (let i = 0; i < 100; i++) yield* Effect.yieldNow
})

const expects = (offset: number): InstallSnapshotResult => ({ _tag: "Expects", offset })

/** A receiver in term 5 that has nothing, and what it answers and tells its core. */
const receiving = Effect.gen(function*() {
  const storage = yield* Storage
  yield* storage.recover(initial)
  const answers: Array<InstallSnapshotResult> = []
  const events: Array<Event> = []
  const transport = Transport.of({
    reconfigure: () => Effect.void,
    send: (_to, message) =>
      Effect.sync(() => {
        if (message._tag === "InstallSnapshotResponse") answers.push(message.result)
      }),
    inbound: () => Effect.void
  })
  const state = node({ term: 5 })
  const receiver = yield* SnapshotReceiver.make({
    storage,
    transport,
    state: () => state,
    offer: (event) => void events.push(event)
  })
  yield* Effect.forkScoped(receiver.run, { startImmediately: true })
  /** A piece comes in: what is answered. */
  const take = (
    whole: ReturnType<typeof sent>,
    { from = "n2", offset, term = 5, to }: { from?: string; offset: number; term?: number; to: number }
  ) =>
    Effect.gen(function*() {
      const bytes = whole.bytes.subarray(offset, to)
      receiver.onRequest(from, { _tag: "InstallSnapshot", term, snapshot: whole.snapshot, offset, bytes })
      yield* settled
      return answers.splice(0)
    })
  const received = () => events.flatMap((event) => event._tag === "SnapshotReceived" ? [event.snapshot] : [])
  return { events, received, take }
})

describe("a receiver", () => {
  const whole = sent(idOf(4, 9), "content of nine")
  const end = whole.bytes.length

  it.effect("says after each piece where to go on, and at the end that it has all: then its core hears of it", () =>
    Effect.gen(function*() {
      const { events, received, take } = yield* receiving
      assert.deepStrictEqual(yield* take(whole, { offset: 0, to: 0 }), [expects(0)])
      assert.deepStrictEqual(yield* take(whole, { offset: 0, to: 10 }), [expects(10)])
      assert.deepStrictEqual(yield* take(whole, { offset: 10, to: 10 }), [expects(10)])
      assert.deepStrictEqual(received(), [])
      assert.deepStrictEqual(yield* take(whole, { offset: 10, to: end }), [{ _tag: "Received" }])
      assert.deepStrictEqual(received(), [whole.snapshot])
      const alive = events.filter((event) => event._tag === "SnapshotPieceReceived" && event.term === 5)
      assert.strictEqual(alive.length, 4, "with each piece, that its leader is alive")
    }).pipe(Effect.provide(layer())))

  it.effect("takes no piece that leaves a gap", () =>
    Effect.gen(function*() {
      const { received, take } = yield* receiving
      yield* take(whole, { offset: 0, to: 10 })
      assert.deepStrictEqual(yield* take(whole, { offset: 20, to: 30 }), [expects(10)])
      assert.deepStrictEqual(yield* take(whole, { offset: 10, to: 20 }), [expects(20)])
      assert.deepStrictEqual(yield* take(whole, { offset: 20, to: end }), [{ _tag: "Received" }])
      assert.strictEqual(received().length, 1)
    }).pipe(Effect.provide(layer())))

  it.effect("writes a piece once that comes twice, or late", () =>
    Effect.gen(function*() {
      const { received, take } = yield* receiving
      for (const to of [10, 10, 20]) yield* take(whole, { offset: to - 10, to })
      assert.deepStrictEqual(yield* take(whole, { offset: 0, to: 10 }), [expects(20)])
      assert.deepStrictEqual(yield* take(whole, { offset: 20, to: end }), [{ _tag: "Received" }])
      assert.strictEqual(received().length, 1)
      assert.deepStrictEqual(yield* take(whole, { offset: 20, to: end }), [{ _tag: "Received" }])
      assert.strictEqual(received().length, 1)
    }).pipe(Effect.provide(layer())))

  it.effect("begins anew for another snapshot, a later term and another leader", () =>
    Effect.gen(function*() {
      const { take } = yield* receiving
      yield* take(whole, { offset: 0, to: 10 })
      const later = sent(idOf(4, 19), "content of nineteen")
      assert.deepStrictEqual(yield* take(later, { offset: 10, to: 20 }), [expects(0)])
      yield* take(later, { offset: 0, to: 10 })
      assert.deepStrictEqual(yield* take(later, { offset: 10, to: 20, term: 6 }), [expects(0)])
      yield* take(later, { offset: 0, to: 10, term: 6 })
      assert.deepStrictEqual(yield* take(later, { offset: 10, to: 20, term: 7, from: "n3" }), [expects(0)])
    }).pipe(Effect.provide(layer())))

  it.effect("goes on in spite of a deposed leader, whom it does not answer", () =>
    Effect.gen(function*() {
      const { take } = yield* receiving
      yield* take(whole, { offset: 0, to: 10, term: 6, from: "n3" })
      for (const term of [4, 5]) assert.deepStrictEqual(yield* take(whole, { offset: 0, to: 10, term }), [])
      assert.deepStrictEqual(yield* take(whole, { offset: 10, to: 20, term: 6, from: "n3" }), [expects(20)])
    }).pipe(Effect.provide(layer())))

  it.effect("says so where what has come is damaged, keeps it from its core, and takes it anew", () =>
    Effect.gen(function*() {
      const { received, take } = yield* receiving
      const damaged = { ...whole, bytes: Buffer.from(whole.bytes) }
      damaged.bytes.writeUInt8(damaged.bytes.readUInt8(end - 12) ^ 1, end - 12)
      assert.deepStrictEqual(yield* take(damaged, { offset: 0, to: end }), [{ _tag: "Damaged" }])
      assert.deepStrictEqual(received(), [])
      assert.deepStrictEqual(yield* take(whole, { offset: 0, to: end }), [{ _tag: "Received" }])
      assert.strictEqual(received().length, 1)
    }).pipe(Effect.provide(layer())))
})

/** A leader whose follower n2 needs its snapshot, which takes a few pieces of 64 bytes, and what its sender sends. */
const sending = Effect.gen(function*() {
  const storage = yield* Storage
  yield* storage.recover(initial)
  const last = idOf(1, 10)
  const { sizeBytes } = yield* save(storage, last, "x".repeat(300))
  const pieces: Array<InstallSnapshot> = []
  const transport = Transport.of({
    reconfigure: () => Effect.void,
    send: (_to, message) =>
      Effect.sync(() => {
        if (message._tag === "InstallSnapshot") pieces.push(message)
      }),
    inbound: () => Effect.void
  })
  const leading = becomeLeader(node({ terms: repeat(1, 12), settings: { snapshotChunkBytes: 64 } }), Turn.make(0))
  const needing = withProgress(leading, "n2", Progress.becomeSnapshot(Progress.initial(12, 0), last.index))
  let state: NodeState = needing
  const sender = yield* SnapshotSender.make({
    storage,
    transport,
    state: () => state,
    offer: () => {},
    renew: Effect.void
  })
  yield* Effect.forkScoped(sender.run, { startImmediately: true })
  /** What was sent since this was last asked: where from, and how much. */
  const sentNow = Effect.map(settled, () => pieces.splice(0).map(({ bytes, offset }) => [offset, bytes.length]))
  return {
    sizeBytes,
    sentNow,
    start: Effect.andThen(sender.start("n2"), sentNow),
    answer: (result: InstallSnapshotResult, of: EntryId = last, term = 1) =>
      Effect.suspend(() => {
        sender.onResponse("n2", { _tag: "InstallSnapshotResponse", term, last: of, result })
        return sentNow
      }),
    silence: Effect.andThen(TestClock.adjust(needing.settings.electionTimeoutMsMax), sentNow),
    become: (next: "wanted" | "unwanted" | "of a later term") =>
      Effect.sync(() => {
        state = next === "unwanted" ? leading : next === "wanted" ? needing : { ...needing, term: 2 }
      })
  }
})

describe("a sender", () => {
  it.effect("asks how far its follower is, and goes on where that one says, forward and back", () =>
    Effect.gen(function*() {
      const { answer, sizeBytes, start } = yield* sending
      assert.deepStrictEqual(yield* start, [[0, 0]])
      assert.deepStrictEqual(yield* answer(expects(0)), [[0, 64]])
      assert.deepStrictEqual(yield* answer(expects(64)), [[64, 64]])
      assert.deepStrictEqual(yield* answer(expects(0)), [[0, 64]])
      assert.deepStrictEqual(yield* answer(expects(128)), [[128, 64]])
      assert.deepStrictEqual(yield* answer(expects(sizeBytes - 3)), [[sizeBytes - 3, 3]])
    }).pipe(Effect.provide(layer())))

  it.effect("asks again after silence, and sends nothing twice for an answer that was late", () =>
    Effect.gen(function*() {
      const { answer, silence, start } = yield* sending
      yield* start
      yield* answer(expects(0))
      assert.deepStrictEqual(yield* silence, [[0, 0]])
      assert.deepStrictEqual(yield* answer(expects(64)), [[64, 64]])
      assert.deepStrictEqual(yield* answer(expects(64)), [])
    }).pipe(Effect.provide(layer())))

  it.effect("is told nothing by answers about another snapshot, or in another term", () =>
    Effect.gen(function*() {
      const { answer, start } = yield* sending
      yield* start
      yield* answer(expects(0))
      assert.deepStrictEqual(yield* answer(expects(64), idOf(1, 9)), [])
      assert.deepStrictEqual(yield* answer({ _tag: "Received" }, idOf(1, 9)), [])
      assert.deepStrictEqual(yield* answer(expects(64), idOf(1, 10), 2), [])
      assert.deepStrictEqual(yield* answer(expects(64)), [[64, 64]])
    }).pipe(Effect.provide(layer())))

  it.effect("asks once more where its follower has received all and is still in need of it", () =>
    Effect.gen(function*() {
      const { answer, silence, start } = yield* sending
      yield* start
      assert.deepStrictEqual(yield* answer({ _tag: "Received" }), [])
      assert.deepStrictEqual(yield* silence, [[0, 0]])
    }).pipe(Effect.provide(layer())))

  it.effect("ends where it is not wanted, and begins anew when it is", () =>
    Effect.gen(function*() {
      const { become, silence, start } = yield* sending
      yield* start
      yield* become("unwanted")
      assert.deepStrictEqual(yield* silence, [])
      yield* become("wanted")
      assert.deepStrictEqual(yield* silence, [])
      assert.deepStrictEqual(yield* start, [[0, 0]])
      assert.deepStrictEqual(yield* start, [])
    }).pipe(Effect.provide(layer())))

  it.effect("begins anew in a later term, and takes answers in that one", () =>
    Effect.gen(function*() {
      const { answer, become, silence, start } = yield* sending
      yield* start
      yield* answer(expects(0))
      yield* become("of a later term")
      assert.deepStrictEqual(yield* silence, [[0, 0]])
      assert.deepStrictEqual(yield* answer(expects(64), idOf(1, 10), 1), [])
      assert.deepStrictEqual(yield* answer(expects(64), idOf(1, 10), 2), [[64, 64]])
    }).pipe(Effect.provide(layer())))
})
