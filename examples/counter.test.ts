import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { Simulation, TestCluster } from "titan-raft/testing"
import { Counter } from "./counter.ts"

it.effect("what was acknowledged survives the crash of the leader", () =>
  Effect.gen(function*() {
    const cluster = yield* TestCluster.make({ size: 3, stateMachine: Counter.layer, seed: 1 })
    const counter = Counter.on(cluster.client)
    yield* TestCluster.whileTimePasses(counter.propose({ add: 2 }))

    const first = (yield* cluster.leader) ?? "none"
    yield* cluster.crash(first)
    yield* TestClock.adjust("1 second")
    assert.notStrictEqual(yield* cluster.leader, first)
    assert.strictEqual(yield* TestCluster.whileTimePasses(counter.propose({ add: 3 })), 5)

    yield* cluster.restart(first)
    yield* TestClock.adjust("1 second")
    assert.strictEqual(yield* Counter.on({ ...cluster.client, read: cluster.machine(first).query }).read(), 5)
  }))

it.effect("50 clusters under faults that their seeds decide never miscount", () =>
  Simulation.check(Counter, {
    command: (draws) => ({ add: draws.between(1, 9) }),
    query: () => undefined
  }, { seeds: 50 }))
