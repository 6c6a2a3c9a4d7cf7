/**
 * A process of a test: what pausing it holds, and how its clocks run; and a node of a cluster that is paused.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Scheduler from "effect/Scheduler"
import * as TestClock from "effect/testing/TestClock"
import { Process } from "../../src/testing/Process.ts"
import { Simulator } from "../../src/testing/Simulator.ts"
import { type Cluster, during, leaderOf, on, others, settled } from "../services/cluster.ts"
import { Register } from "../services/register.ts"

const makeProcess = Effect.gen(function*() {
  return new Process({ scheduler: yield* Scheduler.Scheduler, clock: yield* Clock.Clock })
})

/** Runs `effect` as a fiber of `process`. */
const startOn = <A>(process: Process, effect: Effect.Effect<A>) =>
  Effect.forkChild(effect).pipe(
    Effect.provideService(Clock.Clock, process.clock),
    Effect.provideService(Scheduler.Scheduler, process)
  )

const monotonicMs = Effect.map(Clock.clockWith((clock) => clock.monotonicTimeNanos), (nanos) => Number(nanos) / 1e6)

describe("a paused process", () => {
  it.effect("runs no fiber, not even one that could, until it is resumed", () =>
    Effect.gen(function*() {
      const process = yield* makeProcess
      let turns = 0
      yield* startOn(process, Effect.forever(Effect.andThen(Effect.sleep(1), Effect.sync(() => void turns++))))
      yield* TestClock.adjust(10)
      assert.strictEqual(turns, 10)
      process.pause()
      assert.isTrue(process.isPaused)
      yield* TestClock.adjust(1000)
      assert.strictEqual(turns, 10)
      process.resume()
      assert.isFalse(process.isPaused)
      yield* TestClock.adjust(5)
      assert.isAbove(turns, 10)
      assert.isAtMost(turns, 16)
    }))

  it.effect("does not start a fiber that is given to it", () =>
    Effect.gen(function*() {
      const process = yield* makeProcess
      process.pause()
      let isStarted = false
      const fiber = yield* startOn(process, Effect.sync(() => void (isStarted = true)))
      yield* TestClock.adjust(100)
      assert.isFalse(isStarted)
      process.resume()
      yield* Fiber.join(fiber)
      assert.isTrue(isStarted)
    }))

  it.effect("lets its timers go in the order in which they were due, once it is resumed", () =>
    Effect.gen(function*() {
      const process = yield* makeProcess
      const woken: Array<number> = []
      const lieDown = (ms: number) => Effect.andThen(Effect.sleep(ms), Effect.sync(() => void woken.push(ms)))
      for (const ms of [30, 10, 20, 500]) yield* startOn(process, lieDown(ms))
      yield* TestClock.adjust(5)
      process.pause()
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(woken, [])
      process.resume()
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(woken, [10, 20, 30])
      yield* TestClock.adjust(395)
      assert.deepStrictEqual(woken, [10, 20, 30, 500])
    }))

  it.effect("takes nothing out of its queues; what came meanwhile is there afterwards, in order", () =>
    Effect.gen(function*() {
      const process = yield* makeProcess
      const queue = yield* Effect.provideService(Queue.unbounded<number>(), Scheduler.Scheduler, process)
      const taken: Array<number> = []
      const taking = Effect.forever(Effect.map(Queue.take(queue), (item) => void taken.push(item)), {
        disableYield: true
      })
      yield* startOn(process, taking)
      yield* Queue.offer(queue, 1)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(taken, [1])
      process.pause()
      for (const item of [2, 3, 4]) {
        yield* Queue.offer(queue, item)
        yield* TestClock.adjust(10)
      }
      assert.deepStrictEqual(taken, [1])
      process.resume()
      yield* TestClock.adjust(10)
      assert.deepStrictEqual(taken, [1, 2, 3, 4])
    }))

  it.effect("that is paused again at once has run nothing", () =>
    Effect.gen(function*() {
      const process = yield* makeProcess
      let turns = 0
      yield* startOn(process, Effect.forever(Effect.andThen(Effect.sleep(1), Effect.sync(() => void turns++))))
      yield* TestClock.adjust(1)
      process.pause()
      yield* TestClock.adjust(10)
      process.resume()
      process.pause()
      yield* TestClock.adjust(10)
      assert.strictEqual(turns, 1)
      process.resume()
      yield* TestClock.adjust(0)
      assert.isAbove(turns, 1)
    }))

  it.effect("holds nobody else up, and its clocks go on", () =>
    Effect.gen(function*() {
      const [paused, other] = [yield* makeProcess, yield* makeProcess]
      paused.pause()
      const fiber = yield* startOn(other, Effect.as(Effect.sleep(10), "slept"))
      yield* TestClock.adjust(10)
      assert.strictEqual(yield* Fiber.join(fiber), "slept")
      assert.strictEqual(paused.nowMs, other.nowMs)
    }))

  it("of a simulator holds its fibers the same way", () => {
    const simulator = new Simulator({ seed: 1 })
    const process = new Process({ scheduler: simulator, clock: simulator.clock })
    const beats: Array<number> = []
    simulator.run(Effect.gen(function*() {
      yield* startOn(
        process,
        Effect.forever(Effect.andThen(Effect.sleep(10), Effect.sync(() => void beats.push(simulator.nowMs))))
      )
      yield* Effect.sleep(25)
      process.pause()
      yield* Effect.sleep(60)
      process.resume()
      yield* Effect.sleep(15)
    }))
    assert.deepStrictEqual(beats, [10, 20, 85, 95])
  })
})

