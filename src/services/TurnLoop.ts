/**
 * The turn loop: take everything that waits, read the clock once, fold `step` over it, hand out the commands. And the timer that says when
 * the core's next deadline, or a caller's, has come.
 *
 * **Group commit.** While a leader's disk writes, and a moment longer if the batch before is not committed by then, proposals wait, and then become one
 * batch: a batch costs each server a write, messages and wake-ups, whatever is in it. Once `heldBytesMax` wait, they wait no longer: a
 * disk that stalls is for the core to bound (rule L10). Nor do they wait for a commit beyond `heldMsMax`: where servers are far apart, batches
 * follow one another on the way.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type { Command } from "../domain/Command.ts"
import { type Event, type Proposal, type ReadBy, type RequestId, ticked } from "../domain/Event.ts"
import { isLeader, type NodeState } from "../domain/NodeState.ts"
import * as Step from "../domain/Step.ts"
import type { Requests } from "./Requests.ts"
import * as Timer from "./Timer.ts"

type Interpret = (command: Command) => Effect.Effect<void>

export interface TurnLoop {
  /** Puts an event in line. After `close` it does nothing. */
  readonly offer: (event: Event) => void
  readonly state: () => NodeState
  /** The disk has nothing more to do: proposals that waited for that are taken. */
  readonly onDiskIdle: () => void
  /** Runs the loop and its timer; commands are interpreted in order, before the next turn. */
  readonly run: (interpret: Interpret) => Effect.Effect<never>
  readonly close: () => void
}

/** About the most bytes of proposals that wait, and how long after the last batch, in milliseconds, they wait for its commit. */
const heldBytesMax = 1 << 20
const heldMsMax = 5

/** Proposals that have yet to become a batch. */
class Held {
  #proposals: Array<Proposal> = []
  #bytes = 0

  get isEmpty(): boolean {
    return this.#proposals.length === 0
  }

  get isFull(): boolean {
    return this.#bytes >= heldBytesMax
  }

  add(proposals: ReadonlyArray<Proposal>): void {
    for (const proposal of proposals) {
      this.#proposals.push(proposal)
      this.#bytes += proposal.bytes.length
    }
  }

  take(): ReadonlyArray<Proposal> {
    const taken = this.#proposals
    this.#proposals = []
    this.#bytes = 0
    return taken
  }
}

/** What waits, as the core should see it: messages in the order they came, then one batch of each kind of read. Proposals go to `held`. */
const gather = (events: ReadonlyArray<Event>, held: Held) => {
  const first: Array<Event> = []
  const reads = new Map<ReadBy, Array<RequestId>>()
  let isDue = false
  for (const event of events) {
    if (event._tag === "Propose") held.add(event.proposals)
    else if (event._tag === "Read") {
      const { by, requestIds } = event
      const same = reads.get(by)
      if (same === undefined) reads.set(by, [...requestIds])
      else same.push(...requestIds)
    } else if (event._tag === "Ticked") isDue = true
    else first.push(event)
  }
  for (const [by, requestIds] of reads) first.push({ _tag: "Read", requestIds, by })
  return { first, isDue }
}

export const make = Effect.fnUntraced(function*(options: {
  readonly initial: NodeState
  readonly step: typeof Step.step
  /** Monotonic milliseconds. */
  readonly now: () => number
  readonly requests: Requests
  /** Whether a write is under way. */
  readonly isDiskBusy: () => boolean
}) {
  const { isDiskBusy, now, requests, step } = options
  const held = new Held()
  let proposedMs = -Infinity
  const inbox = yield* Queue.unbounded<Event>()
  let state = options.initial
  let isClosed = false
  const offer = (event: Event): void => void Queue.offerUnsafe(inbox, event)
  const timer = Timer.make(now, () => offer(ticked))
  const arm = () => timer.arm(Math.min(Step.nextDeadlineMs(state), requests.nextDeadlineMs(), heldUntilMs()))

  /** What only a leader takes is refused by others at once. */
  const mayPropose = (nowMs: number): boolean => {
    if (held.isFull || !isLeader(state)) return true
    return !isDiskBusy() && (state.commitIndex === state.log.lastIndex || nowMs >= proposedMs + heldMsMax)
  }
  /** When proposals have waited long enough; what the disk does is told. */
  const heldUntilMs = () => held.isEmpty || isDiskBusy() ? Infinity : proposedMs + heldMsMax

  const take = Effect.fnUntraced(function*(event: Event, nowMs: number, interpret: Interpret) {
    const stepped = step(state, event, nowMs)
    state = stepped.state
    for (const command of stepped.commands) {
      // Callers have been told that nothing more is taken: it must be so, in the middle of a turn, too.
      if (isClosed) return yield* Effect.never
      yield* interpret(command)
    }
  })

  const turn = Effect.fnUntraced(function*(interpret: Interpret) {
    const { first, isDue } = gather(yield* Queue.takeAll(inbox), held)
    const nowMs = now()
    for (const event of first) yield* take(event, nowMs, interpret)
    if (!held.isEmpty && mayPropose(nowMs)) {
      proposedMs = nowMs
      yield* take({ _tag: "Propose", proposals: held.take() }, nowMs, interpret)
    }
    // Time comes last: after a pause, what arrived meanwhile may show that nothing is overdue.
    if (isDue) yield* take(ticked, nowMs, interpret)
    requests.expire(nowMs)
    arm()
  })

  const loop: TurnLoop = {
    offer,
    state: () => state,
    onDiskIdle: () => {
      if (!held.isEmpty) offer(ticked)
    },
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
