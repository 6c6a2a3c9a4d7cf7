/**
 * An open loop: so many operations a second, whether or not the earlier ones were answered, offered by a timer of one millisecond. How late
 * that timer is says how long the process did nothing else.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { PerformanceObserver } from "node:perf_hooks"

export interface Reading {
  readonly seconds: number
  readonly donePerSecond: number
  readonly failed: number
  /** The longest time that the event loop took for one turn. */
  readonly stallMs: number
  /** The longest time in one turn that this thread computed. On a machine with other work to do this is less than `stallMs`. */
  readonly busyMs: number
  /** Turns that took longer than 10 ms. */
  readonly stallsOver10Ms: number
  readonly longestGcMs: number
}

export interface OpenLoop {
  /** What happened since the last call, or the start. */
  readonly read: () => Reading
}

const threadCpuMs = (): number => {
  const { system, user } = process.threadCpuUsage()
  return (system + user) / 1000
}

const max = (values: ReadonlyArray<number>) => values.reduce((most, value) => Math.max(most, value), 0)

class Meter {
  done = 0
  failed = 0
  #sinceMs = performance.now()
  #lastMs = performance.now()
  #lastCpuMs = threadCpuMs()
  #gaps: Array<number> = []
  #busy: Array<number> = []
  #gcs: Array<number> = []

  tick(): number {
    const [nowMs, cpuMs] = [performance.now(), threadCpuMs()]
    this.#gaps.push(nowMs - this.#lastMs)
    this.#busy.push(Math.min(cpuMs - this.#lastCpuMs, nowMs - this.#lastMs))
    this.#lastMs = nowMs
    this.#lastCpuMs = cpuMs
    return nowMs
  }

  collected(durationMs: number): void {
    this.#gcs.push(durationMs)
  }

  read(): Reading {
    const seconds = (performance.now() - this.#sinceMs) / 1000
    const reading = {
      seconds,
      donePerSecond: this.done / seconds,
      failed: this.failed,
      // The timer itself waits for one.
      stallMs: Math.max(0, max(this.#gaps) - 1),
      busyMs: max(this.#busy),
      stallsOver10Ms: this.#gaps.filter((gap) => gap > 11).length,
      longestGcMs: max(this.#gcs)
    }
    this.#sinceMs = performance.now()
    this.done = 0
    this.failed = 0
    this.#gaps = []
    this.#busy = []
    this.#gcs = []
    return reading
  }
}

/** Offers `perSecond` operations until the scope closes. The argument of `operation` counts up from 0. */
export const make = (options: {
  readonly perSecond: number
  readonly operation: (n: number) => Effect.Effect<unknown, unknown>
}): Effect.Effect<OpenLoop, never, Scope.Scope> =>
  Effect.gen(function*() {
    const meter = new Meter()
    const observer = new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) meter.collected(duration)
    })
    observer.observe({ entryTypes: ["gc"] })
    const startMs = performance.now()
    let offered = 0
    const run = Effect.runForkWith(yield* Effect.context<never>())
    const operate = (n: number) =>
      Effect.match(options.operation(n), { onFailure: () => meter.failed++, onSuccess: () => meter.done++ })
    const timer = setInterval(() => {
      const due = Math.floor((meter.tick() - startMs) / 1000 * options.perSecond)
      while (offered < due) run(operate(offered++))
    }, 1)
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        clearInterval(timer)
        observer.disconnect()
      })
    )
    return { read: () => meter.read() }
  })
