/**
 * A cluster, as a program holds it: finds the leader, follows it when it changes, and tries again whatever may be tried again, until the
 * deadline.
 *
 * ```ts
 * const client = yield* RaftClient
 * const result = yield* client.propose(command)      // Uint8Array, once committed and applied by the leader: once
 * const answer = yield* client.read(query, { consistency: "follower" })
 * ```
 *
 * Writes and most reads go to the leader; those that are asked at the same time travel together (`ClientLane.ts`). Reads that any server answers
 * go to the servers in turn, so that their load spreads. Servers that join the cluster are learned of.
 *
 * Writes travel in a session, which the client opens and renews by itself: sent again under its number, a command is applied once and gets the
 * first answer (thesis §6.3). With `sessions: false` there is none, and a write whose fate is unknown is never sent again: it fails with
 * `OutcomeUnknown` (rule R4).
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import type { Change, Configuration } from "../domain/Configuration.ts"
import type { LogIndex } from "../domain/Entry.ts"
import type { NodeId } from "../domain/NodeId.ts"
import * as ClientCall from "./ClientCall.ts"
import { type ChangeError, Lost, type ProposeError, type ReadError } from "./ClientErrors.ts"
import { Lane, type Traffic } from "./ClientLane.ts"
import { Endpoints, inTurn, reasonOf, toLeader } from "./ClientRoute.ts"
import { bare, inSession, takeRun } from "./ClientSession.ts"
import { type Connection, ofNode, type ReadFailure } from "./Connection.ts"
import { type Consistency, RaftNode, type StaleAnswer } from "./RaftNode.ts"
import type { ServerStatus } from "./ServerStatus.ts"
import type { SnapshotReport } from "./SnapshotReport.ts"

export type { Connect } from "./ClientCall.ts"
export * from "./ClientErrors.ts"
export type { Answers, Connection } from "./Connection.ts"

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
  /**
   * Sends a command to the leader; resolves with its result once it is committed and applied there. Interrupting it ends the wait, not the
   * command.
   */
  readonly propose: (command: Uint8Array) => Effect.Effect<Uint8Array, ProposeError>
  /**
   * Answers a query linearizably: from the leader, or with `consistency: "follower"` from any server, each in its turn. Tried again as often as
   * needed, since it changes nothing.
   */
  readonly read: (
    query: Uint8Array,
    options?: { readonly consistency?: Consistency }
  ) => Effect.Effect<Uint8Array, ReadError>
  /**
   * Answers a query from any server, each in its turn, and from what that server has applied, which may be old; with `minIndex` from one that has
   * applied that much. Two such reads may go back in time, unless the second asks for the first one's `appliedIndex`.
   */
  readonly readStale: (
    query: Uint8Array,
    options?: { readonly minIndex?: LogIndex }
  ) => Effect.Effect<StaleAnswer, ReadError>
  /** Changes the membership, all of `changes` at once, as `RaftNode.reconfigure` does. To ask twice is harmless. */
  readonly reconfigure: (changes: ReadonlyArray<Change>) => Effect.Effect<Configuration, ChangeError>
  /** What `reconfigure` would lead to now, or why it would be refused. Changes nothing. */
  readonly previewReconfigure: (changes: ReadonlyArray<Change>) => Effect.Effect<Configuration, ChangeError>
  /** Has `to` lead, or whichever voter is best suited. Resolves when the leader has stepped down for it. */
  readonly transferLeadership: (to?: NodeId) => Effect.Effect<void, ChangeError>
  /** Asks every server of the list, at the same time, in the order of the list. */
  readonly status: Effect.Effect<ReadonlyArray<EndpointStatus>>
  /** Has every server of the list take a snapshot of its own, at the same time, and waits for each until the deadline. */
  readonly takeSnapshots: Effect.Effect<ReadonlyArray<EndpointSnapshot>>
}>()("titan/RaftClient") {}

