/**
 * The real driver on in-memory layers under TestClock: commands, reads and partitions.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { during, equalLogs, leaderOf, on, others, settled } from "./cluster.ts"

describe("replication", () => {
  it.effect("a command is answered with its result once, and every node applies it", () =>
    Effect.gen(function*() {
      const cluster = yield* settled()
      const leader = yield* leaderOf(cluster)
      assert.strictEqual(yield* on(cluster, leader).propose("a"), 1)
      assert.strictEqual(yield* on(cluster, leader).propose("b"), 2)
      assert.deepStrictEqual(yield* on(cluster, leader).read(), ["a", "b"])
      yield* TestClock.adjust("200 millis")
      yield* equalLogs(cluster)
    }))

  it.effect("commands proposed together are applied in the order they were proposed", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ network: { delayMsMin: 1, delayMsMax: 20 } })
      const leader = yield* leaderOf(cluster)
      const texts = Array.from({ length: 500 }, (_, i) => `c${i}`)
      const results = yield* during(
        Effect.forEach(texts, (text) => on(cluster, leader).propose(text), { concurrency: "unbounded" }),
        2000
      )
      assert.deepStrictEqual(results._tag === "Success" ? results.success : results, texts.map((_, i) => i + 1))
      const read = yield* during(on(cluster, leader).read(), 200)
      assert.deepStrictEqual(read._tag === "Success" ? read.success : read, texts)
    }))

  it.effect("what was acknowledged survives the leader's crash, and a crash of every node", () =>
    Effect.gen(function*() {
      const cluster = yield* settled()
      const first = yield* leaderOf(cluster)
      yield* on(cluster, first).propose("kept")
      yield* cluster.crash(first)
      yield* TestClock.adjust("1 second")
      const second = yield* leaderOf(cluster)
      assert.deepStrictEqual(yield* on(cluster, second).read(), ["kept"])
      for (const id of cluster.ids) yield* cluster.crash(id)
      for (const id of cluster.ids) yield* cluster.restart(id)
      yield* TestClock.adjust("1 second")
      const third = yield* leaderOf(cluster)
      assert.deepStrictEqual(yield* on(cluster, third).read(), ["kept"])
      yield* TestClock.adjust("200 millis")
      yield* equalLogs(cluster)
    }))

  it.effect("a minority commits nothing, and when it returns its entries give way to the majority's", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ size: 5 })
      const old = yield* leaderOf(cluster)
      const [companion = "", ...majority] = others(cluster, old)
      yield* on(cluster, old).propose("before")
      cluster.network.partition([[old, companion], majority])
      const doomed = yield* Effect.forkChild(Effect.result(on(cluster, old).propose("minority")))
      yield* TestClock.adjust("2 seconds")
      const { commitIndex, lastLogIndex } = yield* cluster.node(old).status
      assert.isBelow(commitIndex, lastLogIndex)
      const leader = yield* leaderOf(cluster)
      assert.include(majority, leader)
      yield* on(cluster, leader).propose("majority")
      cluster.network.heal()
      yield* TestClock.adjust("2 seconds")
      yield* equalLogs(cluster)
      const outcome = doomed.pollUnsafe()
      const result = outcome?._tag === "Success" ? outcome.value : undefined
      assert.strictEqual(result?._tag === "Failure" ? result.failure._tag : result?._tag, "NotLeader")
      assert.deepStrictEqual(yield* on(cluster, yield* leaderOf(cluster)).read(), ["before", "majority"])
    }))

  it.effect("a follower that was away catches up on ten thousand entries", () =>
    Effect.gen(function*() {
      const cluster = yield* settled()
      const leader = yield* leaderOf(cluster)
      const [away = ""] = others(cluster, leader)
      yield* cluster.crash(away)
      const texts = Array.from({ length: 10_000 }, (_, i) => String(i))
      yield* during(
        Effect.forEach(texts, (text) => cluster.node(leader).propose(new TextEncoder().encode(text)), {
          concurrency: "unbounded"
        }),
        2000
      )
      yield* cluster.restart(away)
      yield* TestClock.adjust("1 second")
      yield* equalLogs(cluster)
      assert.isAbove((yield* cluster.node(away).status).lastApplied, 10_000)
    }), 60_000)

  it.effect("a network that loses, doubles and reorders costs time, never a command", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({
        seed: 5,
        network: { delayMsMin: 0, delayMsMax: 30, lossProbability: 0.1, duplicateProbability: 0.2 }
      })
      const texts = Array.from({ length: 50 }, (_, i) => `c${i}`)
      const acknowledged: Array<string> = []
      for (const text of texts) {
        const leader = yield* cluster.leader
        if (leader === undefined) {
          yield* TestClock.adjust(100)
          continue
        }
        const outcome = yield* during(on(cluster, leader).propose(text), 6000)
        if (outcome._tag === "Success") acknowledged.push(text)
      }
      assert.isAbove(acknowledged.length, 25)
      cluster.network.setFaults({ lossProbability: 0, duplicateProbability: 0 })
      yield* TestClock.adjust("2 seconds")
      yield* equalLogs(cluster)
      const read = yield* during(on(cluster, yield* leaderOf(cluster)).read(), 1000)
      const applied = read._tag === "Success" ? read.success : []
      assert.strictEqual(new Set(applied).size, applied.length)
      assert.deepStrictEqual(acknowledged.filter((text) => !applied.includes(text)), [])
    }), 60_000)
})

describe("reads", () => {
  it.effect("a read appends nothing to the log", () =>
    Effect.gen(function*() {
      const cluster = yield* settled()
      const leader = yield* leaderOf(cluster)
      const before = yield* cluster.node(leader).status
      for (let i = 0; i < 20; i++) yield* on(cluster, leader).read()
      assert.strictEqual((yield* cluster.node(leader).status).lastLogIndex, before.lastLogIndex)
    }))

  it.effect("a leader that was deposed without knowing it answers no read", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ settings: { checkQuorum: false } })
      const old = yield* leaderOf(cluster)
      yield* on(cluster, old).propose("first")
      cluster.network.isolate(old)
      yield* TestClock.adjust("1 second")
      yield* on(cluster, yield* leaderOf(cluster)).propose("second")
      assert.strictEqual((yield* cluster.node(old).status).role, "Leader")
      const outcome = yield* during(on(cluster, old).read(), 6000)
      assert.strictEqual(outcome._tag === "Failure" ? outcome.failure._tag : "answered", "ReadUnconfirmed")
    }))

  it.effect("a thousand reads that come together share a few rounds", () =>
    Effect.gen(function*() {
      let heartbeats = 0
      const cluster = yield* settled({
        tap: ({ message }) => {
          if (message._tag === "AppendEntries") heartbeats++
        }
      })
      const leader = yield* leaderOf(cluster)
      heartbeats = 0
      yield* Effect.forEach(Array.from({ length: 1000 }), () => on(cluster, leader).read(), {
        concurrency: "unbounded"
      })
      assert.isBelow(heartbeats, 20)
    }))
})
