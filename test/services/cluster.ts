/**
 * What the suites over a whole in-memory cluster say again and again.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import type { NodeId } from "../../src/domain/NodeId.ts"
import * as TestCluster from "../../src/testing/TestCluster.ts"
import { Register } from "./register.ts"

export type Cluster = TestCluster.TestCluster

/** A cluster of `Register` that has had a second to elect its leader. */
export const settled = Effect.fnUntraced(function*(
  options: Partial<TestCluster.Options> = {}
): Effect.fn.Return<Cluster, never, Scope.Scope> {
  const cluster = yield* TestCluster.make({ size: 3, stateMachine: Register.layer, seed: 1, ...options })
  yield* TestClock.adjust("1 second")
  return cluster
})

export const leaderOf = Effect.fnUntraced(function*(cluster: Cluster) {
  const leader = yield* cluster.leader
  if (leader === undefined) return yield* Effect.die(new Error("the cluster has no leader"))
  return leader
})

export const others = (cluster: Cluster, id: NodeId): ReadonlyArray<NodeId> =>
  cluster.ids.filter((other) => other !== id)

export const on = (cluster: Cluster, id: NodeId) => Register.on(cluster.node(id))

/** Runs `effect` while `ms` of virtual time go by, and gives its outcome. */
export const during = <A, E>(effect: Effect.Effect<A, E>, ms: number) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(Effect.result(effect), { startImmediately: true })
    for (let at = 0; at < ms; at += 50) yield* TestClock.adjust(50)
    const exit = fiber.pollUnsafe()
    if (exit === undefined) return yield* Effect.die(new Error(`no outcome within ${ms} ms`))
    return yield* exit
  })

/** What a node's own state machine holds, asked of the leader where it leads and by status elsewhere. */
export const equalLogs = Effect.fnUntraced(function*(cluster: Cluster) {
  const all = yield* Effect.forEach(cluster.running(), (id) => cluster.node(id).status)
  const [first] = all
  for (const status of all) {
    assert.strictEqual(status.lastLogIndex, first?.lastLogIndex, status.id)
    assert.strictEqual(status.commitIndex, first?.lastLogIndex, status.id)
    assert.strictEqual(status.lastApplied, first?.lastLogIndex, status.id)
  }
})
