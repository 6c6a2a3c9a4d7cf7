/**
 * The simulator: time that costs nothing, and an order of everything that its seed decides. And the draws it decides by.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import { Draws } from "../../src/testing/Draws.ts"
import { Deadlock, Livelock, type Options, Simulator } from "../../src/testing/Simulator.ts"

/** Runs `program` to its end, and gives its value and the time it took. */
const simulate = <A>(program: Effect.Effect<A>, options: Partial<Options> = {}) => {
  const simulator = new Simulator({ seed: 1, ...options })
  const exit = simulator.run(program)
  if (exit === undefined || Exit.isFailure(exit)) throw new Error("the program did not succeed")
  return { value: exit.value, nowMs: simulator.nowMs }
}

const thrownBy = (run: () => unknown): unknown => {
  try {
    run()
  } catch (error) {
    return error
  }
  throw new Error("nothing was thrown")
}

describe("time", () => {
  it("an hour of sleep is over at once, and every clock says that an hour has passed", () => {
    const { nowMs, value } = simulate(Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const times = () => [
        clock.currentTimeMillisUnsafe(),
        Number(clock.currentTimeNanosUnsafe() / 1_000_000n),
        Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
      ]
      const before = times()
      yield* Effect.sleep("1 hour")
      return times().map((time, i) => time - (before[i] ?? 0))
    }))
    assert.deepStrictEqual(value, [3_600_000, 3_600_000, 3_600_000])
    assert.strictEqual(nowMs, 3_600_000)
  })

  it("sleepers wake when each is due, whatever the order in which they lay down", () => {
    const { value } = simulate(Effect.gen(function*() {
      const woken: Array<number> = []
      const lieDown = (ms: number) => Effect.andThen(Effect.sleep(ms), Effect.sync(() => void woken.push(ms)))
      yield* Effect.forEach([30, 0.5, 20, 10, 40], lieDown, { concurrency: "unbounded" })
      return woken
    }))
    assert.deepStrictEqual(value, [0.5, 10, 20, 30, 40])
  })

  it("a thousand timers fire in the order of their times, and those of one instant in the order they were set", () => {
    const simulator = new Simulator({ seed: 1 })
    const draws = new Draws(7)
    const timers = Array.from({ length: 1000 }, (_, number) => ({ number, atMs: draws.below(50) }))
    const fired: typeof timers = []
    for (const timer of timers) {
      simulator.after(timer.atMs, () => {
        assert.strictEqual(simulator.nowMs, timer.atMs)
        fired.push(timer)
      })
    }
    simulator.run(Effect.sleep(1000))
    assert.deepStrictEqual(fired, timers.toSorted((a, b) => a.atMs - b.atMs || a.number - b.number))
  })

  it("a timer that was taken back never fires, and time does not wait for it", () => {
    const simulator = new Simulator({ seed: 1 })
    const fired: Array<number> = []
    const cancels = Array.from({ length: 100 }, (_, i) => simulator.after(i % 7, () => void fired.push(i)))
    for (const [i, cancel] of cancels.entries()) if (i % 2 === 1) cancel()
    simulator.after(500, () => undefined)()
    simulator.run(Effect.sleep(20))
    assert.deepStrictEqual(fired.toSorted((a, b) => a - b), Array.from({ length: 50 }, (_, i) => 2 * i))
    assert.instanceOf(thrownBy(() => simulator.run(Effect.never)), Deadlock)
    assert.strictEqual(simulator.nowMs, 20)
  })

  it("a sleeper that is interrupted leaves nothing to wait for", () => {
    const { nowMs } = simulate(Effect.raceFirst(Effect.sleep(10), Effect.sleep("1 hour")))
    assert.strictEqual(nowMs, 10)
    const simulator = new Simulator({ seed: 1 })
    const waiting = Effect.andThen(Effect.raceFirst(Effect.sleep(10), Effect.sleep("1 hour")), Effect.never)
    assert.instanceOf(thrownBy(() => simulator.run(waiting)), Deadlock)
    assert.strictEqual(simulator.nowMs, 10)
  })

  it("a second run goes on at the time at which the first one ended", () => {
    const simulator = new Simulator({ seed: 1 })
    simulator.run(Effect.sleep(10))
    simulator.run(Effect.sleep(5))
    assert.strictEqual(simulator.nowMs, 15)
  })
})

