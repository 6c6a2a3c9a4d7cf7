/**
 * One thread, its time and the order of everything in it, from one seed: an Effect `Scheduler` that picks the next of the fibers that could
 * run, and a `Clock` whose time jumps to the next timer once nothing can run. What runs on it must use no other clock, randomness or
 * input and output; then the same seed gives the same run to the letter, and another seed another interleaving.
 *
 * ```ts
 * const simulator = new Simulator({ seed: 7 })
 * const exit = simulator.run(Effect.sleep("1 hour"))   // at once
 * ```
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as EffectRandom from "effect/Random"
import * as References from "effect/References"
import * as Scheduler from "effect/Scheduler"
import { Draws } from "./Draws.ts"

interface Timer {
  readonly atMs: number
  /** Timers of one instant fire in the order they were set. */
  readonly number: number
  readonly fire: () => void
  isCancelled: boolean
}

/** Nothing can run and no timer is set: the program waits for something that never comes. */
export class Deadlock extends Error {
  override readonly name = "Deadlock"
}

/** Fibers go on waking each other and no time passes. */
export class Livelock extends Error {
  override readonly name = "Livelock"
}

/** More tasks and timers than this in one instant are taken for a loop. */
const happeningsOfInstantMax = 1_000_000

export interface Options {
  readonly seed: number
  /** After how many operations, on average, a fiber that could go on gives way to others; 0 for only where it waits. */
  readonly yieldEveryOps?: number
}

const isBefore = (a: Timer, b: Timer): boolean => a.atMs < b.atMs || (a.atMs === b.atMs && a.number < b.number)

export class Simulator implements Scheduler.Scheduler, Scheduler.SchedulerDispatcher {
  readonly executionMode = "async" as const
  /** Milliseconds since the start of the simulation. */
  nowMs = 0
  readonly clock: Clock.Clock
  readonly #draws: Draws
  readonly #yieldEveryOps: number
  readonly #ready: Array<() => void> = []
  /** A binary heap: each timer is before the two at twice its place. */
  readonly #timers: Array<Timer> = []
  #opsUntilYield = 0
  #timersSet = 0
  #instantMs = 0
  #happened = 0

  constructor(options: Options) {
    this.#draws = new Draws(options.seed)
    this.#yieldEveryOps = options.yieldEveryOps ?? 0
    this.clock = makeClock(this)
  }

  // ---- Scheduler

  shouldYield(fiber: { readonly currentOpCount: number }): boolean {
    if (this.#yieldEveryOps === 0) return fiber.currentOpCount >= 2048
    // Never before its first operation: that may be the interruption of a fiber that has not begun, and its beginning would undo it.
    if (fiber.currentOpCount < 2) return false
    if (this.#opsUntilYield-- > 0) return false
    this.#opsUntilYield = this.#draws.below(2 * this.#yieldEveryOps)
    return true
  }

  makeDispatcher(): Scheduler.SchedulerDispatcher {
    return this
  }

  scheduleTask(task: () => void): void {
    this.#ready.push(task)
  }

  flush(): void {
    for (let task = this.#next(); task !== undefined; task = this.#next()) {
      this.#count()
      task()
    }
  }

  /** One more thing that happens in this instant. */
  #count(): void {
    if (this.#instantMs !== this.nowMs) {
      this.#instantMs = this.nowMs
      this.#happened = 0
    }
    if (++this.#happened > happeningsOfInstantMax) {
      throw new Livelock(`at ${this.nowMs} ms fibers and timers set each other off without end`)
    }
  }

  /** Any of those that could run. */
  #next(): (() => void) | undefined {
    const count = this.#ready.length
    if (count < 2) return this.#ready.pop()
    const at = this.#draws.below(count)
    const task = this.#ready[at]
    const last = this.#ready.pop()
    if (at < count - 1 && last !== undefined) this.#ready[at] = last
    return task
  }

  // ---- time

