/**
 * A whole cluster for tests under TestClock: what may be done to it, and that what is wrong with it is found.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import type { Message } from "../../src/domain/Message.ts"
import * as RaftClient from "../../src/services/RaftClient.ts"
import { StateMachine } from "../../src/services/StateMachine.ts"
import { Storage } from "../../src/services/Storage.ts"
import { connect } from "../../src/testing/Connection.ts"
import { Violation } from "../../src/testing/Figure3.ts"
import * as TestCluster from "../../src/testing/TestCluster.ts"
import { type Cluster, equalLogs, leaderOf, on, others, settled } from "../services/cluster.ts"
import { Register } from "../services/register.ts"

const diskOf = (cluster: Cluster, id: string) => {
  const disk = cluster.disks.get(id)
  if (disk === undefined) throw new Error(`no disk of ${id}`)
  return disk
}

/** What the state machine of `id` itself holds. */
const heldBy = (cluster: Cluster, id: string) =>
  Register.on({ propose: () => Effect.never, read: cluster.machine(id).query }).read()

/** A leader and two followers that it has told of the text "old". */
const written = Effect.fnUntraced(function*(options: Partial<TestCluster.Options> = {}) {
  const cluster = yield* settled(options)
  const leader = yield* leaderOf(cluster)
  yield* on(cluster, leader).propose("old")
  yield* TestClock.adjust(100)
  const [a = "", b = ""] = others(cluster, leader)
  return { cluster, leader, a, b }
})

/** A follower's lie: that everything the leader has is on its disk. */
const lie = Effect.fnUntraced(function*(cluster: Cluster, leader: string, from: string) {
  const { lastLogIndex, term } = yield* cluster.node(leader).status
  const message: Message = {
    _tag: "AppendEntriesResponse",
    term,
    round: 0,
    result: { _tag: "Matched", matchIndex: lastLogIndex }
  }
  yield* cluster.network.send(from, leader, message)
  yield* TestClock.adjust(10)
})

/** Makes the leader commit what is on no other disk than its own. */
const violate = Effect.gen(function*() {
  const { a, b, cluster, leader } = yield* written()
  yield* cluster.crash(a)
  yield* cluster.crash(b)
  const asked = yield* Effect.forkChild(Effect.result(on(cluster, leader).propose("alone")), {
    startImmediately: true
  })
  yield* TestClock.adjust(10)
  yield* lie(cluster, leader, a)
  yield* TestClock.adjust(10)
  return { cluster, leader, asked }
})

describe("links", () => {
  it.effect("a partition leaves the majority a leader, and the minority none; healed, all agree", () =>
    Effect.gen(function*() {
      const { a, b, cluster, leader } = yield* written()
      yield* cluster.partition([leader], [a, b])
      yield* TestClock.adjust("1 second")
      const next = yield* leaderOf(cluster)
      assert.include([a, b], next)
      assert.notStrictEqual((yield* cluster.node(leader).status).role, "Leader")
      assert.strictEqual(yield* on(cluster, next).propose("new"), 2)
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(yield* heldBy(cluster, leader), ["old"])
      yield* cluster.heal
      yield* TestClock.adjust("1 second")
      for (const id of cluster.ids) assert.deepStrictEqual(yield* heldBy(cluster, id), ["old", "new"])
      yield* equalLogs(cluster)
    }))

  it.effect("a partition replaces the one before it, and whom it does not name are together", () =>
    Effect.gen(function*() {
      const { a, b, cluster, leader } = yield* written()
      yield* cluster.partition([leader], [a], [b])
      yield* TestClock.adjust("1 second")
      assert.isUndefined(yield* cluster.leader)
      yield* cluster.partition([a])
      yield* TestClock.adjust("1 second")
      assert.include([leader, b], yield* leaderOf(cluster))
    }))

  it.effect("an isolated leader is replaced, and follows once it is joined again", () =>
    Effect.gen(function*() {
      const { cluster, leader } = yield* written()
      yield* cluster.isolate(leader)
      yield* TestClock.adjust("1 second")
      const next = yield* leaderOf(cluster)
      assert.notStrictEqual(next, leader)
      yield* cluster.heal
      yield* TestClock.adjust("1 second")
      assert.deepInclude(yield* cluster.node(leader).status, { role: "Follower", leaderId: next })
    }))

  it.effect("of two that lead at a time, the leader is the one of the later term", () =>
    Effect.gen(function*() {
      const settings = { preVote: false, checkQuorum: false, leaderStickiness: false }
      const { cluster, leader } = yield* written({ settings })
      yield* cluster.isolate(leader)
      yield* TestClock.adjust("1 second")
      const leading = (yield* cluster.statuses).filter((status) => status.role === "Leader")
      assert.strictEqual(leading.length, 2)
      assert.notStrictEqual(yield* cluster.leader, leader)
    }))
})

