/**
 * One deadline that moves, for whatever is due next. Most deadlines move before they come: so nothing is set and cleared at each move, and only a sleep
 * that would end too late is cut short.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"

/** Later than this, in milliseconds, a timer means that the process was held up. */
const heldUpMs = 20

export interface Timer {
  /** Moves the deadline, to monotonic milliseconds. */
  readonly arm: (deadlineMs: number) => void
  readonly run: Effect.Effect<never>
}

/** Calls `onDue` whenever the deadline has come; `now` is in monotonic milliseconds. */
export const make = (now: () => number, onDue: () => void): Timer => {
  const armed = Latch.makeUnsafe()
  let deadlineMs = Infinity
  let sleepingUntilMs = Infinity
  const arm = (nextMs: number): void => {
    deadlineMs = nextMs
    if (nextMs < sleepingUntilMs) armed.openUnsafe()
  }
  const run = Effect.gen(function*() {
    while (true) {
      armed.closeUnsafe()
      sleepingUntilMs = deadlineMs
      const leftMs = deadlineMs - now()
      if (leftMs > 0) {
        const sleep = leftMs === Infinity ? Effect.never : Effect.sleep(Math.ceil(leftMs))
        yield* Effect.raceFirst(sleep, armed.await)
      }
      const lateMs = now() - deadlineMs
      if (lateMs < 0) continue
      // What arrived while the process was held up is to be heard first.
      if (lateMs > heldUpMs) yield* Effect.sleep(1)
      deadlineMs = Infinity
      onDue()
    }
  })
  return { arm, run }
}