  /** Runs `fire` in `delayMs`; the result takes it back. */
  after(delayMs: number, fire: () => void): () => void {
    const timer: Timer = { atMs: this.nowMs + delayMs, number: this.#timersSet++, fire, isCancelled: false }
    let at = this.#timers.length
    this.#timers.push(timer)
    while (at > 0) {
      const parent = (at - 1) >> 1
      const above = this.#timers[parent]
      if (above === undefined || isBefore(above, timer)) break
      this.#timers[at] = above
      at = parent
    }
    this.#timers[at] = timer
    return () => void (timer.isCancelled = true)
  }

  #pop(): Timer | undefined {
    const [first] = this.#timers
    const last = this.#timers.pop()
    if (first === undefined || last === undefined || first === last) return first
    let at = 0
    for (;;) {
      const [left, right] = [this.#timers[2 * at + 1], this.#timers[2 * at + 2]]
      if (left === undefined) break
      const isRight = right !== undefined && isBefore(right, left)
      const least = isRight ? right : left
      if (isBefore(last, least)) break
      this.#timers[at] = least
      at = 2 * at + (isRight ? 2 : 1)
    }
    this.#timers[at] = last
    return first
  }

  /** Moves the time to the next timer and fires all that are due then; false when there is none. */
  #advance(): boolean {
    let next = this.#pop()
    while (next?.isCancelled === true) next = this.#pop()
    if (next === undefined) return false
    this.nowMs = next.atMs
    this.#count()
    next.fire()
    while (this.#timers[0] !== undefined && this.#timers[0].atMs <= this.nowMs) {
      const due = this.#pop()
      this.#count()
      if (due !== undefined && !due.isCancelled) due.fire()
    }
    return true
  }

  /** What a program needs to run in this time: the clock, the scheduler and a random generator, all from the seed. Its log is silent. */
  services(): Context.Context<never> {
    const draws = this.#draws
    const random = {
      nextDoubleUnsafe: () => draws.unit(),
      nextIntUnsafe: () => draws.below(2 ** 32) - 2 ** 31
    }
    return Context.make(Clock.Clock, this.clock).pipe(
      Context.add(EffectRandom.Random, random),
      Context.add(Scheduler.Scheduler, this),
      Context.add(References.MinimumLogLevel, "None")
    )
  }

  /**
   * Runs `program` to its end, at once, or until `until` holds at some instant: then there is no exit. What is left over stops where it
   * is. Throws `Deadlock` and `Livelock`.
   */
  run<A, E>(
    program: Effect.Effect<A, E>,
    options: { readonly until?: () => boolean } = {}
  ): Exit.Exit<A, E> | undefined {
    const fiber = Effect.runForkWith(this.services())(program, { scheduler: this })
    for (;;) {
      this.flush()
      const exit = fiber.pollUnsafe()
      if (exit !== undefined || options.until?.() === true) return exit
      if (!this.#advance()) throw new Deadlock(`at ${this.nowMs} ms nothing can run and nothing is due`)
    }
  }
}

const nanosOf = (ms: number): bigint => BigInt(Math.round(ms * 1e6))

const makeClock = (simulator: Simulator): Clock.Clock => {
  const currentTimeMillisUnsafe = () => Math.floor(simulator.nowMs)
  const nanosUnsafe = () => nanosOf(simulator.nowMs)
  return {
    currentTimeMillisUnsafe,
    currentTimeMillis: Effect.sync(currentTimeMillisUnsafe),
    currentTimeNanosUnsafe: nanosUnsafe,
    currentTimeNanos: Effect.sync(nanosUnsafe),
    monotonicTimeNanosUnsafe: nanosUnsafe,
    monotonicTimeNanos: Effect.sync(nanosUnsafe),
    sleep: (duration) => {
      const ms = Duration.toMillis(duration)
      if (ms <= 0) return Effect.yieldNow
      if (!Number.isFinite(ms)) return Effect.never
      return Effect.callback<void>((resume) => {
        const wake = () => resume(Effect.void)
        const cancel = simulator.after(ms, () => simulator.scheduleTask(wake))
        return Effect.sync(cancel)
      })
    }
  }
}
