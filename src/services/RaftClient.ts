/**
 * A cluster, as a program outside of it holds it: finds the leader, follows it when it changes, and tries again whatever was certainly
 * not applied.
 *
 * ```ts
 * const client = yield* RaftClient
 * const result = yield* client.propose(command)      // Uint8Array, once committed and applied by the leader
 * const answer = yield* client.read(query, { consistency: "follower" })
 * ```
 *
 * Writes and most reads go to the leader. Reads that any server answers go to the servers of the list in turn, so that their load spreads.
 *
 * The rule (raft-rules R4): a write whose fate is unknown is never sent again, it fails with `OutcomeUnknown`. Everything else is tried
 * again, on every server, until the deadline: then it fails with `Unavailable`, which says that nothing was applied and why.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import type { LogIndex } from "../domain/Entry.ts"
import {
  type Behind,
  type Consistency,
  OutcomeUnknown,
  type Overloaded,
  type ReadUnconfirmed,
  type SnapshotFailed,
  type StaleAnswer,
  type Stopped,
  type TooLarge
} from "./RaftNode.ts"
import type { ServerStatus } from "./ServerStatus.ts"
import type { SnapshotReport } from "./SnapshotReport.ts"

/** No server answered the request before the deadline, and none may have applied it. `attempts` has the last failure of each server. */
export class Unavailable extends Schema.TaggedError<Unavailable>()("Unavailable", {
  deadlineMs: Schema.Int,
  attempts: Schema.Array(Schema.Struct({ url: Schema.String, reason: Schema.String })),
  outcome: Schema.tag("not-applied")
}) {
  override get message(): string {
    const reasons = this.attempts.map(({ reason, url }) => `${url}: ${reason}`)
    return `not applied: no server could answer within ${this.deadlineMs} ms; ${reasons.join("; ")}`
  }
}

/** A server's answer that it does not lead, with the leader's name and base URL where it knows them. */
export class Redirected extends Schema.TaggedError<Redirected>()("NotLeader", {
  leader: Schema.optionalKey(Schema.String),
  url: Schema.optionalKey(Schema.String),
  outcome: Schema.tag("not-applied")
}) {}

/** No connection to the server: whatever was to be sent was not. */
export class Unreachable extends Schema.TaggedError<Unreachable>()("Unreachable", { reason: Schema.String }) {}

/** The connection broke after the request was sent and before it was answered. */
export class Lost extends Schema.TaggedError<Lost>()("Lost", { reason: Schema.String }) {}

export type ProposeError = TooLarge | OutcomeUnknown | Unavailable
export type ReadError = Unavailable

/** What one server of the list says about itself, or why it says nothing. */
export type EndpointStatus =
  | { readonly _tag: "Up"; readonly url: string; readonly status: ServerStatus }
  | { readonly _tag: "Down"; readonly url: string; readonly reason: string }

/** The snapshot that one server of the list took, or why it took none; `Failed` may also mean that it takes longer than the deadline. */
export type EndpointSnapshot =
  | { readonly _tag: "Taken"; readonly url: string; readonly snapshot: SnapshotReport }
  | { readonly _tag: "Failed"; readonly url: string; readonly reason: string }
  | { readonly _tag: "Down"; readonly url: string; readonly reason: string }

export class RaftClient extends Context.Service<RaftClient, {
  /** Sends a command to the leader; resolves with its result once it is committed and applied there. */
  readonly propose: (command: Uint8Array) => Effect.Effect<Uint8Array, ProposeError>
  /**
   * Answers a query linearizably: from the leader, or with `consistency: "follower"` from any server of the list, each in its turn. Tried
   * again as often as needed, since it changes nothing.
   */
  readonly read: (
    query: Uint8Array,
    options?: { readonly consistency?: Consistency }
  ) => Effect.Effect<Uint8Array, ReadError>
  /**
   * Answers a query from any server of the list, each in its turn, and from what that server has applied, which may be old; with `minIndex`
   * from one that has applied that much. Two such reads may go back in time, unless the second asks for the first one's `appliedIndex`.
   */
  readonly readStale: (
    query: Uint8Array,
    options?: { readonly minIndex?: LogIndex }
  ) => Effect.Effect<StaleAnswer, ReadError>
  /** Asks every server of the list, at the same time, in the order of the list. */
  readonly status: Effect.Effect<ReadonlyArray<EndpointStatus>>
  /** Has every server of the list take a snapshot of its own, at the same time, and waits for each until the deadline. */
  readonly takeSnapshots: Effect.Effect<ReadonlyArray<EndpointSnapshot>>
}>()("titan/RaftClient") {}

