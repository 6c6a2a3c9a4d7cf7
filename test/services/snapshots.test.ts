/**
 * Snapshots through the whole driver: taken, kept, sent, installed, lost.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import type { NodeId } from "../../src/domain/NodeId.ts"
import type { Settings } from "../../src/domain/Settings.ts"
import type { Passage } from "../../src/layers/TransportMemory.ts"
import { type Cluster, during, equalLogs, leaderOf, on, others, settled } from "./cluster.ts"
import { Register } from "./register.ts"

/** Small enough that a few commands are a snapshot, and a snapshot many pieces. */
const small: Partial<Settings> = {
  snapshotEntries: 10,
  logTailEntriesMax: 2,
  snapshotGrowthPercent: 0,
  snapshotChunkBytes: 64
}

const proposeAll = Effect.fnUntraced(function*(cluster: Cluster, id: NodeId, texts: ReadonlyArray<string>) {
  for (const text of texts) yield* during(Effect.orDie(on(cluster, id).propose(text)), 100)
})

const texts = (count: number, from = 1): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, i) => `t${from + i}`)

const statusOf = (cluster: Cluster, id: NodeId) => cluster.node(id).status

/** What a node's own state machine holds. */
const contents = (cluster: Cluster, id: NodeId) =>
  Register.on({ propose: () => Effect.never, read: cluster.machine(id).query }).read()

/** The node dies, and finds another snapshot than it wrote. */
const crashDamaged = Effect.fnUntraced(function*(cluster: Cluster, id: NodeId) {
  yield* cluster.crash(id)
  cluster.disks.get(id)?.damageSnapshot()
})

describe("a node", () => {
  it.effect("snapshots its state every so many entries, and gives up the log before that, but for a tail", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ settings: small })
      const leader = yield* leaderOf(cluster)
      yield* proposeAll(cluster, leader, texts(35))
      yield* TestClock.adjust("1 second")
      for (const id of cluster.ids) {
        const { lastApplied, prevLogIndex, snapshot } = yield* statusOf(cluster, id)
        assert.isAtLeast(snapshot.last.index, 30, id)
        assert.isAtMost(lastApplied - snapshot.last.index, 10, id)
        assert.strictEqual(prevLogIndex, snapshot.last.index - 2, id)
      }
      yield* equalLogs(cluster)
    }))

  it.effect("starts again from its snapshot and the log behind it, and applies each entry once", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ size: 1, settings: small })
      yield* proposeAll(cluster, "n1", texts(25))
      for (const round of [1, 2, 3]) {
        yield* cluster.crash("n1")
        yield* cluster.restart("n1")
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(yield* contents(cluster, "n1"), texts(25), `restart ${round}`)
      }
      assert.isAtLeast((yield* statusOf(cluster, "n1")).snapshot.last.index, 20)
    }))

  it.effect("takes a snapshot when it is asked to, and none where there is nothing new", () =>
    Effect.gen(function*() {
      const cluster = yield* settled()
      const leader = yield* leaderOf(cluster)
      yield* proposeAll(cluster, leader, texts(3))
      const first = yield* cluster.node(leader).takeSnapshot
      assert.strictEqual(first.last.index, 4)
      assert.deepStrictEqual(yield* cluster.node(leader).takeSnapshot, first)
      yield* proposeAll(cluster, leader, texts(1))
      assert.strictEqual((yield* cluster.node(leader).takeSnapshot).last.index, 5)
      yield* TestClock.adjust(10)
      assert.strictEqual((yield* statusOf(cluster, leader)).snapshot.last.index, 5)
    }))
})

