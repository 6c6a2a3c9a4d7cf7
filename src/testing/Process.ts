/**
 * A process of a test: a `Scheduler` and a `Clock` for the fibers of one node, over those of the test. It can be paused, as SIGSTOP does
 * it: nothing of it runs while time goes on, and what came meanwhile waits. Its clocks can run at another rate than the test's, and jump.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scheduler from "effect/Scheduler"

export class Process implements Scheduler.Scheduler, Scheduler.SchedulerDispatcher {
  readonly executionMode = "async" as const
  readonly clock: Clock.Clock
  readonly #outer: { readonly scheduler: Scheduler.Scheduler; readonly clock: Clock.Clock }
  readonly #dispatcher: Scheduler.SchedulerDispatcher
  #isPaused = false
  #held: Array<() => void> = []
  /** Its monotonic time is `#localMs` when the test's is `#outerMs`, and runs `#rate` times as fast from there on. */
  #localMs: number
  #outerMs: number
  #rate = 1
  /** How far its wall clock is ahead of its monotonic one. */
  #wallAheadMs: number

  constructor(outer: { readonly scheduler: Scheduler.Scheduler; readonly clock: Clock.Clock }) {
    this.#outer = outer
    this.#dispatcher = outer.scheduler.makeDispatcher()
    this.#outerMs = this.#nowOutsideMs()
    this.#localMs = this.#outerMs
    this.#wallAheadMs = outer.clock.currentTimeMillisUnsafe() - this.#outerMs
    this.clock = makeClock(this)
  }

  // ---- Scheduler

  shouldYield(fiber: Parameters<Scheduler.Scheduler["shouldYield"]>[0]): boolean {
    return this.#outer.scheduler.shouldYield(fiber)
  }

  makeDispatcher(): Scheduler.SchedulerDispatcher {
    return this
  }

  scheduleTask(task: () => void, priority = 0): void {
    // Whether it may run is asked when its turn comes: the process may have been paused since.
    this.#dispatcher.scheduleTask(() => this.#isPaused ? void this.#held.push(task) : task(), priority)
  }

  flush(): void {
    this.#dispatcher.flush()
  }

  get isPaused(): boolean {
    return this.#isPaused
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    this.#isPaused = false
    const held = this.#held
    this.#held = []
    for (const task of held) this.scheduleTask(task)
  }

  // ---- time

  #nowOutsideMs(): number {
    return Number(this.#outer.clock.monotonicTimeNanosUnsafe()) / 1e6
  }

  /** Monotonic milliseconds of this process. */
  get nowMs(): number {
    return this.#localMs + (this.#nowOutsideMs() - this.#outerMs) * this.#rate
  }

  get wallMs(): number {
    return this.nowMs + this.#wallAheadMs
  }

  #rebase(): void {
    const nowMs = this.nowMs
    this.#outerMs = this.#nowOutsideMs()
    this.#localMs = nowMs
  }

  /** From now on its clocks run `rate` times as fast as the test's. Sleeps under way end when they would have. */
  setClockRate(rate: number): void {
    this.#rebase()
    this.#rate = rate
  }

  /** Its monotonic clock moves ahead by `ms`, which is not negative: it stood still, or lost time is made up for. */
  jump(ms: number): void {
    this.#rebase()
    this.#localMs += ms
  }

  /** Its wall clock is set, forwards or backwards. */
  setWallClock(byMs: number): void {
    this.#wallAheadMs += byMs
  }

  sleep(ms: number): Effect.Effect<void> {
    return Effect.flatMap(this.#outer.clock.sleep(Duration.millis(ms / this.#rate)), () => this.#admitted)
  }

  /** A sleeper that wakes while the process is paused goes on when that is over. */
  readonly #admitted = Effect.suspend(() =>
    this.#isPaused
      ? Effect.callback<void>((resume) => this.scheduleTask(() => resume(Effect.void)))
      : Effect.void
  )
}

const makeClock = (process: Process): Clock.Clock => {
  const millis = () => Math.floor(process.wallMs)
  const wall = () => BigInt(Math.round(process.wallMs * 1e6))
  const monotonic = () => BigInt(Math.round(process.nowMs * 1e6))
  return {
    currentTimeMillisUnsafe: millis,
    currentTimeMillis: Effect.sync(millis),
    currentTimeNanosUnsafe: wall,
    currentTimeNanos: Effect.sync(wall),
    monotonicTimeNanosUnsafe: monotonic,
    monotonicTimeNanos: Effect.sync(monotonic),
    sleep: (duration) => process.sleep(Duration.toMillis(duration))
  }
}