/** An open connection to one server. */
export interface Connection {
  readonly propose: (
    command: Uint8Array
  ) => Effect.Effect<Uint8Array, Redirected | Overloaded | TooLarge | OutcomeUnknown | Stopped | Lost>
  readonly read: (
    query: Uint8Array,
    consistency?: Consistency
  ) => Effect.Effect<Uint8Array, Redirected | Overloaded | ReadUnconfirmed | Stopped | Lost>
  readonly readStale: (
    query: Uint8Array,
    minIndex?: LogIndex
  ) => Effect.Effect<StaleAnswer, Overloaded | Behind | Stopped | Lost>
  readonly status: Effect.Effect<ServerStatus, Lost>
  readonly takeSnapshot: Effect.Effect<SnapshotReport, SnapshotFailed | Stopped | Lost>
}

export interface Options {
  /** Base URLs of servers, such as `http://127.0.0.1:7101`: at least one; others are found through their hints. */
  readonly endpoints: ReadonlyArray<string>
  /** How long one request may take altogether, in milliseconds. Default 5000. */
  readonly deadlineMs?: number | undefined
  /** How long to wait for a connection, and for the answer to a read or a status, before trying another server. Default 1000. */
  readonly attemptMs?: number | undefined
  /** The pause after all known servers were tried: the first, and the longest, before jitter. Defaults 25 and 500. */
  readonly backoffMsMin?: number | undefined
  readonly backoffMsMax?: number | undefined
}

type Failure =
  | Effect.Error<ReturnType<Connection["propose"]>>
  | Effect.Error<ReturnType<Connection["read"]>>
  | Effect.Error<ReturnType<Connection["readStale"]>>
  | SnapshotFailed
  | Unreachable

/** One request: how to send it, whether sending it twice is harmless, and what is not there as long as it has no answer. */
interface Request<A> {
  readonly awaited: string
  readonly send: (connection: Connection) => Effect.Effect<A, Exclude<Failure, Unreachable>>
  readonly repeatable: boolean
}

/** Which servers a request is put to, one after the other, each once in a round. */
interface Route {
  readonly next: (tried: ReadonlySet<string>) => string | undefined
  readonly onAnswer: (url: string) => void
  readonly onFailure: (url: string, failure: Failure) => void
  /** Whether the others can answer as well: then one that is overloaded does not end the round. */
  readonly isAnyServer: boolean
}

type Attempt<A> =
  | { readonly _tag: "Answered"; readonly answer: A }
  | { readonly _tag: "Failed"; readonly failure: Failure }

const reasonOf = (failure: Failure): string => {
  switch (failure._tag) {
    case "NotLeader":
      return failure.leader === undefined
        ? "does not lead and knows no leader"
        : `does not lead; it says that ${failure.leader} does`
    case "Unreachable":
    case "Lost":
      return failure.reason
    default:
      return failure.message
  }
}

type Connect = (url: string) => Effect.Effect<Connection, Unreachable>

interface Limits {
  readonly deadlineMs: number
  readonly attemptMs: number
  readonly backoffMsMin: number
  readonly backoffMsMax: number
}

const within = <A, E, E2>(effect: Effect.Effect<A, E>, ms: number, late: (reason: string) => E2, what: string) =>
  Effect.timeoutOrElse(effect, {
    duration: Duration.millis(ms),
    orElse: () => Effect.fail(late(`${what} within ${Math.round(ms)} ms`))
  })

