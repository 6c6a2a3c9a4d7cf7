/**
 * The turn loop alone, with a core of the test's own.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import type { Command } from "../../src/domain/Command.ts"
import { type Event, ticked } from "../../src/domain/Event.ts"
import type { step } from "../../src/domain/Step.ts"
import { Requests } from "../../src/services/Requests.ts"
import * as TurnLoop from "../../src/services/TurnLoop.ts"
import { leading } from "../domain/Changes.ts"
import { node, received } from "../domain/Given.ts"

const heard = received("n2", { _tag: "RequestVoteResponse", term: 1, voteGranted: true })

/** A loop whose steps do nothing but command `commands`, and the events they were given; its disk, and what it holds, are as the test says. */
const looping = Effect.fnUntraced(function*(commands: ReadonlyArray<Command>, initial = node()) {
  const seen: Array<Event> = []
  const given = { isDiskBusy: false, commitIndex: initial.commitIndex }
  const taking: typeof step = (before, event) => {
    seen.push(event)
    return { state: { ...before, commitIndex: given.commitIndex }, commands }
  }
  const requests = new Requests({ timeoutMs: 1000, waitingMax: 10 })
  const clock = yield* Clock.Clock
  const loop = yield* TurnLoop.make({
    initial,
    step: taking,
    now: () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6,
    requests,
    isDiskBusy: () => given.isDiskBusy
  })
  const proposed = () =>
    seen.flatMap((event) => event._tag === "Propose" ? [event.proposals.map(({ requestId }) => requestId)] : [])
  return { given, loop, proposed, seen }
})

const propose = (requestId: number, bytes = 1): Event => ({
  _tag: "Propose",
  proposals: [{ requestId, bytes: new Uint8Array(bytes), sequenced: undefined }]
})

const settle = Effect.forEach(Array.from({ length: 10 }), () => Effect.yieldNow, { discard: true })

const announce: Command = { _tag: "AnnounceRole", role: "Follower", term: 1, leaderId: undefined }

describe("proposals", () => {
  /** A leader whose log has one entry, which is committed. */
  const asLeader = Effect.gen(function*() {
    const looped = yield* looping([], { ...leading().state("n1"), deadlineMs: Infinity })
    yield* Effect.forkChild(looped.loop.run(() => Effect.void), { startImmediately: true })
    return looped
  })

  it.effect("wait while the disk is busy, and are one batch then", () =>
    Effect.gen(function*() {
      const { given, loop, proposed } = yield* asLeader
      given.isDiskBusy = true
      for (const id of [1, 2]) loop.offer(propose(id))
      yield* settle
      loop.offer(propose(3))
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(proposed(), [])
      given.isDiskBusy = false
      loop.onDiskIdle()
      yield* settle
      assert.deepStrictEqual(proposed(), [[1, 2, 3]])
    }))

  it.effect("wait for the batch before to be committed, but not for long", () =>
    Effect.gen(function*() {
      const { given, loop, proposed } = yield* asLeader
      given.commitIndex--
      loop.offer(propose(1))
      yield* settle
      for (const id of [2, 3]) loop.offer(propose(id))
      yield* settle
      assert.deepStrictEqual(proposed(), [[1]])
      yield* TestClock.adjust(6)
      assert.deepStrictEqual(proposed(), [[1], [2, 3]])
    }))

  it.effect("wait no more once they are many bytes: what a disk that stalls is given is for the core to bound", () =>
    Effect.gen(function*() {
      const { given, loop, proposed } = yield* asLeader
      given.isDiskBusy = true
      loop.offer(propose(1, 1 << 19))
      yield* settle
      assert.deepStrictEqual(proposed(), [])
      loop.offer(propose(2, 1 << 19))
      yield* settle
      assert.deepStrictEqual(proposed(), [[1, 2]])
    }))

  it.effect("are for the core to refuse at once where no leader is, whatever the disk does", () =>
    Effect.gen(function*() {
      const { given, loop, proposed } = yield* looping([])
      yield* Effect.forkChild(loop.run(() => Effect.void), { startImmediately: true })
      given.isDiskBusy = true
      loop.offer(propose(1))
      yield* settle
      assert.deepStrictEqual(proposed(), [[1]])
    }))
})

describe("a turn", () => {
  it.effect("tells the time after what arrived while the process was held up", () =>
    Effect.gen(function*() {
      const { loop, seen } = yield* looping([])
      for (const event of [ticked, heard, { _tag: "Read", requestIds: [1], by: "Round" } as const]) loop.offer(event)
      yield* Effect.forkChild(loop.run(() => Effect.void), { startImmediately: true })
      yield* Effect.yieldNow
      assert.deepEqual(seen.map(({ _tag }) => _tag), ["Received", "Read", "Ticked"])
    }))

  it.effect("ends where the node stops: what was commanded after that is not done", () =>
    Effect.gen(function*() {
      const { loop } = yield* looping([announce, announce])
      let done = 0
      const interpret = () =>
        Effect.sync(() => {
          done++
          loop.close()
        })
      loop.offer(heard)
      yield* Effect.forkChild(loop.run(interpret), { startImmediately: true })
      yield* Effect.yieldNow
      assert.strictEqual(done, 1)
    }))
})
