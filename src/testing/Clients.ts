/**
 * The clients of a simulated cluster: how they find a node, how long they wait, and what they know afterwards. What they ask is the
 * workload's (`Workload.ts`).
 */
import * as Effect from "effect/Effect"
import type { NodeId } from "../domain/NodeId.ts"
import * as RaftClient from "../services/RaftClient.ts"
import type * as RaftNode from "../services/RaftNode.ts"
import type { StaleTarget, Target } from "../services/StateMachine.ts"
import { connect } from "./Connection.ts"
import type { Draws } from "./Draws.ts"
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

/** Something that takes requests: one node, or a client that finds the leader. */
export type Asked =
  & Target<RaftNode.ProposeError | RaftClient.ProposeError, RaftNode.ReadError | RaftClient.ReadError>
  & StaleTarget<RaftNode.StaleReadError | RaftClient.ReadError>

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

/** A client's way to the cluster, which it keeps. */
const makeAsk = (cluster: TestCluster, options: Clients, draws: Draws): Client["ask"] => {
  // Who gives up early does not learn what became of its request.
  const patienceMs = () => draws.happens(0.05) ? draws.between(1, 20) : options.patienceMs
  if (draws.happens(options.followingRatio)) {
    const endpoints = draws.shuffled(cluster.ids)
    const asked = RaftClient.make({ endpoints, deadlineMs: options.patienceMs, attemptMs: 100 }, connect(cluster))
    return (request) => outcomeOf(request(asked), patienceMs())
  }
  return (request) => Effect.flatMap(chooseNode(cluster, draws), (id) => askNode(cluster, id, patienceMs())(request))
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
  options: Clients & { readonly untilMs: number; readonly nowMs: () => number },
  draws: Draws,
  request: (client: Client) => Effect.Effect<Outcome<unknown>>
): Effect.Effect<void> => {
  let numbers = 0
  const live = Effect.fnUntraced(function*(ownDraws: Draws) {
    const ask = makeAsk(cluster, options, ownDraws)
    let number = ++numbers
    while (options.nowMs() < options.untilMs) {
      yield* Effect.sleep(ownDraws.between(1, options.pauseMsMax))
      if (ownDraws.happens(options.burstRatio)) {
        const asked = askNode(cluster, yield* chooseNode(cluster, ownDraws), options.patienceMs)
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
  const own = Array.from({ length: options.count }, () => draws.fork())
  return Effect.forEach(own, live, { concurrency: "unbounded", discard: true })
}