export interface Options {
  /** Base URLs of servers, such as `http://127.0.0.1:7101`: at least one; others are found through their hints and the membership. */
  readonly endpoints: ReadonlyArray<string>
  /** How long one request may take altogether, in milliseconds. Default 5000. */
  readonly deadlineMs?: number | undefined
  /**
   * How long to wait for a connection, and for the answer to what may be sent again, before trying another server, in milliseconds. Default
   * 1000.
   */
  readonly attemptMs?: number | undefined
  /** The pause after all known servers were tried, in milliseconds: the first, and the longest, before jitter. Defaults 25 and 500. */
  readonly backoffMsMin?: number | undefined
  readonly backoffMsMax?: number | undefined
  /** Whether writes travel in a session. Default true. */
  readonly sessions?: boolean | undefined
  /** Most writes, and most reads, that may wait at a time; further ones are refused as `Overloaded`. Default 100,000. */
  readonly waitingMax?: number | undefined
}

const statusOf = (connect: ClientCall.Connect, url: string, attemptMs: number): Effect.Effect<EndpointStatus> =>
  ClientCall.opened(connect, url, attemptMs).pipe(
    Effect.flatMap((connection) =>
      ClientCall.within(connection.status, attemptMs, (reason) => new Lost({ reason }), "no answer")
    ),
    Effect.match({
      onFailure: ({ reason }): EndpointStatus => ({ _tag: "Down", url, reason }),
      onSuccess: (status): EndpointStatus => ({ _tag: "Up", url, status })
    })
  )

/** A large state takes its time to write: only connecting to the server must be quick. */
const snapshotOf = (
  connect: ClientCall.Connect,
  url: string,
  { attemptMs, deadlineMs }: ClientCall.Limits
): Effect.Effect<EndpointSnapshot> =>
  ClientCall.opened(connect, url, attemptMs).pipe(
    Effect.flatMap(({ takeSnapshot }) =>
      ClientCall.within(takeSnapshot, deadlineMs, (reason) => new Lost({ reason }), "no answer")
    ),
    Effect.match({
      onFailure: (error): EndpointSnapshot => {
        if (error._tag === "Unreachable") return { _tag: "Down", url, reason: error.reason }
        return { _tag: "Failed", url, reason: reasonOf(error) }
      },
      onSuccess: (snapshot): EndpointSnapshot => ({ _tag: "Taken", url, snapshot })
    })
  )

/** Reads that the leader answers. All of a batch are confirmed alike. */
const reads = (attemptMs: number): Traffic<ReadError, Consistency, ReadFailure> => ({
  first: () => undefined,
  take: (waiting) => takeRun(waiting, ({ place }) => place === waiting[0]?.place),
  send: (connection, items) => connection.read(items.map(({ bytes }) => bytes), items[0]?.place ?? "linearizable"),
  attemptMs,
  onFailure: () => "again",
  onDefect: (defect) => Exit.die(defect),
  onExpired: (_, unanswered) => unanswered(),
  onSettled: () => {}
})

/** How often, in milliseconds, a client asks who the members are, while it has something to ask anyway. */
const membersEveryMs = 10_000

/** Asks a server that leads who the members are, now and then, aside. */
const makeLearn = (endpoints: Endpoints, clock: Clock.Clock, scope: Scope.Scope) => {
  let learnedMs = -Infinity
  return (connection: Connection): Effect.Effect<void> =>
    Effect.suspend(() => {
      const nowMs = ClientCall.nowMs(clock)
      if (nowMs - learnedMs < membersEveryMs) return Effect.void
      learnedMs = nowMs
      const learned = Effect.map(connection.status, (status) => endpoints.learn(status))
      return Effect.asVoid(Effect.forkIn(Effect.ignore(learned), scope))
    })
}

/** Requests to the leader that travel together, and what carries them. */
const makeLanes = Effect.fnUntraced(function*(
  options: Options,
  parts: ConstructorParameters<typeof Lane>[0]
) {
  const { attemptMs } = parts.limits
  const writes = new Lane(parts, options.sessions === false ? bare : inSession(attemptMs))
  const leaderReads = new Lane(parts, reads(attemptMs))
  for (const lane of [writes, leaderReads]) {
    yield* Effect.addFinalizer(() => Effect.sync(() => lane.close()))
    yield* Effect.forkIn(lane.run, parts.scope)
  }
  return { writes, leaderReads }
})

