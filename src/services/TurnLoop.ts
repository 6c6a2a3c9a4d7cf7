/**
 * The turn loop: take everything that waits, read the clock once, fold `step` over it, hand out the commands. And the timer that says when
 * the core's next deadline, or a caller's, has come.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Queue from "effect/Queue"
import type { Command } from "../domain/Command.ts"
import { type Event, type Proposal, type ReadBy, type RequestId, ticked } from "../domain/Event.ts"
import type { NodeState } from "../domain/NodeState.ts"
import * as Step from "../domain/Step.ts"
import type { Requests } from "./Requests.ts"

export interface TurnLoop {
  /** Puts an event in line. After `close` it does nothing. */
  readonly offer: (event: Event) => void
  readonly state: () => NodeState
  /** Runs the loop and its timer; commands are interpreted in order, before the next turn. */
  readonly run: (interpret: (command: Command) => Effect.Effect<void>) => Effect.Effect<never>
  readonly close: () => void
}

/** What waits, as the core should see it: messages in the order they came, then one batch of each kind of request, then the time. */
const gather = (events: ReadonlyArray<Event>): ReadonlyArray<Event> => {
  if (events.length === 1) return events
  const first: Array<Event> = []
  const proposals: Array<Proposal> = []
  const reads = new Map<ReadBy, Array<RequestId>>()
  let isDue = false
  for (const event of events) {
    if (event._tag === "Propose") proposals.push(...event.proposals)
    else if (event._tag === "Read") {
      const { by, requestIds } = event
      const same = reads.get(by)
      if (same === undefined) reads.set(by, [...requestIds])
      else same.push(...requestIds)
    } else if (event._tag === "Ticked") isDue = true
    else first.push(event)
  }
  if (proposals.length > 0) first.push({ _tag: "Propose", proposals })
  for (const [by, requestIds] of reads) first.push({ _tag: "Read", requestIds, by })
  // Time comes last: after a pause, what arrived meanwhile may show that nothing is overdue.
  if (isDue) first.push(ticked)
  return first
}

/** Later than this, in milliseconds, a timer means that the process was held up. */
const heldUpMs = 20

/** Calls `onDue` whenever the deadline has come. `arm` moves the deadline; a sleep that would end too late is cut short. */
const makeTimer = Effect.fnUntraced(function*(now: () => number, onDue: () => void) {
  const armed = yield* Latch.make(false)
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
})

export const make = Effect.fnUntraced(function*(options: {
  readonly initial: NodeState
  readonly step: typeof Step.step
  /** Monotonic milliseconds. */
  readonly now: () => number
  readonly requests: Requests
}) {
  const { now, requests, step } = options
  const inbox = yield* Queue.unbounded<Event>()
  let state = options.initial
  let isClosed = false
  const offer = (event: Event): void => void Queue.offerUnsafe(inbox, event)
  const timer = yield* makeTimer(now, () => offer(ticked))
  const arm = () => timer.arm(Math.min(Step.nextDeadlineMs(state), requests.nextDeadlineMs()))

  const turn = Effect.fnUntraced(function*(interpret: (command: Command) => Effect.Effect<void>) {
    const events = gather(yield* Queue.takeAll(inbox))
    const nowMs = now()
    for (const event of events) {
      const stepped = step(state, event, nowMs)
      state = stepped.state
      for (const command of stepped.commands) {
        // Callers have been told that nothing more is taken: it must be so, in the middle of a turn, too.
        if (isClosed) return yield* Effect.never
        yield* interpret(command)
      }
    }
    requests.expire(nowMs)
    arm()
  })

  const loop: TurnLoop = {
    offer,
    state: () => state,
    run: (interpret) =>
      Effect.suspend(() => {
        arm()
        const turns = Effect.forever(turn(interpret), { disableYield: true })
        return Effect.raceFirst(turns, timer.run)
      }),
    close: () => {
      isClosed = true
      Queue.shutdownUnsafe(inbox)
    }
  }
  return loop
})