describe("a crash", () => {
  it.effect("tells those who wait: a write has an unknown outcome, a read none", () =>
    Effect.gen(function*() {
      const { cluster, leader } = yield* written()
      yield* cluster.isolate(leader)
      const start = <A, E>(asked: Effect.Effect<A, E>) =>
        Effect.forkChild(Effect.flip(asked), { startImmediately: true })
      const write = yield* start(on(cluster, leader).propose("lost"))
      const read = yield* start(on(cluster, leader).read())
      yield* TestClock.adjust(10)
      yield* cluster.crash(leader)
      assert.deepInclude(yield* Fiber.join(write), { outcome: "unknown" })
      assert.deepInclude(yield* Fiber.join(read), { outcome: "not-applied" })
    }))

  it.effect("leaves a node that is down: it does not run, has no status and no state machine", () =>
    Effect.gen(function*() {
      const { a, cluster, leader } = yield* written()
      yield* cluster.crash(a)
      yield* cluster.crash(a)
      assert.notInclude(cluster.running(), a)
      assert.strictEqual((yield* cluster.statuses).length, 2)
      assert.throws(() => cluster.node(a), `${a} is down`)
      assert.throws(() => cluster.machine(a), `${a} is down`)
      assert.throws(() => cluster.node("n9"), "the cluster has no node n9")
      assert.strictEqual(yield* cluster.leader, leader)
    }))

  it.effect("keeps what the disk has synced, and loses what it has not", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ size: 1 })
      const disk = diskOf(cluster, "n1")
      assert.strictEqual(yield* on(cluster, "n1").propose("kept"), 1)
      const kept = disk.durable().entries.length
      disk.syncDelayMs = 50
      const asked = yield* Effect.forkChild(Effect.flip(on(cluster, "n1").propose("lost")), { startImmediately: true })
      yield* TestClock.adjust(20)
      yield* cluster.crash("n1")
      assert.deepInclude(yield* Fiber.join(asked), { outcome: "unknown" })
      disk.syncDelayMs = 0
      yield* cluster.restart("n1")
      assert.strictEqual((yield* cluster.node("n1").status).lastLogIndex, kept)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* heldBy(cluster, "n1"), ["kept"])
    }))

  it.effect("is over when the node is restarted: it has its term and catches up", () =>
    Effect.gen(function*() {
      const { a, cluster, leader } = yield* written()
      const { term } = yield* cluster.node(a).status
      yield* cluster.crash(a)
      assert.strictEqual(yield* on(cluster, leader).propose("new"), 2)
      yield* cluster.restart(a)
      assert.include(cluster.running(), a)
      assert.deepInclude(yield* cluster.node(a).status, { term, role: "Follower", commitIndex: 0 })
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* heldBy(cluster, a), ["old", "new"])
    }))

  it.effect("of a node that is starting keeps it down, and it can be started again", () =>
    Effect.gen(function*() {
      const { a, cluster } = yield* written()
      yield* cluster.crash(a)
      const starting = yield* Effect.forkChild(cluster.restart(a), { startImmediately: true })
      yield* cluster.crash(a)
      yield* TestClock.adjust(100)
      yield* Fiber.join(starting)
      assert.notInclude(cluster.running(), a)
      yield* cluster.restart(a)
      assert.include(cluster.running(), a)
    }))

  it.effect("is what a restart needs: a node that is up is left as it is", () =>
    Effect.gen(function*() {
      const { a, cluster } = yield* written()
      const node = cluster.node(a)
      yield* cluster.restart(a)
      assert.strictEqual(cluster.node(a), node)
    }))
})

