/**
 * The real driver on in-memory layers under TestClock: elections.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { defaults } from "../../src/domain/Settings.ts"
import * as TestCluster from "../../src/testing/TestCluster.ts"
import { leaderOf, others, settled } from "./cluster.ts"
import { Register } from "./register.ts"

const electionRuns = Array.from({ length: 100 }, (_, i) => i + 1)

describe("election", () => {
  it.effect("three nodes agree on one leader, and the followers know it", () =>
    Effect.gen(function*() {
      const cluster = yield* settled()
      const all = yield* Effect.forEach(cluster.ids, (id) => cluster.node(id).status)
      assert.strictEqual(all.filter((status) => status.role === "Leader").length, 1)
      assert.deepStrictEqual(new Set(all.map((status) => status.leaderId)), new Set([yield* leaderOf(cluster)]))
    }))

  it.effect(
    "five nodes have a leader within two election timeouts in more than 99 of 100 runs, and one leader a term in all",
    () =>
      Effect.gen(function*() {
        let inTime = 0
        for (const seed of electionRuns) {
          const leaders = new Map<number, Set<string>>()
          const cluster = yield* TestCluster.make({
            size: 5,
            stateMachine: Register.layer,
            seed,
            network: { delayMsMin: 1, delayMsMax: 10 },
            tap: ({ from, message }) => {
              if (message._tag !== "AppendEntries") return
              leaders.set(message.term, (leaders.get(message.term) ?? new Set()).add(from))
            }
          })
          yield* TestClock.adjust(2 * defaults.electionTimeoutMsMax)
          if ((yield* cluster.leader) !== undefined) inTime++
          yield* TestClock.adjust("1 second")
          assert.isAtLeast(leaders.size, 1, `seed ${seed}`)
          for (const [term, ids] of leaders) assert.strictEqual(ids.size, 1, `seed ${seed}, term ${term}`)
          for (const id of cluster.ids) yield* cluster.crash(id)
        }
        assert.isAbove(inTime, 99)
      }),
    60_000
  )

  it.effect("when the leader crashes another takes over, in a later term", () =>
    Effect.gen(function*() {
      const cluster = yield* settled()
      const first = yield* leaderOf(cluster)
      const before = yield* cluster.node(first).status
      yield* cluster.crash(first)
      yield* TestClock.adjust("1 second")
      const second = yield* leaderOf(cluster)
      const after = yield* cluster.node(second).status
      assert.notStrictEqual(second, first)
      assert.isAbove(after.term, before.term)
    }))

  it.effect("a node that was cut off for a minute comes back in its old term and deposes nobody (rule V8)", () =>
    Effect.gen(function*() {
      const cluster = yield* settled()
      const leader = yield* leaderOf(cluster)
      const { term } = yield* cluster.node(leader).status
      const [away = ""] = others(cluster, leader)
      cluster.network.isolate(away)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* cluster.node(away).status).term, term)
      cluster.network.heal()
      yield* TestClock.adjust("1 second")
      const all = yield* Effect.forEach(cluster.ids, (id) => cluster.node(id).status)
      for (const status of all) {
        assert.strictEqual(status.term, term)
        assert.strictEqual(status.leaderId, leader)
      }
    }))

  it.effect("a leader that hears from no majority steps down in its own term (rule V9)", () =>
    Effect.gen(function*() {
      const cluster = yield* settled()
      const leader = yield* leaderOf(cluster)
      const { term } = yield* cluster.node(leader).status
      for (const id of others(cluster, leader)) cluster.network.cut(id, leader)
      yield* TestClock.adjust(400)
      const status = yield* cluster.node(leader).status
      assert.notStrictEqual(status.role, "Leader")
      assert.strictEqual(status.term, term)
    }))

  it.effect("a node alone leads itself", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ size: 1 })
      assert.strictEqual(yield* cluster.leader, "n1")
    }))

  it.effect("a restarted node has its term and its vote", () =>
    Effect.gen(function*() {
      const cluster = yield* settled()
      const before = yield* cluster.node("n1").status
      yield* cluster.crash("n1")
      yield* cluster.restart("n1")
      assert.strictEqual((yield* cluster.node("n1").status).term, before.term)
    }))
})
