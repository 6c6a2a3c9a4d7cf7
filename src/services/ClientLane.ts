/**
 * Requests that travel together: whatever waits when the connection to the leader is ready becomes one batch, and each request is answered by
 * itself. What was certainly not applied waits again, for another server or another time; what nobody knows about only if that is
 * harmless (rule R4; `Traffic` says when).
 *
 * ```
 * waiting ── take ──► a batch ── answered ──► its caller
 *    ▲                   │
 *    └── not applied ────┘          at its deadline, from anywhere ──► its caller
 * ```
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { type Connect, lastAttemptMs, type Limits, nowMs, opened, pauseMs, within } from "./ClientCall.ts"
import { Lost } from "./ClientErrors.ts"
import { type Failure, Failures, type Route } from "./ClientRoute.ts"
import type { Answers, Connection } from "./Connection.ts"
import { Overloaded } from "./RaftNode.ts"
import * as Timer from "./Timer.ts"

/** One request, until its caller has an answer. */
export interface Item<E, P> {
  readonly bytes: Uint8Array
  readonly deadlineMs: number
  readonly resume: (exit: Exit.Exit<Uint8Array, E>) => void
  isSettled: boolean
  /** Sent, and not answered yet. */
  isSent: boolean
  /** Refused at least once. */
  wasRefused: boolean
  /** An attempt ended without an answer: it may have been applied. */
  isUnknown: boolean
  /** What its traffic knows of it. */
  place: P
}

/** What becomes of a request after a failure: it waits again, or its caller is told. */
export type Verdict<E> = "again" | Exit.Exit<never, E>

/** What kind of requests a lane carries. */
export interface Traffic<E, P, F extends Failure> {
  /** What must happen before anything else is sent; `undefined`: nothing. */
  readonly first: (connection: Connection) => Effect.Effect<unknown, Failure> | undefined
  /** How many from the front of what waits go as one batch. They may be readied for it; those that are settled meanwhile are passed over. */
  readonly take: (waiting: ReadonlyArray<Item<E, P>>) => ReadonlyArray<Item<E, P>>
  readonly send: (connection: Connection, items: ReadonlyArray<Item<E, P>>) => Effect.Effect<Answers<F>, Lost>
  /** How long a batch waits for its answers before its items may be sent elsewhere; `undefined`: until the last deadline. */
  readonly attemptMs: number | undefined
  readonly onFailure: (item: Item<E, P>, failure: F | Lost) => Verdict<E>
  /** What its caller is told of a request that the server died of: nothing else was harmed. */
  readonly onDefect: (defect: unknown) => Exit.Exit<never, E>
  /** At the deadline. `unanswered`: why no server has answered. */
  readonly onExpired: (item: Item<E, P>, unanswered: () => E) => E
  readonly onSettled: (item: Item<E, P>) => void
}

interface Parts {
  readonly connect: Connect
  readonly limits: Limits
  readonly route: Route
  readonly clock: Clock.Clock
  readonly scope: Scope.Scope
  /** Most requests that may be unanswered. */
  readonly waitingMax: number
  /** A server has answered that leads. */
  readonly onAnswer: (connection: Connection) => Effect.Effect<void>
}

/** A batch that is under way. */
interface Batch<E, P> {
  readonly url: string
  readonly items: ReadonlyArray<Item<E, P>>
  readonly connection: Connection
  /** How often its server had been waited for in vain. */
  readonly silences: number
  readonly waitMs: number
  readonly lateAtMs: number
}

/** Most batches under way. */
const batchesMax = 16

/** A batch that was not answered in time may wait longer the next time: its leader may only be slow. */
const patienceDoublingsMax = 3