describe("the clocks of a process", () => {
  it.effect("are the test's until something is done to them", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust(1234)
      const process = yield* makeProcess
      yield* TestClock.adjust(100)
      assert.strictEqual(process.nowMs, yield* monotonicMs)
      assert.strictEqual(process.wallMs, yield* Clock.currentTimeMillis)
    }))

  it.effect("at rate 2 show twice the time, and a sleep takes half of it", () =>
    Effect.gen(function*() {
      const process = yield* makeProcess
      process.setClockRate(2)
      const before = process.nowMs
      const slept = yield* startOn(
        process,
        Effect.gen(function*() {
          const from = yield* monotonicMs
          yield* Effect.sleep(100)
          return (yield* monotonicMs) - from
        })
      )
      yield* TestClock.adjust(49)
      assert.isUndefined(slept.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(slept), 100)
      assert.strictEqual(process.nowMs - before, 100)
    }))

  it.effect("at rate 0.5 show half the time, and a sleep takes twice as long", () =>
    Effect.gen(function*() {
      const process = yield* makeProcess
      process.setClockRate(0.5)
      const before = process.nowMs
      const slept = yield* startOn(process, Effect.sleep(100))
      yield* TestClock.adjust(199)
      assert.isUndefined(slept.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.isDefined(slept.pollUnsafe())
      assert.strictEqual(process.nowMs - before, 100)
    }))

  it.effect("go on from where they are when the rate changes, and never back", () =>
    Effect.gen(function*() {
      const process = yield* makeProcess
      const before = process.nowMs
      for (const [rate, ms, total] of [[2, 10, 20], [0.5, 10, 25], [1, 10, 35]] as const) {
        process.setClockRate(rate)
        yield* TestClock.adjust(ms)
        assert.strictEqual(process.nowMs - before, total)
      }
    }))

  it.effect("jump ahead together, and sleeps under way end when they would have", () =>
    Effect.gen(function*() {
      const process = yield* makeProcess
      const [monotonic, wall] = [process.nowMs, process.wallMs]
      const slept = yield* startOn(process, Effect.sleep(100))
      yield* TestClock.adjust(10)
      process.jump(5000)
      assert.strictEqual(process.nowMs - monotonic, 5010)
      assert.strictEqual(process.wallMs - wall, 5010)
      yield* TestClock.adjust(89)
      assert.isUndefined(slept.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.isDefined(slept.pollUnsafe())
    }))

  it.effect("set by hand: the wall clock moves, forwards and backwards, and the monotonic one does not", () =>
    Effect.gen(function*() {
      const process = yield* makeProcess
      const [monotonic, wall] = [process.nowMs, process.wallMs]
      for (const [byMs, ahead] of [[60_000, 60_000], [-90_000, -30_000]] as const) {
        process.setWallClock(byMs)
        assert.strictEqual(process.wallMs - wall, ahead)
        assert.strictEqual(process.clock.currentTimeMillisUnsafe() - wall, ahead)
        assert.strictEqual(Number(process.clock.currentTimeNanosUnsafe()) / 1e6 - wall, ahead)
        assert.strictEqual(Number(process.clock.monotonicTimeNanosUnsafe()) / 1e6, monotonic)
      }
      const slept = yield* startOn(process, Effect.sleep(10))
      yield* TestClock.adjust(10)
      assert.isDefined(slept.pollUnsafe())
    }))

  it.effect("move no other process", () =>
    Effect.gen(function*() {
      const [moved, other] = [yield* makeProcess, yield* makeProcess]
      moved.setClockRate(4)
      moved.jump(100)
      moved.setWallClock(-100)
      yield* TestClock.adjust(10)
      assert.strictEqual(other.nowMs, yield* monotonicMs)
      assert.strictEqual(other.wallMs, yield* Clock.currentTimeMillis)
    }))
})

