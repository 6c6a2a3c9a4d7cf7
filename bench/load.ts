/**
 * A closed loop: `inFlight` callers, each sending its next request when the last one is answered.
 */
import * as Effect from "effect/Effect"

export interface Load {
  readonly inFlight: number
  readonly operations: number
  readonly seconds: number
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
}

const nowMs = (): number => Number(process.hrtime.bigint()) / 1e6

const percentile = (sorted: Float64Array, fraction: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? 0

/** Runs `operation` for `seconds` with `inFlight` at a time. Its argument counts up from 0; a failure ends the run. */
export const closedLoop = <E, R>(options: {
  readonly inFlight: number
  readonly seconds: number
  readonly operation: (n: number) => Effect.Effect<unknown, E, R>
}): Effect.Effect<Load, E, R> =>
  Effect.gen(function*() {
    const latencies: Array<number> = []
    const startMs = nowMs()
    const endMs = startMs + options.seconds * 1000
    let n = 0
    const caller = Effect.gen(function*() {
      while (nowMs() < endMs) {
        const sentMs = nowMs()
        yield* options.operation(n++)
        latencies.push(nowMs() - sentMs)
      }
    })
    yield* Effect.all(Array.from({ length: options.inFlight }, () => caller), {
      concurrency: "unbounded",
      discard: true
    })
    const seconds = (nowMs() - startMs) / 1000
    const sorted = Float64Array.from(latencies).toSorted()
    return {
      inFlight: options.inFlight,
      operations: sorted.length,
      seconds,
      perSecond: sorted.length / seconds,
      p50Ms: percentile(sorted, 0.5),
      p99Ms: percentile(sorted, 0.99)
    }
  })
