/**
 * A closed loop: `inFlight` callers, each sending its next request when the last one is answered. And an open one: so many requests a second,
 * whatever becomes of them.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

/** How often each latency was seen, one percent apart: enough to add those of several processes up. */
export class Latencies {
  readonly #counts = new Map<number, number>()
  #total = 0

  static of(counts: Counts): Latencies {
    const all = new Latencies()
    for (const [bucket, count] of counts) all.#put(bucket, count)
    return all
  }

  add(ms: number): void {
    this.#put(Math.round(100 * Math.log(Math.max(ms, 1e-4))), 1)
  }

  #put(bucket: number, count: number): void {
    this.#counts.set(bucket, (this.#counts.get(bucket) ?? 0) + count)
    this.#total += count
  }

  /** In milliseconds. */
  percentile(fraction: number): number {
    let left = Math.floor(this.#total * fraction)
    for (const [bucket, count] of this.counts) {
      if (count > left) return Math.exp(bucket / 100)
      left -= count
    }
    return 0
  }

  get counts(): Counts {
    return [...this.#counts].toSorted(([a], [b]) => a - b)
  }

  get percentiles(): Percentiles {
    return { p50Ms: this.percentile(0.5), p99Ms: this.percentile(0.99), p999Ms: this.percentile(0.999) }
  }
}

export type Counts = ReadonlyArray<readonly [bucket: number, count: number]>

export interface Percentiles {
  readonly p50Ms: number
  readonly p99Ms: number
  readonly p999Ms: number
}

export interface Load extends Percentiles {
  readonly inFlight: number
  readonly operations: number
  readonly seconds: number
  readonly perSecond: number
  readonly latencies: Counts
}

const nowMs = (): number => Number(process.hrtime.bigint()) / 1e6

/** Runs `operation` for `seconds` with `inFlight` at a time. Its argument counts up from 0; a failure ends the run. */
export const closedLoop = <E, R>(options: {
  readonly inFlight: number
  readonly seconds: number
  readonly operation: (n: number) => Effect.Effect<unknown, E, R>
}): Effect.Effect<Load, E, R> =>
  Effect.gen(function*() {
    const latencies = new Latencies()
    const startMs = nowMs()
    const endMs = startMs + options.seconds * 1000
    let n = 0
    let operations = 0
    const caller = Effect.gen(function*() {
      while (nowMs() < endMs) {
        const sentMs = nowMs()
        yield* options.operation(n++)
        operations++
        latencies.add(nowMs() - sentMs)
      }
    })
    yield* Effect.all(Array.from({ length: options.inFlight }, () => caller), {
      concurrency: "unbounded",
      discard: true
    })
    const seconds = (nowMs() - startMs) / 1000
    return {
      inFlight: options.inFlight,
      operations,
      seconds,
      perSecond: operations / seconds,
      ...latencies.percentiles,
      latencies: latencies.counts
    }
  })

/**
 * Offers `rate` operations a second for `seconds`, and waits for all of them. Latencies count from the moment when each was due, so that what had to
 * wait for its turn is as late as it was (no coordinated omission). A failure ends the run.
 */
export const openLoop = <E>(options: {
  readonly rate: number
  readonly seconds: number
  readonly operation: (n: number) => Effect.Effect<unknown, E>
}): Effect.Effect<Load, E> =>
  Effect.gen(function*() {
    const latencies = new Latencies()
    const { operation, rate, seconds } = options
    const total = Math.floor(rate * seconds)
    const startMs = nowMs()
    const offer = Effect.fnUntraced(function*(n: number) {
      yield* operation(n)
      latencies.add(nowMs() - (startMs + 1000 * n / rate))
    })
    const offered: Array<Fiber.Fiber<void, E>> = []
    while (offered.length < total) {
      const due = Math.min(total, Math.floor((nowMs() - startMs) * rate / 1000) + 1)
      while (offered.length < due) offered.push(yield* Effect.forkChild(offer(offered.length)))
      yield* Effect.sleep(1)
    }
    yield* Fiber.joinAll(offered)
    const tookSeconds = (nowMs() - startMs) / 1000
    return {
      inFlight: 0,
      operations: total,
      seconds: tookSeconds,
      perSecond: total / tookSeconds,
      ...latencies.percentiles,
      latencies: latencies.counts
    }
  })