const opened = (connect: Connect, url: string, ms: number) =>
  within(connect(url), ms, (reason) => new Unreachable({ reason }), "no connection")

/** Sends a request to one server. A write that was sent waits for its answer until the deadline, whatever `attemptMs` is. */
const attempt = <A>(
  connect: Connect,
  request: Request<A>,
  url: string,
  times: { readonly attemptMs: number; readonly leftMs: () => number }
): Effect.Effect<Attempt<A>> => {
  const attemptMs = () => Math.max(1, Math.min(times.attemptMs, times.leftMs()))
  return opened(connect, url, attemptMs()).pipe(
    Effect.flatMap((connection): Effect.Effect<A, Failure> => {
      const leftMs = times.leftMs()
      if (leftMs <= 0) return Effect.fail(new Unreachable({ reason: "no time left once connected" }))
      const ms = request.repeatable ? attemptMs() : leftMs
      return within(request.send(connection), ms, (reason) => new Lost({ reason }), request.awaited)
    }),
    Effect.match({
      onFailure: (failure): Attempt<A> => ({ _tag: "Failed", failure }),
      onSuccess: (answer): Attempt<A> => ({ _tag: "Answered", answer })
    })
  )
}

const statusOf = (connect: Connect, url: string, attemptMs: number): Effect.Effect<EndpointStatus> =>
  opened(connect, url, attemptMs).pipe(
    Effect.flatMap((connection) => within(connection.status, attemptMs, (reason) => new Lost({ reason }), "no answer")),
    Effect.match({
      onFailure: ({ reason }): EndpointStatus => ({ _tag: "Down", url, reason }),
      onSuccess: (status): EndpointStatus => ({ _tag: "Up", url, status })
    })
  )

/** A large state takes its time to write: only connecting to the server must be quick. */
const snapshotOf = (connect: Connect, url: string, limits: Limits): Effect.Effect<EndpointSnapshot> =>
  opened(connect, url, limits.attemptMs).pipe(
    Effect.flatMap(({ takeSnapshot }) =>
      within(takeSnapshot, limits.deadlineMs, (reason) => new Lost({ reason }), "no answer")
    ),
    Effect.match({
      onFailure: (error): EndpointSnapshot => {
        if (error._tag === "Unreachable") return { _tag: "Down", url, reason: error.reason }
        return { _tag: "Failed", url, reason: reasonOf(error) }
      },
      onSuccess: (snapshot): EndpointSnapshot => ({ _tag: "Taken", url, snapshot })
    })
  )

/** The way to whoever leads: one for all requests, since what one learns saves the next a detour. */
const routeToLeader = (endpoints: ReadonlyArray<string>): Route => {
  /** Where the leader was last seen: a hint, wrong at worst. */
  let leaderUrl: string | undefined
  return {
    isAnyServer: false,
    // The hint first, however it came; then the list. Each server is asked once in a round, so stale hints cannot go in circles.
    next: (tried) =>
      leaderUrl !== undefined && !tried.has(leaderUrl) ? leaderUrl : endpoints.find((url) => !tried.has(url)),
    onAnswer: (url) => {
      leaderUrl = url
    },
    onFailure: (url, failure) => {
      if (failure._tag === "NotLeader" && failure.url !== undefined) leaderUrl = failure.url
      else if (failure._tag !== "Overloaded" && leaderUrl === url) leaderUrl = undefined
    }
  }
}

/** Ways to any server. Each begins one further down the list. */
const makeRoutesInTurn = (endpoints: ReadonlyArray<string>): () => Route => {
  let turns = 0
  return () => {
    const first = turns++ % endpoints.length
    const inTurn = [...endpoints.slice(first), ...endpoints.slice(0, first)]
    return {
      isAnyServer: true,
      next: (tried) => inTurn.find((url) => !tried.has(url)),
      onAnswer: () => undefined,
      onFailure: () => undefined
    }
  }
}

/** With less time than this left nothing is tried again: a write cut off by the deadline is unknown, and until then it is not applied. */
const lastAttemptMs = 50