describe("a follower whose entries are gone", () => {
  it.effect("gets the snapshot in pieces, then the entries behind it, and equals the others", () =>
    Effect.gen(function*() {
      const sizes: Array<number> = []
      const tap = ({ message }: Passage) => {
        if (message._tag === "InstallSnapshot" && message.bytes.length > 0) sizes.push(message.bytes.length)
      }
      const cluster = yield* settled({ settings: small, tap })
      const leader = yield* leaderOf(cluster)
      const [away = "n1"] = others(cluster, leader)
      yield* cluster.crash(away)
      yield* proposeAll(cluster, leader, texts(44))
      yield* cluster.restart(away)
      yield* TestClock.adjust("5 seconds")
      yield* equalLogs(cluster)
      assert.deepStrictEqual(yield* contents(cluster, away), texts(44))
      assert.isAbove(sizes.length, 3)
      assert.isAtMost(Math.max(...sizes), 64)
      assert.isAtLeast((yield* statusOf(cluster, away)).snapshot.last.index, 30)
    }))

  it.effect("gets it from the next leader when the one that sends it dies in the middle", () =>
    Effect.gen(function*() {
      const pieces: Array<number> = []
      const tap = ({ message }: Passage) => {
        if (message._tag === "InstallSnapshot" && message.bytes.length > 0) pieces.push(message.offset)
      }
      const cluster = yield* settled({ settings: { ...small, snapshotBytesPerSecondMax: 500 }, tap })
      const leader = yield* leaderOf(cluster)
      const [away = "n1"] = others(cluster, leader)
      yield* cluster.crash(away)
      yield* proposeAll(cluster, leader, texts(44))
      yield* cluster.restart(away)
      for (let ms = 0; pieces.length < 2 && ms < 5000; ms += 10) yield* TestClock.adjust(10)
      const [sending] = (yield* statusOf(cluster, leader)).sending
      const { receiving } = yield* statusOf(cluster, away)
      assert.strictEqual(sending?.to, away)
      assert.strictEqual(receiving?.from, leader)
      assert.isBelow(receiving?.offset ?? NaN, receiving?.sizeBytes ?? 0)
      yield* cluster.crash(leader)
      yield* TestClock.adjust("10 seconds")
      const next = yield* leaderOf(cluster)
      assert.deepStrictEqual(yield* contents(cluster, away), texts(44))
      yield* proposeAll(cluster, next, ["after"])
      yield* cluster.restart(leader)
      yield* TestClock.adjust("10 seconds")
      yield* equalLogs(cluster)
    }))

  it.effect("does not keep the cluster from working meanwhile", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ settings: { ...small, snapshotBytesPerSecondMax: 100 } })
      const leader = yield* leaderOf(cluster)
      const [away = "n1"] = others(cluster, leader)
      yield* cluster.crash(away)
      yield* proposeAll(cluster, leader, texts(44))
      const { term } = yield* statusOf(cluster, leader)
      yield* cluster.restart(away)
      yield* proposeAll(cluster, leader, texts(5, 45))
      const status = yield* statusOf(cluster, leader)
      assert.strictEqual(status.followers.find(({ id }) => id === away)?.progress, "Snapshot")
      assert.deepStrictEqual([status.role, status.term], ["Leader", term])
    }))
})

describe("a node whose snapshot is damaged", () => {
  it.effect("gets another one from the leader, and equals the others", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ settings: small })
      const leader = yield* leaderOf(cluster)
      const [away = "n1"] = others(cluster, leader)
      yield* proposeAll(cluster, leader, texts(44))
      yield* crashDamaged(cluster, away)
      yield* cluster.restart(away)
      yield* TestClock.adjust("5 seconds")
      yield* equalLogs(cluster)
      assert.deepStrictEqual(yield* contents(cluster, away), texts(44))
    }))

  it.effect("gets one as a leader, too: it lets another lead", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ settings: small })
      const leader = yield* leaderOf(cluster)
      yield* proposeAll(cluster, leader, texts(44))
      yield* cluster.crash(leader)
      cluster.disks.get(leader)?.damageSnapshot()
      yield* cluster.restart(leader)
      yield* TestClock.adjust("5 seconds")
      yield* equalLogs(cluster)
      assert.notStrictEqual(yield* leaderOf(cluster), leader)
      assert.deepStrictEqual(yield* contents(cluster, leader), texts(44))
    }))

  it.effect("gets one that the leader takes for it, where the leader's own does not reach so far", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ settings: { ...small, logTailEntriesMax: 0 } })
      const leader = yield* leaderOf(cluster)
      const [away = "n1"] = others(cluster, leader)
      yield* proposeAll(cluster, leader, texts(14))
      yield* TestClock.adjust("1 second")
      const { last } = yield* cluster.node(away).takeSnapshot
      assert.isBelow((yield* statusOf(cluster, leader)).snapshot.last.index, last.index)
      yield* TestClock.adjust(10)
      yield* crashDamaged(cluster, away)
      yield* cluster.restart(away)
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual((yield* statusOf(cluster, leader)).snapshot.last.index, last.index)
      assert.deepStrictEqual(yield* contents(cluster, away), texts(14))
      yield* equalLogs(cluster)
    }))

  it.effect("answers no stale read until it has a state again", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ settings: small })
      const leader = yield* leaderOf(cluster)
      const [away = "n1"] = others(cluster, leader)
      yield* proposeAll(cluster, leader, texts(44))
      yield* crashDamaged(cluster, away)
      yield* cluster.isolate(away)
      yield* cluster.restart(away)
      const { prevLogIndex } = yield* statusOf(cluster, away)
      const early = yield* during(on(cluster, away).readStale(), 6000)
      assert.isAbove(prevLogIndex, 0)
      assert.deepInclude(early._tag === "Failure" ? early.failure : {}, { _tag: "Behind", minIndex: prevLogIndex })
      yield* cluster.heal
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual((yield* on(cluster, away).readStale()).answer, texts(44))
    }))

  it.effect("says that it cannot start, where there is no other to get it from", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ size: 1, settings: small })
      yield* proposeAll(cluster, "n1", texts(25))
      yield* cluster.crash("n1")
      cluster.disks.get("n1")?.damageSnapshot()
      const error = yield* Effect.flip(cluster.restart("n1"))
      assert.strictEqual(error.reason, "Corrupt")
    }))
})

