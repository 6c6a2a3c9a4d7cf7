/**
 * A client with a session (thesis §6.3), against the nodes of a simulated cluster: what it does not know to be answered it sends again under the
 * same number, to another node, until it is answered or its session has expired. Several of its commands may be under way.
 */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import type { Sequenced, SessionId } from "../domain/Entry.ts"
import type { NodeId } from "../domain/NodeId.ts"
import type { Told } from "./Clients.ts"
import type { Draws } from "./Draws.ts"
import type { TestCluster } from "./TestCluster.ts"

/** What all clients with sessions of a run have done. */
export interface Counts {
  /** Sessions that were opened, as far as their clients know. */
  opened: number
  /** Commands that were sent again. */
  retried: number
  /** Commands that ended with their session. */
  expired: number
}

interface Parts {
  readonly cluster: TestCluster
  readonly draws: Draws
  /** Which node to ask next; `undefined` where none is up. */
  readonly choose: Effect.Effect<NodeId | undefined>
  /** How long it waits for one node, in milliseconds. */
  readonly attemptMs: number
  /** The longest pause before it asks another one. */
  readonly pauseMsMax: number
  readonly counts: Counts
}

/** How one attempt ended: with an answer, or told what became of it. */
type Attempt<A> = { readonly _tag: "Answered"; readonly value: A } | ({ readonly _tag: string } & Told)

const noAnswer: Attempt<never> = { _tag: "Silence", outcome: "unknown", message: "no answer in time" }
const nobody: Attempt<never> = { _tag: "Nobody", outcome: "not-applied", message: "no server is up" }

/** How many of what it sends comes twice, and how late the second time, in milliseconds. */
const stragglerRatio = 0.1
const stragglerMsMax = 1000

const doubled = (times: number): number => 2 ** Math.min(times, 10)

export class SessionClient {
  readonly #parts: Parts
  readonly #opening = Semaphore.makeUnsafe(1)
  #session: SessionId | undefined
  #next = 1
  /** The numbers of its session that it waits for an answer to. */
  #open = new Set<number>()

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** Asks a node, each time for longer: on a slow network the first answers come too late. */
  #attempt<A>(
    attempts: number,
    ask: (node: ReturnType<TestCluster["node"]>) => Effect.Effect<A, Told & { readonly _tag: string }>
  ): Effect.Effect<Attempt<A>> {
    const { attemptMs, choose, cluster } = this.#parts
    return Effect.flatMap(choose, (id): Effect.Effect<Attempt<A>> => {
      if (id === undefined || !cluster.running().includes(id)) return Effect.succeed(nobody)
      return ask(cluster.node(id)).pipe(
        Effect.match({
          onFailure: ({ _tag, message, outcome }): Attempt<A> => ({ _tag, message, outcome }),
          onSuccess: (value): Attempt<A> => ({ _tag: "Answered", value })
        }),
        Effect.timeoutOrElse({ duration: attemptMs * doubled(attempts), orElse: () => Effect.succeed(noAnswer) })
      )
    })
  }

  /** Longer after each attempt in vain, up to 400 ms. */
  #pause(attempts: number): Effect.Effect<void> {
    const { draws, pauseMsMax } = this.#parts
    return Effect.sleep(draws.between(1, Math.min(400, pauseMsMax * doubled(attempts))))
  }

  /** Its session, which is opened where it has none. */
  readonly #begin: Effect.Effect<SessionId> = Effect.suspend(() =>
    this.#opening.withPermits(1)(Effect.gen({ self: this }, function*() {
      for (let attempts = 0; this.#session === undefined; attempts++) {
        const attempt = yield* this.#attempt(attempts, (node) => node.openSession)
        if (attempt._tag !== "Answered" || !("value" in attempt)) {
          yield* this.#pause(attempts)
          continue
        }
        const { cluster, counts } = this.#parts
        cluster.guard(() => cluster.figure3.sessions.opened(attempt.value))
        counts.opened++
        this.#session = attempt.value
        this.#next = 1
        this.#open = new Set()
      }
      return this.#session
    }))
  )

  /** Sends `command` until it is answered. Fails only where its session has expired: then it may or may not have been applied. */
  readonly propose = (command: Uint8Array): Effect.Effect<Uint8Array, Told> =>
    Effect.flatMap(this.#begin, (session) => {
      const sequence = this.#next++
      const open = this.#open
      open.add(sequence)
      // Who gives up never sends it again, and says so with the next one.
      return Effect.ensuring(
        this.#insist(command, { session, sequence }, open),
        Effect.sync(() => open.delete(sequence))
      )
    })

  /** A copy of the command arrives late, when its client may have had the answer for long, and gone on. Nobody waits for what comes of it. */
  #straggle(command: Uint8Array, sequenced: Sequenced): Effect.Effect<void> {
    const { cluster, draws } = this.#parts
    const { sessions } = cluster.figure3
    return Effect.gen({ self: this }, function*() {
      yield* Effect.sleep(draws.between(1, stragglerMsMax))
      const attempt = yield* this.#attempt(0, (node) => node.proposeInSession(command, sequenced))
      if ("value" in attempt) cluster.guard(() => sessions.answered(sequenced, attempt.value))
      else if (attempt._tag === "SessionExpired") cluster.guard(() => sessions.expired(sequenced))
    })
  }

  #insist(
    command: Uint8Array,
    numbered: { readonly session: SessionId; readonly sequence: number },
    open: ReadonlySet<number>
  ): Effect.Effect<Uint8Array, Told> {
    const { cluster, counts, draws } = this.#parts
    const { sessions } = cluster.figure3
    return Effect.gen({ self: this }, function*() {
      let isOpen = false
      for (let attempts = 0;; attempts++) {
        if (attempts > 0) counts.retried++
        const sequenced = { ...numbered, firstUnanswered: Math.min(...open) }
        if (draws.happens(stragglerRatio)) {
          isOpen = true
          yield* Effect.forkDetach(this.#straggle(command, sequenced))
        }
        const attempt = yield* this.#attempt(
          attempts,
          (node) => node.proposeInSession(command, sequenced)
        )
        if ("value" in attempt) {
          cluster.guard(() => sessions.answered(numbered, attempt.value))
          return attempt.value
        }
        if (attempt._tag === "SessionExpired") {
          cluster.guard(() => sessions.expired(numbered))
          counts.expired++
          if (this.#session === numbered.session) this.#session = undefined
          // Of a first attempt, and of one after others that surely had no effect, it is known that it was not applied.
          return yield* Effect.fail<Told>({ outcome: isOpen ? "unknown" : "not-applied", message: attempt.message })
        }
        isOpen ||= attempt.outcome === "unknown"
        yield* this.#pause(attempts)
      }
    })
  }
}
