/**
 * The clients of a simulated cluster: how they find a node, how long they wait, and what they know afterwards. What they ask is the
 * workload's (`Workload.ts`).
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { NodeId } from "../domain/NodeId.ts"
import * as RaftClient from "../services/RaftClient.ts"
import type * as RaftNode from "../services/RaftNode.ts"
import type { StaleTarget, Target } from "../services/StateMachine.ts"
import { connect } from "./Connection.ts"
import type { Draws } from "./Draws.ts"
import * as SessionClient from "./SessionClient.ts"
import type { Clients } from "./Swarm.ts"
import type { TestCluster } from "./TestCluster.ts"

/** What a client knows about a request once it stops waiting. */
export type Outcome<A> =
  | { readonly _tag: "Done"; readonly value: A }
  | { readonly _tag: "NotApplied" }
  | { readonly _tag: "Unknown" }

/** An error of a request says what became of it (rule R4). */
export interface Told {
  readonly outcome: "not-applied" | "unknown"
  readonly message: string
}

/** Something that takes requests: one node, a client that finds the leader, or one with a session. */
export type Asked = Target<Told, Told> & StaleTarget<Told>

/** How a read is to be answered; the first ones linearizably. */
export type ReadMode = RaftNode.Consistency | "stale"

/** Mostly as a client reads that says nothing. */
export const drawMode = (draws: Draws): ReadMode =>
  draws.pick(["linearizable", "linearizable", "linearizable", "lease", "lease", "follower", "follower", "stale"])

export interface Client {
  readonly number: number
  readonly draws: Draws
  /** One of many that ask the same node in the same instant: logs grow apart where that node is cut off. */
  readonly isBurst: boolean
  /** Asks, and waits as long as this client does. */
  readonly ask: <A>(request: (asked: Asked) => Effect.Effect<A, Told>) => Effect.Effect<Outcome<A>>
}

const notApplied: Outcome<never> = { _tag: "NotApplied" }
const unknown: Outcome<never> = { _tag: "Unknown" }

const outcomeOf = <A>(request: Effect.Effect<A, Told>, patienceMs: number): Effect.Effect<Outcome<A>> =>
  request.pipe(
    Effect.match({
      onFailure: (error): Outcome<A> => error.outcome === "unknown" ? unknown : notApplied,
      onSuccess: (value): Outcome<A> => ({ _tag: "Done", value })
    }),
    Effect.timeoutOrElse({ duration: patienceMs, orElse: () => Effect.succeed(unknown) })
  )

/** A node that is up: mostly the leader; sometimes any that believes it leads, deposed ones too; sometimes any. */
const chooseNode = Effect.fnUntraced(function*(cluster: TestCluster, draws: Draws) {
  const running = cluster.running()
  if (running.length === 0) return undefined
  const luck = draws.below(10)
  if (luck < 5) return (yield* cluster.leader) ?? draws.pick(running)
  if (luck < 8) {
    const leading = (yield* cluster.statuses).filter((status) => status.role === "Leader")
    if (leading.length > 0) return draws.pick(leading).id
  }
  return draws.pick(running)
})

/** A client's ways to the cluster, which it keeps: for what it waits for, and for a burst. */
interface Ways {
  readonly ask: Client["ask"]
  readonly burst: Effect.Effect<Client["ask"]>
  readonly burstRatio: number
}

type Options = Clients & {
  readonly untilMs: number
  readonly nowMs: () => number
  /** How long a client with a session waits, if it waits until it is answered. */
  readonly untilAnsweredMs: number
  readonly sessionCounts: SessionClient.Counts
}

/** Who gives up early does not learn what became of its request. */
const patienceOf = (draws: Draws, patienceMs: number): number => draws.happens(0.05) ? draws.between(1, 20) : patienceMs