/** Who of four fibers comes when, where all of them can always run. */
const interleaving = Effect.gen(function*() {
  const log: Array<string> = []
  const live = Effect.fnUntraced(function*(name: string) {
    for (let turn = 0; turn < 10; turn++) {
      log.push(name)
      yield* turn % 3 === 0 ? Effect.sleep(1) : Effect.yieldNow
    }
  })
  yield* Effect.forEach(["a", "b", "c", "d"], live, { concurrency: "unbounded" })
  return log.join("")
})

/** Two fibers that never wait. */
const busy = Effect.gen(function*() {
  const log: Array<string> = []
  const live = Effect.fnUntraced(function*(name: string) {
    for (let turn = 0; turn < 400; turn++) yield* Effect.sync(() => void log.push(name))
  })
  yield* Effect.forEach(["a", "b"], live, { concurrency: "unbounded" })
  return log
})

const switchesOf = (log: ReadonlyArray<string>): number => log.filter((name, i) => i > 0 && name !== log[i - 1]).length

describe("order", () => {
  it("the same seed gives the same interleaving, and each other seed another one", () => {
    const seeds = Array.from({ length: 20 }, (_, i) => i + 1)
    const runs = seeds.map((seed) => simulate(interleaving, { seed }).value)
    assert.deepStrictEqual(seeds.map((seed) => simulate(interleaving, { seed }).value), runs)
    assert.strictEqual(new Set(runs).size, seeds.length)
  })

  it("two fibers that never wait are interleaved where yieldEveryOps says so, and differently by seed", () => {
    assert.strictEqual(switchesOf(simulate(busy).value), 1)
    const often = simulate(busy, { yieldEveryOps: 10 }).value
    assert.isAbove(switchesOf(often), 20)
    const seldom = simulate(busy, { yieldEveryOps: 200 }).value
    assert.isAbove(switchesOf(seldom), 1)
    assert.isBelow(switchesOf(seldom), switchesOf(often))
    assert.deepStrictEqual(simulate(busy, { yieldEveryOps: 10 }).value, often)
    assert.notDeepEqual(simulate(busy, { yieldEveryOps: 10, seed: 2 }).value, often)
  })

  it("what Random gives comes from the seed", () => {
    const drawn = (seed: number) =>
      simulate(Effect.all([Random.next, Random.nextIntBetween(0, 1_000_000), Random.next]), { seed }).value
    assert.deepStrictEqual(drawn(1), drawn(1))
    assert.notDeepEqual(drawn(1), drawn(2))
    for (const [fraction] of [drawn(1), drawn(2), drawn(3)]) {
      assert.isAtLeast(fraction, 0)
      assert.isBelow(fraction, 1)
    }
  })
})