export class Lane<E, P, F extends Failure> {
  readonly #parts: Parts
  readonly #traffic: Traffic<E, P, F>
  #waiting: Array<Item<E, P>> = []
  /** Oldest first, and all wait equally long: so also the next to expire first. */
  readonly #unsettled = new Set<Item<E, P>>()
  readonly #changed = Latch.makeUnsafe()
  readonly #woken = Latch.makeUnsafe()
  readonly #failures = new Failures()
  readonly #tried = new Set<string>()
  /** Those under way, each with what ends it. */
  readonly #batches = new Map<Batch<E, P>, () => void>()
  /** In the batches under way. */
  #underWay = 0
  /** In the batch before. */
  #latest = 0
  readonly #timer: Timer.Timer
  #round = 0
  /** How often each server was waited for in vain, since one has answered. */
  readonly #silences = new Map<string, number>()
  /** The leader has no room: nothing is sent before the next round. */
  #isHeld = false
  #isClosed = false

  constructor(parts: Parts, traffic: Traffic<E, P, F>) {
    this.#parts = parts
    this.#traffic = traffic
    this.#timer = Timer.make(() => nowMs(parts.clock), () => this.#due())
  }

  /** Resolves with the answer. Interrupting it ends the wait; what was sent may still be applied. */
  ask(bytes: Uint8Array, place: P): Effect.Effect<Uint8Array, E | Overloaded> {
    return Effect.callback((resume) => {
      if (this.#isClosed) return resume(Effect.interrupt)
      if (this.#unsettled.size >= this.#parts.waitingMax) return resume(Effect.fail(new Overloaded()))
      const deadlineMs = nowMs(this.#parts.clock) + this.#parts.limits.deadlineMs
      const item: Item<E, P> = {
        bytes,
        deadlineMs,
        resume,
        isSettled: false,
        isSent: false,
        wasRefused: false,
        isUnknown: false,
        place
      }
      const isFirst = this.#unsettled.size === 0
      if (isFirst) this.#begin()
      this.#waiting.push(item)
      this.#unsettled.add(item)
      if (isFirst) this.#arm()
      this.#changed.openUnsafe()
      return Effect.sync(() => this.#end(item))
    })
  }

  readonly run: Effect.Effect<never> = Effect.suspend(() =>
    Effect.raceFirst(
      Effect.forever(Effect.catchDefect(Effect.suspend(() => this.#turn()), (defect) => this.#died(defect)), {
        disableYield: true
      }),
      this.#timer.run
    )
  )

  /** Nothing is asked any more, and whoever waits is interrupted. */
  close(): void {
    this.#isClosed = true
    for (const item of this.#unsettled) {
      this.#end(item)
      item.resume(Exit.interrupt())
    }
  }

  /** What carries requests is broken, and not by the network: whoever waits is told so, and whoever comes later may have more luck. */
  #died(defect: unknown): Effect.Effect<void> {
    return Effect.sync(() => {
      for (const item of this.#unsettled) if (!item.isSent) this.#settle(item, this.#traffic.onDefect(defect))
    })
  }

  /** After nothing was asked: what was then says nothing about now, and nobody is to wait for a pause that was due to others. */
  #begin(): void {
    this.#failures.clear()
    this.#tried.clear()
    this.#round = 0
    this.#isHeld = false
    this.#woken.openUnsafe()
  }

  /**
   * Where several ask, the first change does not come alone: what is asked in the same moment belongs into the same batch. Where one does, the next turn
   * begins as soon as it asks, within whatever has told it its last answer.
   */
  #await(): Effect.Effect<void> {
    this.#changed.closeUnsafe()
    return this.#latest <= 1 ? this.#changed.await : Effect.andThen(this.#changed.await, Effect.yieldNow)
  }

  readonly #turn = Effect.fnUntraced({ self: this }, function*(this: Lane<E, P, F>) {
    if (this.#isClosed) return yield* Effect.never
    const { connect, limits, route } = this.#parts
    this.#waiting = this.#waiting.filter((item) => !item.isSettled)
    // A batch costs every server work, whatever is in it: the next one goes once as many wait as are under way.
    const isFew = this.#waiting.length < this.#underWay || this.#waiting.length === 0
    if (isFew || this.#batches.size >= batchesMax) return yield* this.#await()
    if (this.#isHeld) return yield* this.#pause()
    const url = route.next(this.#tried)
    if (url === undefined) return yield* this.#pause()
    const connected = yield* Effect.result(opened(connect, url, limits.attemptMs))
    if (Result.isFailure(connected)) return this.#refused(url, connected.failure)
    const connection = connected.success
    const first = this.#traffic.first(connection)
    if (first !== undefined) {
      const done = yield* Effect.result(
        within(first, limits.attemptMs, (reason) => new Lost({ reason }), "no answer")
      )
      if (Result.isFailure(done)) return this.#refused(url, done.failure)
    }
    const items = this.#traffic.take(this.#sendable())
    if (items.length === 0) return yield* this.#await()
    for (const item of items) item.isSent = true
    this.#waiting = this.#waiting.filter((item) => !item.isSent)
    this.#latest = items.length
    yield* this.#post(this.#batch(url, connection, items))
  })

  #sendable(): ReadonlyArray<Item<E, P>> {
    const latestMs = nowMs(this.#parts.clock) + lastAttemptMs
    return this.#waiting.filter((item) => !item.isSettled && !(item.wasRefused && item.deadlineMs <= latestMs))
  }

  readonly #pause = Effect.fnUntraced({ self: this }, function*(this: Lane<E, P, F>) {
    if (this.#failures.areUnauthorized) {
      for (const item of this.#unsettled) if (!item.isSent) this.#expired(item)
    }
    this.#woken.closeUnsafe()
    yield* Effect.timeoutOption(this.#woken.await, yield* pauseMs(this.#round++, this.#parts.limits))
    this.#tried.clear()
    this.#isHeld = false
  })

  /** The server at `url` has not done what was asked. */
  #refused(url: string, failure: Failure): void {
    this.#parts.route.onFailure(url, failure)
    this.#failures.add(url, failure)
    this.#tried.add(url)
    for (const item of this.#waiting) item.wasRefused = true
    if (failure._tag === "Overloaded") this.#isHeld = true
  }

  #batch(url: string, connection: Connection, items: ReadonlyArray<Item<E, P>>): Batch<E, P> {
    const now = nowMs(this.#parts.clock)
    const leftMs = items.reduce((latest, item) => Math.max(latest, item.deadlineMs), 0) - now
    const silences = this.#silences.get(url) ?? 0
    const patience = 2 ** Math.min(silences, patienceDoublingsMax)
    const waitMs = Math.max(1, Math.min(leftMs, (this.#traffic.attemptMs ?? Infinity) * patience))
    return { url, items, connection, silences, waitMs, lateAtMs: now + waitMs }
  }

  readonly #post = Effect.fnUntraced({ self: this }, function*(this: Lane<E, P, F>, batch: Batch<E, P>) {
    this.#batches.set(batch, () => {})
    this.#underWay += batch.items.length
    this.#arm()
    const sent = this.#traffic.send(batch.connection, batch.items).pipe(
      Effect.catchDefect((defect) => Effect.fail(new Lost({ reason: String(defect) }))),
      Effect.result,
      Effect.flatMap((answered) => this.#isOver(batch) ? this.#ended(batch, answered) : Effect.void)
    )
    const fiber = yield* Effect.forkIn(sent, this.#parts.scope, { startImmediately: true })
    if (this.#batches.has(batch)) this.#batches.set(batch, () => fiber.interruptUnsafe())
  })

  /** It is under way no more. Whether it was until now. */
  #isOver(batch: Batch<E, P>): boolean {
    if (!this.#batches.delete(batch)) return false
    this.#underWay -= batch.items.length
    return true
  }

  #ended({ connection, items, url }: Batch<E, P>, answered: Result.Result<Answers<F>, Lost>): Effect.Effect<void> {
    const isAnswered = Result.isSuccess(answered) && this.#answered(url, items, answered.success)
    if (Result.isFailure(answered)) this.#lost(url, items, answered.failure)
    this.#changed.openUnsafe()
    return isAnswered ? this.#parts.onAnswer(connection) : Effect.void
  }

  #late({ items, silences, url, waitMs }: Batch<E, P>): void {
    this.#silences.set(url, silences + 1)
    this.#lost(url, items, new Lost({ reason: `no answer within ${Math.round(waitMs)} ms` }))
    this.#changed.openUnsafe()
  }

  #lost(url: string, items: ReadonlyArray<Item<E, P>>, failure: Lost): void {
    this.#refused(url, failure)
    this.#judge(items.map((item) => [item, failure]))
  }

  /** Whether any of them has what it asked for. */
  #answered(url: string, items: ReadonlyArray<Item<E, P>>, answers: Answers<F>): boolean {
    const failed: Array<readonly [Item<E, P>, F]> = []
    const done: Array<readonly [Item<E, P>, Exit.Exit<Uint8Array, E>]> = []
    for (const [i, item] of items.entries()) {
      const answer = answers[i]
      if (answer === undefined) continue
      if (Exit.isSuccess(answer)) {
        done.push([item, Exit.succeed(answer.value)])
        continue
      }
      const failure = answer.cause.reasons.find(Cause.isFailReason)?.error
      // A defect is of this request alone, and no answer that another server would give.
      if (failure === undefined) done.push([item, this.#traffic.onDefect(Cause.squash(answer.cause))])
      else failed.push([item, failure])
    }
    const isAnswered = failed.length < items.length
    // First: a caller who is told may ask for more, and the next batch leaves, before this has ended.
    if (isAnswered) this.#succeeded(url)
    for (const [item, exit] of done) this.#settle(item, exit)
    for (const failure of new Map(failed.map(([, one]) => [one._tag, one])).values()) {
      if (isServers.has(failure._tag)) this.#refused(url, failure)
    }
    this.#judge(failed)
    return isAnswered
  }

  #succeeded(url: string): void {
    this.#parts.route.onAnswer(url)
    this.#tried.clear()
    this.#failures.clear()
    this.#round = 0
    this.#silences.clear()
  }

  #judge(failed: ReadonlyArray<readonly [Item<E, P>, F | Lost]>): void {
    const again: Array<Item<E, P>> = []
    for (const [item, failure] of failed) {
      if (item.isSettled) continue
      item.isSent = false
      item.wasRefused = true
      const verdict = this.#traffic.onFailure(item, failure)
      if (verdict === "again") again.push(item)
      else this.#settle(item, verdict)
    }
    if (again.length > 0) this.#waiting = [...again, ...this.#waiting]
  }

  #settle(item: Item<E, P>, exit: Exit.Exit<Uint8Array, E>): void {
    if (item.isSettled) return
    this.#end(item)
    item.resume(exit)
  }

  #end(item: Item<E, P>): void {
    if (item.isSettled) return
    item.isSettled = true
    this.#unsettled.delete(item)
    this.#traffic.onSettled(item)
    this.#changed.openUnsafe()
  }

  #expired(item: Item<E, P>): void {
    const { limits, route } = this.#parts
    const unanswered = () => this.#failures.toError(limits.deadlineMs, route.isAnyServer) as E
    this.#settle(item, Exit.fail(this.#traffic.onExpired(item, unanswered)))
  }

  /** Ends the wait of whoever has reached its deadline, and of batches that were not answered in time. */
  #due(): void {
    const now = nowMs(this.#parts.clock)
    for (const item of this.#unsettled) {
      if (item.deadlineMs > now) break
      this.#expired(item)
    }
    for (const [batch, end] of this.#batches) {
      if (batch.lateAtMs > now || !this.#isOver(batch)) continue
      end()
      this.#late(batch)
    }
    this.#arm()
  }

  #arm(): void {
    let next = Infinity
    for (const { lateAtMs } of this.#batches.keys()) next = Math.min(next, lateAtMs)
    for (const { deadlineMs } of this.#unsettled) {
      next = Math.min(next, deadlineMs)
      break
    }
    this.#timer.arm(next)
  }
}

/** What says something about the server rather than about one request. */
const isServers: ReadonlySet<Failure["_tag"]> = new Set([
  "NotLeader",
  "Overloaded",
  "Stopped",
  "ReadUnconfirmed",
  "OutcomeUnknown"
])
