/**
 * One request that travels alone: to one server after the other, in rounds, until one answers or the time is over. What is asked often travels
 * in batches instead (`ClientLane.ts`).
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import { Lost, type Unanswered, Unreachable } from "./ClientErrors.ts"
import { type Failure, Failures, type Route } from "./ClientRoute.ts"
import type { Connection } from "./Connection.ts"
import { type ChangeRefused, OutcomeUnknown } from "./RaftNode.ts"

/** Opens a connection, or gives the one that is open, best as an `Exit`. It gives up by itself or is interrupted. */
export type Connect = (url: string) => Effect.Effect<Connection, Unreachable>

export interface Limits {
  readonly deadlineMs: number
  readonly attemptMs: number
  readonly backoffMsMin: number
  readonly backoffMsMax: number
}

/** With less time than this left nothing is tried again: a write cut off by the deadline is unknown, and until then it is not applied. */
export const lastAttemptMs = 50

/** Monotonic milliseconds. */
export const nowMs = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)

export const within = <A, E, E2>(effect: Effect.Effect<A, E>, ms: number, late: (reason: string) => E2, what: string) =>
  Effect.timeoutOrElse(effect, {
    duration: Duration.millis(ms),
    orElse: () => Effect.fail(late(`${what} within ${Math.round(ms)} ms`))
  })

export const opened = (connect: Connect, url: string, ms: number): Effect.Effect<Connection, Unreachable> => {
  const opening = connect(url)
  // One that stands needs no time, nor a timer that most often would be for nothing.
  return Exit.isExit(opening)
    ? opening
    : within(opening, ms, (reason) => new Unreachable({ reason }), "no connection")
}

/** How long to wait before round `round + 1`: longer each time, and jittered, so that clients do not come back together. */
export const pauseMs = (round: number, { backoffMsMax, backoffMsMin }: Limits): Effect.Effect<number> =>
  Effect.map(Random.next, (drawn) => Math.min(backoffMsMax, backoffMsMin * 2 ** round) * (0.5 + drawn / 2))

export interface Call<A> {
  /** What is not there as long as there is no answer. */
  readonly awaited: string
  readonly send: (connection: Connection) => Effect.Effect<A, Exclude<Failure, Unreachable>>
  /** What it does: nothing; a change that may be asked for twice; or one that is to be asked for once, so that what was sent is waited for. */
  readonly effect: "none" | "repeatable" | "once"
}

type Attempt<A> =
  | { readonly _tag: "Answered"; readonly answer: A }
  | { readonly _tag: "Failed"; readonly failure: Failure }

/** Sends a request to one server. What is to be asked for once waits for its answer until the deadline, whatever `attemptMs` is. */
const attempt = <A>(
  connect: Connect,
  call: Call<A>,
  url: string,
  times: { readonly attemptMs: number; readonly leftMs: () => number }
): Effect.Effect<Attempt<A>> => {
  const attemptMs = () => Math.max(1, Math.min(times.attemptMs, times.leftMs()))
  return opened(connect, url, attemptMs()).pipe(
    Effect.flatMap((connection): Effect.Effect<A, Failure> => {
      const leftMs = times.leftMs()
      if (leftMs <= 0) return Effect.fail(new Unreachable({ reason: "no time left once connected" }))
      const ms = call.effect === "once" ? leftMs : attemptMs()
      return within(call.send(connection), ms, (reason) => new Lost({ reason }), call.awaited)
    }),
    Effect.match({
      onFailure: (failure): Attempt<A> => ({ _tag: "Failed", failure }),
      onSuccess: (answer): Attempt<A> => ({ _tag: "Answered", answer })
    })
  )
}

/** A change that is refused at once was not made: whether it is to be asked for again is for the caller to judge. */
export type CallError = Unanswered | ChangeRefused | OutcomeUnknown

const isUnknown = (failure: Failure): boolean => failure._tag === "Lost" || failure._tag === "OutcomeUnknown"

/** Sends a request in rounds: to every server of its route once, then a pause. */
export const make = (connect: Connect, limits: Limits) =>
  Effect.fnUntraced(function*<A>(call: Call<A>, route: Route): Effect.fn.Return<A, CallError> {
    const { attemptMs, deadlineMs } = limits
    const clock = yield* Clock.Clock
    const until = nowMs(clock) + deadlineMs
    const leftMs = () => until - nowMs(clock)
    const failures = new Failures()
    /** An attempt may have made the change, or make it yet: whatever later ones are told says nothing of that. */
    let mayBeDone = false
    const unanswered = () => mayBeDone ? new OutcomeUnknown() : failures.toError(deadlineMs, route.isAnyServer)
    for (let round = 0;; round++) {
      const tried = new Set<string>()
      for (let url = route.next(tried); url !== undefined; url = route.next(tried)) {
        if (leftMs() <= (failures.isEmpty ? 0 : lastAttemptMs)) {
          return yield* unanswered()
        }
        tried.add(url)
        const attempted: Attempt<A> = yield* attempt(connect, call, url, { attemptMs, leftMs })
        if (attempted._tag === "Answered") {
          route.onAnswer(url)
          return attempted.answer
        }
        const { failure } = attempted
        mayBeDone ||= call.effect !== "none" && isUnknown(failure)
        if (failure._tag === "ChangeRefused" && !mayBeDone) return yield* failure
        if (mayBeDone && call.effect === "once") return yield* new OutcomeUnknown()
        route.onFailure(url, failure)
        failures.add(url, failure)
        // It leads, and is busy with this very change, it may be.
        if (failure._tag === "ChangeRefused") break
        if (failure._tag === "Overloaded" && !route.isAnyServer) break
      }
      const ms = yield* pauseMs(round, limits)
      if (failures.areUnauthorized || ms + lastAttemptMs >= leftMs()) {
        return yield* unanswered()
      }
      yield* Effect.sleep(ms)
    }
  })