describe("the end of a run", () => {
  it("is the exit of the program: its value, its failure or its defect", () => {
    const failed = new Simulator({ seed: 1 }).run(Effect.andThen(Effect.sleep(5), Effect.fail("told")))
    assert.deepStrictEqual(failed, Exit.fail("told"))
    const died = new Simulator({ seed: 1 }).run(Effect.andThen(Effect.sleep(5), Effect.die("broken")))
    assert.isTrue(died !== undefined && Exit.isFailure(died) && Cause.hasDies(died.cause))
  })

  it("is a Deadlock where a fiber waits for what nobody will give", () => {
    const simulator = new Simulator({ seed: 1 })
    const waiting = Effect.gen(function*() {
      const queue = yield* Queue.unbounded<number>()
      yield* Effect.sleep(30)
      return yield* Queue.take(queue)
    })
    const error = thrownBy(() => simulator.run(waiting))
    assert.instanceOf(error, Deadlock)
    assert.include(String(error), "at 30 ms nothing can run and nothing is due")
  })

  it("is a Deadlock where all there is left is a sleep without end", () => {
    assert.instanceOf(thrownBy(() => new Simulator({ seed: 1 }).run(Effect.sleep(Infinity))), Deadlock)
  })

  it("is a Livelock where fibers wake each other and no time passes", () => {
    const simulator = new Simulator({ seed: 1 })
    const calling = Effect.gen(function*() {
      yield* Effect.sleep(7)
      const [there, back] = [yield* Queue.unbounded<number>(), yield* Queue.unbounded<number>()]
      const pass = (from: Queue.Queue<number>, to: Queue.Queue<number>) =>
        Effect.forever(Effect.flatMap(Queue.take(from), (ball) => Queue.offer(to, ball)))
      yield* Queue.offer(there, 1)
      yield* Effect.all([pass(there, back), pass(back, there)], { concurrency: "unbounded" })
    })
    const error = thrownBy(() => simulator.run(calling))
    assert.instanceOf(error, Livelock)
    assert.include(String(error), "at 7 ms")
  })

  it("comes early where `until` holds, without an exit; what is left over stops where it is", () => {
    const simulator = new Simulator({ seed: 1 })
    let beats = 0
    const beating = Effect.forever(Effect.andThen(Effect.sleep(10), Effect.sync(() => void beats++)))
    const exit = simulator.run(beating, { until: () => simulator.nowMs >= 100 })
    assert.isUndefined(exit)
    assert.strictEqual(simulator.nowMs, 100)
    assert.strictEqual(beats, 10)
  })

  it("comes with an exit where `until` and the program end in one instant", () => {
    const simulator = new Simulator({ seed: 1 })
    const exit = simulator.run(Effect.as(Effect.sleep(10), "done"), { until: () => simulator.nowMs >= 10 })
    assert.deepStrictEqual(exit, Exit.succeed("done"))
  })

  it("needs nothing of the fibers that the program left behind", () => {
    const { nowMs } = simulate(Effect.gen(function*() {
      const never = yield* Deferred.make<void>()
      const left = yield* Effect.forkDetach(Deferred.await(never))
      yield* Effect.sleep(3)
      assert.isUndefined(left.pollUnsafe())
      yield* Fiber.interrupt(left)
      yield* Effect.forkDetach(Effect.sleep("1 hour"))
    }))
    assert.strictEqual(nowMs, 3)
  })
})

describe("draws", () => {
  it("of one seed are always the same, and of another one others", () => {
    const drawn = (seed: number) => {
      const draws = new Draws(seed)
      return Array.from({ length: 50 }, () => draws.below(1000))
    }
    assert.deepStrictEqual(drawn(3), drawn(3))
    assert.notDeepEqual(drawn(3), drawn(4))
  })

  it("stay within their bounds, and reach both ends of them", () => {
    const draws = new Draws(1)
    const many = <A>(draw: () => A) => new Set(Array.from({ length: 500 }, draw))
    assert.deepStrictEqual([...many(() => draws.below(4))].toSorted(), [0, 1, 2, 3])
    assert.deepStrictEqual([...many(() => draws.between(-1, 2))].toSorted((a, b) => a - b), [-1, 0, 1, 2])
    assert.deepStrictEqual([...many(() => draws.pick(["x", "y"]))].toSorted(), ["x", "y"])
    for (const unit of many(() => draws.unit())) assert.isTrue(unit >= 0 && unit < 1)
    assert.deepStrictEqual([...many(() => draws.happens(0))], [false])
    assert.deepStrictEqual([...many(() => draws.happens(1))], [true])
    assert.throws(() => draws.pick([]), "nothing to pick from")
  })

  it("shuffle without losing anything, into every order", () => {
    const draws = new Draws(1)
    const orders = new Set(Array.from({ length: 200 }, () => draws.shuffled(["a", "b", "c"]).join("")))
    assert.deepStrictEqual([...orders].toSorted(), ["abc", "acb", "bac", "bca", "cab", "cba"])
  })

  it("of a fork do not depend on how much is drawn beside it", () => {
    const fork = (besides: number) => {
      const draws = new Draws(9)
      const own = draws.fork()
      for (let i = 0; i < besides; i++) draws.below(10)
      return Array.from({ length: 10 }, () => own.below(1000))
    }
    assert.deepStrictEqual(fork(0), fork(25))
  })
})