const makeRun = (connect: Connect, limits: Limits) => {
  const { attemptMs, backoffMsMax, backoffMsMin, deadlineMs } = limits

  const unavailable = (reasons: ReadonlyMap<string, string>): Unavailable =>
    new Unavailable({ deadlineMs, attempts: Array.from(reasons, ([url, reason]) => ({ url, reason })) })

  /** Sends a request in rounds: to every server of its route once, then a pause. */
  return Effect.fnUntraced(function*<A>(request: Request<A>, route: Route): Effect.fn.Return<A, ProposeError> {
    const clock = yield* Clock.Clock
    const nowMs = (): number => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
    const until = nowMs() + deadlineMs
    const reasons = new Map<string, string>()
    for (let round = 0;; round++) {
      const tried = new Set<string>()
      for (let url = route.next(tried); url !== undefined; url = route.next(tried)) {
        const leftMs = until - nowMs()
        if (leftMs <= (reasons.size === 0 ? 0 : lastAttemptMs)) return yield* unavailable(reasons)
        tried.add(url)
        const attempted: Attempt<A> = yield* attempt(connect, request, url, {
          attemptMs,
          leftMs: () => until - nowMs()
        })
        if (attempted._tag === "Answered") {
          route.onAnswer(url)
          return attempted.answer
        }
        const { failure } = attempted
        if (failure._tag === "TooLarge" || failure._tag === "OutcomeUnknown") return yield* failure
        route.onFailure(url, failure)
        if (failure._tag === "Lost" && !request.repeatable) return yield* new OutcomeUnknown()
        reasons.set(url, reasonOf(failure))
        if (failure._tag === "Overloaded" && !route.isAnyServer) break
      }
      const leftMs = until - nowMs()
      const pauseMs = Math.min(backoffMsMax, backoffMsMin * 2 ** round) * (0.5 + (yield* Random.next) / 2)
      if (pauseMs + lastAttemptMs >= leftMs) return yield* unavailable(reasons)
      yield* Effect.sleep(pauseMs)
    }
  })
}

/** The part of a client that knows Raft, over any way to connect. `connect` gives up by itself or is interrupted. */
export const make = (options: Options, connect: Connect): RaftClient["Service"] => {
  const { attemptMs = 1000, backoffMsMax = 500, backoffMsMin = 25, deadlineMs = 5000, endpoints } = options
  const limits: Limits = { attemptMs, backoffMsMax, backoffMsMin, deadlineMs }
  const run = makeRun(connect, limits)
  const toLeader = routeToLeader(endpoints)
  const inTurn = makeRoutesInTurn(endpoints)
  const ask = <A>(request: Request<A>, route: Route): Effect.Effect<A, ReadError> =>
    run(request, route).pipe(
      // Neither is an answer to a read: connections do not declare them, and `run` makes none for what is repeatable.
      Effect.catchTag(["TooLarge", "OutcomeUnknown"], (error) => Effect.die(error))
    )
  return RaftClient.of({
    propose: (command) =>
      run({ awaited: "no answer", repeatable: false, send: (connection) => connection.propose(command) }, toLeader),
    read: (query, { consistency } = {}) => {
      const send = (connection: Connection) => connection.read(query, consistency)
      const request = { awaited: "no answer", repeatable: true, send }
      return consistency === "follower" ? Effect.suspend(() => ask(request, inTurn())) : ask(request, toLeader)
    },
    readStale: (query, { minIndex } = {}) =>
      Effect.suspend(() => {
        // A server that is behind waits, and may wait longer than this client does.
        const awaited = minIndex === undefined ? "no answer" : `no sign that index ${minIndex} is applied there`
        const send = (connection: Connection) => connection.readStale(query, minIndex)
        return ask({ awaited, repeatable: true, send }, inTurn())
      }),
    status: Effect.forEach(endpoints, (url) => statusOf(connect, url, attemptMs), { concurrency: "unbounded" }),
    takeSnapshots: Effect.forEach(endpoints, (url) => snapshotOf(connect, url, limits), { concurrency: "unbounded" })
  })
}