describe("a restart", () => {
  it.effect("on a disk that cannot be read fails as Corrupt, leaves the node down, and works later", () =>
    Effect.gen(function*() {
      const { a, cluster } = yield* written()
      const disk = diskOf(cluster, a)
      yield* cluster.crash(a)
      disk.isUnreadable = true
      for (let attempt = 1; attempt <= 2; attempt++) {
        assert.deepInclude(yield* Effect.flip(cluster.restart(a)), { _tag: "StorageError", reason: "Corrupt" })
        assert.notInclude(cluster.running(), a)
      }
      disk.isUnreadable = false
      yield* cluster.restart(a)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* heldBy(cluster, a), ["old"])
    }))

  it.effect("while the node is starting starts it once", () =>
    Effect.gen(function*() {
      const { a, cluster } = yield* written()
      yield* cluster.crash(a)
      yield* Effect.all([cluster.restart(a), cluster.restart(a)], { concurrency: "unbounded" })
      assert.strictEqual(cluster.running().filter((id) => id === a).length, 1)
    }))
})

describe("a property that does not hold", () => {
  it.effect("fails the test when its scope closes, with the property and the node", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(Effect.scoped(Effect.asVoid(violate)))
      const found = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
      assert.instanceOf(found, Violation)
      assert.strictEqual(found.property, "Durability (rule L6)")
      assert.match(found.message, /n\d commits \d+\.\d+, which is on the disks of n\d of n1, n2, n3$/)
    }))

  it.effect("stops the node that it was found on, before anybody is told something false", () =>
    Effect.gen(function*() {
      const { asked, cluster, leader } = yield* violate
      assert.deepInclude(yield* cluster.node(leader).status, { role: "Follower" })
      const outcome = yield* Fiber.join(asked)
      assert.strictEqual(
        outcome._tag === "Failure" && "outcome" in outcome.failure && outcome.failure.outcome,
        "unknown"
      )
      const halted = yield* Effect.exit(cluster.node(leader).halted)
      assert.isTrue(Exit.isFailure(halted) && Cause.hasDies(halted.cause))
      yield* cluster.takeViolation
    }))

  it.effect("is there to be seen, and can be taken: then the scope closes as if nothing had been", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(Effect.scoped(Effect.gen(function*() {
        const { cluster } = yield* violate
        const seen = cluster.violation()
        assert.strictEqual(seen?.property, "Durability (rule L6)")
        assert.strictEqual(yield* cluster.takeViolation, seen)
        assert.isUndefined(cluster.violation())
        assert.isUndefined(yield* cluster.takeViolation)
      })))
      assert.isTrue(Exit.isSuccess(exit))
    }))

  it.effect("includes a defect of a state machine", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({
        size: 1,
        stateMachine: Layer.effect(
          StateMachine,
          Effect.map(StateMachine, (inner) => ({ ...inner, apply: () => Effect.die("broken") }))
        ).pipe(Layer.provide(Register.layer))
      })
      yield* Effect.flip(on(cluster, "n1").propose("x"))
      yield* TestClock.adjust(1)
      const violation = yield* cluster.takeViolation
      assert.strictEqual(violation?.property, "no defects")
      assert.include(violation?.message, "n1")
    }))

  it.effect("is no disk that fails: that is the test's doing", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ size: 1 })
      diskOf(cluster, "n1").nextFailure = "Failed"
      yield* Effect.flip(on(cluster, "n1").propose("x"))
      assert.strictEqual((yield* Effect.flip(cluster.node("n1").halted)).reason, "Failed")
      assert.isUndefined(cluster.violation())
    }))
})