/** Requests to any server, and what is asked seldom: each travels alone. */
const makeCalls = (
  { connect, limits, route: leader }: ConstructorParameters<typeof Lane>[0],
  endpoints: Endpoints
) => {
  const call = ClientCall.make(connect, limits)
  const route = inTurn(endpoints)
  /** Neither is an answer to a read. */
  const read = <A>(asked: ClientCall.Call<A>): Effect.Effect<A, ReadError> =>
    Effect.suspend(() => call(asked, route())).pipe(
      Effect.catchTag(["ChangeRefused", "OutcomeUnknown"], (error) => Effect.die(error))
    )
  const change = <A>(
    effect: ClientCall.Call<A>["effect"],
    send: ClientCall.Call<A>["send"]
  ): Effect.Effect<A, ChangeError> => call({ awaited: "no answer", effect, send }, leader)
  return { read, change }
}

/** The part of a client that knows Raft, over any way to connect. It lives as long as the scope. */
export const make = Effect.fnUntraced(function*(
  options: Options,
  connect: ClientCall.Connect
): Effect.fn.Return<RaftClient["Service"], never, Scope.Scope> {
  const { attemptMs = 1000, backoffMsMax = 500, backoffMsMin = 25, deadlineMs = 5000, waitingMax = 100_000 } = options
  const limits: ClientCall.Limits = { attemptMs, backoffMsMax, backoffMsMin, deadlineMs }
  const [clock, scope] = [yield* Clock.Clock, yield* Effect.scope]
  const endpoints = new Endpoints(options.endpoints)
  const parts = {
    connect,
    limits,
    route: toLeader(endpoints),
    clock,
    scope,
    waitingMax,
    onAnswer: makeLearn(endpoints, clock, scope)
  }
  const { leaderReads, writes } = yield* makeLanes(options, parts)
  const { change, read } = makeCalls(parts, endpoints)
  const all = { concurrency: "unbounded" } as const
  return RaftClient.of({
    propose: (command) => writes.ask(command, undefined),
    read: (query, { consistency = "linearizable" } = {}) =>
      consistency === "follower"
        ? read({
          awaited: "no answer",
          effect: "none",
          send: (connection) =>
            Effect.flatMap(
              connection.read([query], consistency),
              ([answer]): Effect.Effect<Uint8Array, ReadFailure | Lost> => answer ?? noAnswer
            )
        })
        : leaderReads.ask(query, consistency),
    readStale: (query, { minIndex } = {}) =>
      read({
        // A server that is behind waits, and may wait longer than this client does.
        awaited: minIndex === undefined ? "no answer" : `no sign that index ${minIndex} is applied there`,
        effect: "none",
        send: (connection) => connection.readStale(query, minIndex)
      }),
    reconfigure: (changes) => change("repeatable", (connection) => connection.reconfigure(changes)),
    previewReconfigure: (changes) => change("none", (connection) => connection.previewReconfigure(changes)),
    transferLeadership: (to) => change("once", (connection) => connection.transferLeadership(to)),
    status: Effect.forEach(endpoints.given, (url) => statusOf(connect, url, attemptMs), all),
    takeSnapshots: Effect.forEach(endpoints.given, (url) => snapshotOf(connect, url, limits), all)
  })
})

const noAnswer = Effect.fail(new Lost({ reason: "the server gave no answer" }))

/**
 * The same service in the process of a node, and of that node alone: for a cluster of one, or for a program that asks whichever of its nodes
 * leads. `RaftClientHttp.layerEmbedded` also asks the other servers.
 */
export const layerNode = (
  options: Omit<Options, "endpoints"> = {}
): Layer.Layer<RaftClient, never, RaftNode> =>
  Layer.effect(
    RaftClient,
    Effect.flatMap(RaftNode, (node) => {
      const here = "this node"
      const connection = ofNode(node, () => undefined)
      return make({ ...options, endpoints: [here] }, () => Effect.succeed(connection))
    })
  )