const makeWays = Effect.fnUntraced(function*(
  cluster: TestCluster,
  options: Options,
  draws: Draws
): Effect.fn.Return<Ways, never, Scope.Scope> {
  const { burstRatio } = options
  const patienceMs = () => patienceOf(draws, options.patienceMs)
  const burst = Effect.map(chooseNode(cluster, draws), (id) => askNode(cluster, id, options.patienceMs))
  if (draws.happens(options.followingRatio)) {
    const endpoints = draws.shuffled(cluster.ids)
    const given = { endpoints, deadlineMs: options.patienceMs, attemptMs: 100, sessions: draws.happens(0.7) }
    const asked = yield* RaftClient.make(given, connect(cluster))
    return { burst, burstRatio, ask: (request) => outcomeOf(request(asked), patienceMs()) }
  }
  return {
    burst,
    burstRatio,
    ask: (request) => Effect.flatMap(chooseNode(cluster, draws), (id) => askNode(cluster, id, patienceMs())(request))
  }
})

/** Commands go through the session, reads to one node. */
const makeWaysOfSession = (cluster: TestCluster, options: Options, draws: Draws): Ways => {
  const choose = chooseNode(cluster, draws)
  const { propose } = new SessionClient.SessionClient({
    cluster,
    draws,
    choose,
    attemptMs: draws.pick([20, 100, 300]),
    pauseMsMax: draws.pick([5, 50]),
    counts: options.sessionCounts
  })
  const through = (patienceMs: () => number): Client["ask"] => (request) =>
    Effect.flatMap(choose, (id) =>
      id !== undefined && cluster.running().includes(id)
        ? outcomeOf(request({ ...cluster.node(id), propose }), patienceMs())
        : Effect.succeed(notApplied))
  return {
    ask: through(() => patienceOf(draws, options.untilAnsweredMs)),
    burst: Effect.succeed(through(() => options.patienceMs)),
    // What is sent until it is answered fills logs; most of the bursts of others are refused.
    burstRatio: options.burstRatio / 4
  }
}

/** Asks this node and no other. */
export const askNode = (cluster: TestCluster, id: NodeId | undefined, patienceMs: number): Client["ask"] => (request) =>
  Effect.suspend(() =>
    id !== undefined && cluster.running().includes(id)
      ? outcomeOf(request(cluster.node(id)), patienceMs)
      : Effect.succeed(notApplied)
  )

/**
 * Runs the clients until `untilMs`. Each asks one thing at a time; one that does not know what became of its request goes on under
 * another number, as a history wants it.
 */
export const run = (
  cluster: TestCluster,
  options: Options,
  draws: Draws,
  request: (client: Client) => Effect.Effect<Outcome<unknown>>
): Effect.Effect<void> => {
  let numbers = 0
  const live = Effect.fnUntraced(function*({ ownDraws, ways }: { readonly ownDraws: Draws; readonly ways: Ways }) {
    const { ask, burst, burstRatio } = ways
    let number = ++numbers
    while (options.nowMs() < options.untilMs) {
      yield* Effect.sleep(ownDraws.between(1, options.pauseMsMax))
      if (ownDraws.happens(burstRatio)) {
        const asked = yield* burst
        const asking = Array.from({ length: options.burst }, () => ++numbers)
        const all = Effect.forEach(
          asking,
          (number) => request({ number, draws: ownDraws, isBurst: true, ask: asked }),
          { concurrency: "unbounded", discard: true }
        )
        // Nobody waits for a burst.
        yield* Effect.forkDetach(all)
        continue
      }
      const outcome = yield* request({ number, draws: ownDraws, isBurst: false, ask })
      if (outcome._tag === "Unknown") number = ++numbers
    }
  })
  return Effect.scoped(Effect.gen(function*() {
    let shared: Ways | undefined
    const all: Array<{ readonly ownDraws: Draws; readonly ways: Ways }> = []
    for (const [i, ownDraws] of Array.from({ length: options.count }, () => draws.fork()).entries()) {
      if (i % options.sessionShare === 0) {
        const hasSession = ownDraws.happens(options.sessionRatio)
        shared = hasSession ? makeWaysOfSession(cluster, options, ownDraws.fork()) : undefined
      }
      all.push({ ownDraws, ways: shared ?? (yield* makeWays(cluster, options, ownDraws)) })
    }
    yield* Effect.forEach(all, live, { concurrency: "unbounded", discard: true })
  }))
}