describe("a stale read", () => {
  it.effect("is answered by any node at once, with what it has applied and how long ago it heard a leader", () =>
    Effect.gen(function*() {
      const cluster = yield* settled()
      const leader = yield* leaderOf(cluster)
      const [away = "n1"] = others(cluster, leader)
      yield* proposeAll(cluster, leader, texts(3))
      yield* TestClock.adjust("1 second")
      yield* cluster.isolate(away)
      yield* proposeAll(cluster, leader, texts(2, 4))
      const old = yield* on(cluster, away).readStale()
      assert.deepStrictEqual(old.answer, texts(3))
      assert.strictEqual(old.appliedIndex, 4)
      assert.isAtLeast(old.leaderContactAgeMs ?? 0, 100)
      const fresh = yield* on(cluster, leader).readStale()
      assert.deepStrictEqual([fresh.answer, fresh.appliedIndex], [texts(5), 6])
      assert.isAtMost(fresh.leaderContactAgeMs ?? Infinity, 100)
      const behind = yield* during(on(cluster, away).readStale(undefined, { minIndex: 6 }), 6000)
      assert.strictEqual(behind._tag === "Failure" ? behind.failure._tag : "answered", "Behind")
      const waiting = yield* Effect.forkChild(on(cluster, away).readStale(undefined, { minIndex: 6 }), {
        startImmediately: true
      })
      yield* cluster.heal
      yield* TestClock.adjust("2 seconds")
      const exit = waiting.pollUnsafe()
      assert.strictEqual(exit?._tag === "Success" ? exit.value.appliedIndex : undefined, 6)
    }))
})

describe("a leader whose own snapshot is damaged", () => {
  it.effect("takes it anew when a follower has received it, though nothing was written since", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ settings: small })
      const leader = yield* leaderOf(cluster)
      const [away = "n1"] = others(cluster, leader)
      yield* cluster.crash(away)
      yield* proposeAll(cluster, leader, texts(44))
      yield* cluster.node(leader).takeSnapshot
      cluster.disks.get(leader)?.damageSnapshot()
      yield* cluster.restart(away)
      yield* TestClock.adjust("10 seconds")
      yield* equalLogs(cluster)
      assert.deepStrictEqual(yield* contents(cluster, away), texts(44))
    }))
})

describe("a node whose snapshot is damaged, while writes go on", () => {
  it.effect("gets another one beside the entries, which it acknowledges meanwhile", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({
        settings: { ...small, snapshotEntries: 200 },
        network: { delayMsMin: 1, delayMsMax: 1 }
      })
      const leader = yield* leaderOf(cluster)
      const [away = "n1", third = "n2"] = others(cluster, leader)
      yield* proposeAll(cluster, leader, texts(44))
      for (const id of [away, leader]) yield* cluster.node(id).takeSnapshot
      yield* TestClock.adjust(100)
      yield* crashDamaged(cluster, away)
      yield* cluster.restart(away)
      // Without it nothing is committed.
      yield* cluster.isolate(third)
      const writing = Effect.forever(Effect.ignore(on(cluster, leader).propose("w")))
      for (let client = 0; client < 16; client++) yield* Effect.forkChild(writing)
      const before = yield* statusOf(cluster, leader)
      const { commitIndex } = yield* statusOf(cluster, away)
      let lastApplied = 0
      for (let ms = 0; ms < 1000 && lastApplied === 0; ms += 10) {
        yield* TestClock.adjust(10)
        lastApplied = (yield* statusOf(cluster, away)).lastApplied
      }
      assert.isAtLeast(lastApplied, commitIndex)
      assert.isAbove((yield* statusOf(cluster, leader)).commitIndex, before.commitIndex)
    }))
})

describe("a piece of a snapshot", () => {
  it.effect("of a term that no cluster reaches is not believed, and keeps nobody from receiving", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ settings: small })
      const leader = yield* leaderOf(cluster)
      const [away = "n1", third = "n2"] = others(cluster, leader)
      yield* cluster.crash(away)
      yield* proposeAll(cluster, leader, texts(44))
      yield* cluster.isolate(away)
      yield* cluster.restart(away)
      yield* TestClock.adjust(50)
      yield* cluster.heal
      const { snapshot } = yield* statusOf(cluster, leader)
      const lie = { ...snapshot, last: { term: 1, index: 1_000_000 } }
      yield* cluster.network.send(third, away, {
        _tag: "InstallSnapshot",
        term: 2 ** 40,
        snapshot: lie,
        offset: 0,
        bytes: new Uint8Array(1)
      }).pipe(Effect.ignoreCause)
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(yield* contents(cluster, away), texts(44))
    }))

  it.effect("is forgotten with all before it once nobody sends any more", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ settings: { ...small, snapshotBytesPerSecondMax: 500 } })
      const leader = yield* leaderOf(cluster)
      const [away = "n1"] = others(cluster, leader)
      yield* cluster.crash(away)
      yield* proposeAll(cluster, leader, texts(44))
      yield* cluster.restart(away)
      for (let ms = 0; (yield* statusOf(cluster, away)).receiving === undefined && ms < 5000; ms += 10) {
        yield* TestClock.adjust(10)
      }
      assert.isDefined((yield* statusOf(cluster, away)).receiving)
      yield* cluster.isolate(away)
      yield* TestClock.adjust("20 seconds")
      assert.isUndefined((yield* statusOf(cluster, away)).receiving)
    }))
})