describe("cluster.client", () => {
  it.effect("finds the leader and follows it when it changes", () =>
    Effect.gen(function*() {
      const cluster = yield* settled()
      const register = Register.on(cluster.client)
      assert.strictEqual(yield* TestCluster.whileTimePasses(register.propose("a")), 1)
      yield* cluster.crash(yield* leaderOf(cluster))
      assert.strictEqual(yield* TestCluster.whileTimePasses(register.propose("b")), 2)
      yield* cluster.isolate(yield* leaderOf(cluster))
      for (const id of cluster.ids) if (!cluster.running().includes(id)) yield* cluster.restart(id)
      assert.deepStrictEqual(yield* TestCluster.whileTimePasses(register.read()), ["a", "b"])
    }))

  it.effect("needs no leader to begin with", () =>
    Effect.gen(function*() {
      const cluster = yield* TestCluster.make({ size: 3, stateMachine: Register.layer, seed: 1 })
      assert.strictEqual(yield* TestCluster.whileTimePasses(Register.on(cluster.client).propose("first")), 1)
    }))

  it.effect("is led to the leader by a node that only follows it", () =>
    Effect.gen(function*() {
      const { a, cluster } = yield* written()
      const client = yield* RaftClient.make({ endpoints: [a] }, connect(cluster))
      assert.strictEqual(yield* TestCluster.whileTimePasses(Register.on(client).propose("new")), 2)
    }))

  it.effect("says that nothing was applied where all nodes are down", () =>
    Effect.gen(function*() {
      const cluster = yield* settled()
      for (const id of cluster.ids) yield* cluster.crash(id)
      const asked = Effect.flip(Register.on(cluster.client).propose("x"))
      const error = yield* TestCluster.whileTimePasses(asked)
      assert.deepInclude(error, { _tag: "NoLeader", outcome: "not-applied" })
      assert.include(error.message, "n1 is down")
    }))
})

describe("whileTimePasses", () => {
  it.effect("dies and says so where nothing comes of it in a minute", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(TestCluster.whileTimePasses(Effect.never))
      assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
      assert.include(
        String(Exit.isFailure(exit) ? Cause.squash(exit.cause) : ""),
        "nothing came of it in 60000 ms"
      )
    }))

  it.effect("waits for what takes almost a minute, and gives its outcome, a failure too", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* TestCluster.whileTimePasses(Effect.as(Effect.sleep("59 seconds"), "late")), "late")
      const failing = Effect.andThen(Effect.sleep(30), Effect.fail("told"))
      assert.strictEqual(yield* Effect.flip(TestCluster.whileTimePasses(failing)), "told")
      assert.strictEqual(yield* TestCluster.whileTimePasses(Effect.succeed("at once")), "at once")
    }))
})

describe("what a test may look at", () => {
  it.effect("every step, in an order that the seed decides", () =>
    Effect.gen(function*() {
      const run = Effect.fnUntraced(function*(seed: number) {
        const steps: Array<string> = []
        const network = { delayMsMin: 1, delayMsMax: 10 }
        const observe = ({ after, event }: TestCluster.Observed) =>
          void steps.push(`${after.id} ${event._tag} ${after.term} ${after.role._tag} ${after.commitIndex}`)
        yield* Effect.scoped(settled({ seed, network, observe }))
        return steps
      })
      const one = yield* run(1)
      assert.isAbove(one.length, 50)
      assert.deepStrictEqual(yield* run(1), one)
      assert.notDeepEqual(yield* run(2), one)
    }))

  it.effect("every message and what became of it", () =>
    Effect.gen(function*() {
      const fates = new Map<string, number>()
      const { cluster, leader } = yield* written({
        tap: ({ fate }) => void fates.set(fate, (fates.get(fate) ?? 0) + 1)
      })
      yield* cluster.isolate(leader)
      yield* TestClock.adjust(200)
      assert.strictEqual(fates.get("Delivered"), cluster.network.delivered())
      assert.isAbove(fates.get("Cut") ?? 0, 0)
      assert.strictEqual(fates.get("Cut"), cluster.network.dropped())
    }))

  it.effect("a storage of one's own, around the disk in memory", () =>
    Effect.gen(function*() {
      const writes = new Map<string, number>()
      const { cluster } = yield* written({
        storage: (id, memory) =>
          Layer.effect(
            Storage,
            Effect.map(Storage, (inner) =>
              Storage.of({
                ...inner,
                persist: (write) => {
                  writes.set(id, (writes.get(id) ?? 0) + 1)
                  return inner.persist(write)
                }
              }))
          ).pipe(Layer.provide(memory))
      })
      for (const id of cluster.ids) {
        assert.isAbove(writes.get(id) ?? 0, 0, id)
        assert.isAbove(diskOf(cluster, id).durable().entries.length, 1)
      }
    }))
})