/** A cluster that holds the text "old", and who leads it. */
const written = Effect.gen(function*() {
  const cluster = yield* settled()
  const leader = yield* leaderOf(cluster)
  yield* on(cluster, leader).propose("old")
  yield* TestClock.adjust(100)
  return { cluster, leader }
})

/** What the state machine of `id` itself holds. */
const heldBy = (cluster: Cluster, id: string) =>
  Register.on({ propose: () => Effect.never, read: cluster.machine(id).query }).read()

describe("a paused leader", () => {
  it.effect("is replaced, steps down when it is resumed, and answers no stale read", () =>
    Effect.gen(function*() {
      const { cluster, leader } = yield* written
      yield* cluster.pause(leader)
      assert.isUndefined(yield* cluster.leader)
      const early = yield* Effect.forkChild(Effect.result(on(cluster, leader).read()), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      const next = yield* leaderOf(cluster)
      assert.notStrictEqual(next, leader)
      assert.strictEqual(yield* on(cluster, next).propose("new"), 2)
      // It still believes that it leads, and has told nobody anything meanwhile.
      assert.deepInclude(yield* cluster.node(leader).status, { role: "Leader" })
      assert.isUndefined(early.pollUnsafe())
      yield* cluster.resume(leader)
      const late = yield* Effect.forkChild(Effect.result(on(cluster, leader).read()), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      assert.deepInclude(yield* cluster.node(leader).status, { role: "Follower", leaderId: next })
      for (const fiber of [early, late]) {
        const outcome = yield* Fiber.join(fiber)
        assert.strictEqual(outcome._tag, "Failure", JSON.stringify(outcome))
      }
      assert.deepStrictEqual(yield* heldBy(cluster, leader), ["old", "new"])
    }))

  it.effect("is up all the while: it counts as running and has a status", () =>
    Effect.gen(function*() {
      const { cluster, leader } = yield* written
      yield* cluster.pause(leader)
      yield* TestClock.adjust("1 second")
      assert.sameMembers([...cluster.running()], [...cluster.ids])
      assert.strictEqual((yield* cluster.statuses).length, 3)
    }))

  it.effect("may crash: whoever waits for it is told, and it runs once it is restarted", () =>
    Effect.gen(function*() {
      const { cluster, leader } = yield* written
      yield* cluster.pause(leader)
      const asked = yield* Effect.forkChild(Effect.result(on(cluster, leader).propose("lost")), {
        startImmediately: true
      })
      yield* TestClock.adjust(10)
      yield* cluster.crash(leader)
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* Fiber.join(asked))._tag, "Failure")
      yield* TestClock.adjust("1 second")
      yield* cluster.restart(leader)
      yield* TestClock.adjust("1 second")
      assert.deepInclude(yield* cluster.node(leader).status, { leaderId: yield* leaderOf(cluster) })
      assert.deepStrictEqual(yield* heldBy(cluster, leader), ["old"])
    }))
})

describe("a paused follower", () => {
  it.effect("holds nobody up, and catches up when it is resumed", () =>
    Effect.gen(function*() {
      const { cluster, leader } = yield* written
      const [follower = ""] = others(cluster, leader)
      yield* cluster.pause(follower)
      const outcome = yield* during(on(cluster, leader).propose("new"), 1000)
      assert.deepInclude(outcome, { _tag: "Success", success: 2 })
      assert.deepStrictEqual(yield* heldBy(cluster, follower), ["old"])
      yield* cluster.resume(follower)
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(yield* heldBy(cluster, follower), ["old", "new"])
    }))
})
