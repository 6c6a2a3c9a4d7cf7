/**
 * How a request to a node ends when it does not end well: each way says what happened to the command (rule R4).
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import type { ProposeError, SessionExpired } from "../../src/services/RaftErrors.ts"
import { Requests } from "../../src/services/Requests.ts"
import { make } from "../../src/testing/TestCluster.ts"
import { during, leaderOf, on, others, settled } from "./cluster.ts"
import { Register } from "./register.ts"

describe("a request", () => {
  it("whose place in the log a snapshot has taken has an unknown outcome; one behind it still waits", () => {
    const requests = new Requests({ timeoutMs: 1000, waitingMax: 10 })
    const outcomes: Array<string> = []
    const ids = [1, 2, 3].map((n) =>
      requests.proposal(0, (answer) => {
        const error = Effect.runSync(Effect.flip(answer))
        outcomes.push(`${n} ${error._tag}`)
      })
    )
    requests.accept(ids, { term: 1, index: 4 })
    requests.restored(5)
    assert.deepStrictEqual(outcomes, ["1 OutcomeUnknown", "2 OutcomeUnknown"])
  })

  it("to hand over is answered by whoever leads next: it is done only if that is who was to", () => {
    const requests = new Requests({ timeoutMs: 1000, waitingMax: 10 })
    const outcomes: Array<string> = []
    const asked = (successor: string | undefined) =>
      requests.transfer(0, successor, (answer) =>
        outcomes.push(
          Exit.isSuccess(answer) ? `${successor} done` : `${successor} ${Effect.runSync(Effect.flip(answer))._tag}`
        ))
    for (const successor of ["n2", "n3", undefined]) requests.handedOver(asked(successor))
    asked("n4")
    assert.deepStrictEqual(outcomes, [])
    requests.led("n3")
    assert.deepStrictEqual(outcomes, ["n2 ChangeRefused", "n3 done", "undefined done"])
    requests.led("n4")
    assert.strictEqual(outcomes.length, 3, "who has not ended its leadership waits")
  })

  it.effect("to hand over to a server that never hears of it is not done", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ requestTimeoutMs: 2000 })
      const leader = yield* leaderOf(cluster)
      const [successor = ""] = others(cluster, leader)
      const asking = yield* Effect.forkChild(cluster.node(leader).transferLeadership(successor), {
        startImmediately: true
      })
      yield* cluster.isolate(leader)
      yield* TestClock.adjust("1 second")
      assert.notStrictEqual((yield* cluster.node(leader).status).role, "Leader")
      assert.isUndefined(asking.pollUnsafe(), "nobody leads next yet, as far as it knows")
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual((yield* Effect.flip(Fiber.join(asking)))._tag, "OutcomeUnknown")
    }))

  it.effect("to a follower is not applied, and is told the leader", () =>
    Effect.gen(function*() {
      const cluster = yield* settled()
      const leader = yield* leaderOf(cluster)
      const [follower = ""] = others(cluster, leader)
      const refused = yield* Effect.flip(on(cluster, follower).propose("x"))
      assert.deepInclude(refused, { _tag: "NotLeader", leader, outcome: "not-applied" })
      const unread = yield* Effect.flip(on(cluster, follower).read())
      assert.deepInclude(unread, { _tag: "NotLeader", leader })
    }))

  it.effect("that cannot be committed in time has an unknown outcome", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ requestTimeoutMs: 500 })
      const leader = yield* leaderOf(cluster)
      for (const id of others(cluster, leader)) yield* cluster.crash(id)
      const outcome = yield* during(on(cluster, leader).propose("x"), 1000)
      assert.deepInclude(outcome._tag === "Failure" ? outcome.failure : outcome, {
        _tag: "OutcomeUnknown",
        outcome: "unknown"
      })
    }))

  it.effect("to read is refused when the leadership ends before it is confirmed", () =>
    Effect.gen(function*() {
      const cluster = yield* settled()
      const leader = yield* leaderOf(cluster)
      for (const id of others(cluster, leader)) yield* cluster.crash(id)
      const outcome = yield* during(on(cluster, leader).read(), 1000)
      assert.strictEqual(outcome._tag === "Failure" ? outcome.failure._tag : outcome._tag, "NotLeader")
    }))

  it.effect("beyond the bound on uncommitted bytes is refused as Overloaded, and taken again later (rule L10)", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ settings: { uncommittedBytesMax: 1000, appendBytesMax: 1000 } })
      const leader = yield* leaderOf(cluster)
      const proposals = Array.from({ length: 50 }, (_, i) => Effect.result(on(cluster, leader).propose(`command ${i}`)))
      const outcomes = yield* Effect.all(proposals, { concurrency: "unbounded" })
      const refused = outcomes.filter((outcome) => outcome._tag === "Failure")
      assert.isAbove(refused.length, 5)
      assert.isAbove(outcomes.length - refused.length, 5)
      for (const { failure } of refused) assert.strictEqual(failure._tag, "Overloaded")
      assert.strictEqual(yield* on(cluster, leader).propose("later"), outcomes.length - refused.length + 1)
    }))

  it.effect("larger than a command may be is refused as TooLarge", () =>
    Effect.gen(function*() {
      const cluster = yield* settled()
      const leader = yield* leaderOf(cluster)
      const error = yield* Effect.flip(cluster.node(leader).propose(new Uint8Array((8 << 20) + 1)))
      assert.deepInclude(error, { _tag: "TooLarge", outcome: "not-applied" })
    }))

  it.effect("that its caller gave up holds nothing up", () =>
    Effect.gen(function*() {
      const cluster = yield* settled()
      const leader = yield* leaderOf(cluster)
      const fiber = yield* Effect.forkChild(on(cluster, leader).propose("given up"), { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(yield* on(cluster, leader).propose("next"), 2)
    }))
})

describe("a command that was cut from this log", () => {
  it("has an unknown outcome, since another server may hold it still", () => {
    const answers: Array<unknown> = []
    const requests = new Requests({ timeoutMs: 1000, waitingMax: 10 })
    const resume = (answer: Effect.Effect<Uint8Array, ProposeError | SessionExpired>) =>
      void answers.push(Effect.runSync(Effect.flip(answer))._tag)
    const [cut, next] = [requests.proposal(0, resume), requests.proposal(0, resume)]
    requests.accept([cut], { term: 1, index: 5 })
    requests.accept([next], { term: 3, index: 5 })
    assert.deepEqual(answers, ["OutcomeUnknown"])
  })
})

describe("a node whose disk fails", () => {
  it.effect("stops, says so, and leaves nobody waiting or wrongly told", () =>
    Effect.gen(function*() {
      const cluster = yield* make({ size: 1, stateMachine: Register.layer, seed: 1 })
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* on(cluster, "n1").propose("durable"), 1)
      const disk = cluster.disks.get("n1")
      if (disk === undefined) return assert.fail("no disk")
      disk.nextFailure = "DiskFull"
      const outcome = yield* Effect.flip(on(cluster, "n1").propose("lost"))
      assert.strictEqual(outcome._tag, "OutcomeUnknown")
      const halted = yield* Effect.flip(cluster.node("n1").halted)
      assert.strictEqual(halted.reason, "DiskFull")
      assert.strictEqual((yield* Effect.flip(on(cluster, "n1").propose("late")))._tag, "Stopped")
    }))

  it.effect("answers no vote and no entry that it could not store", () =>
    Effect.gen(function*() {
      const cluster = yield* settled()
      const leader = yield* leaderOf(cluster)
      const [broken = "", other = ""] = others(cluster, leader)
      yield* cluster.crash(other)
      const disk = cluster.disks.get(broken)
      if (disk === undefined) return assert.fail("no disk")
      disk.nextFailure = "Failed"
      const outcome = yield* during(on(cluster, leader).propose("x"), 6000)
      assert.strictEqual(outcome._tag === "Failure" ? outcome.failure._tag : "acknowledged", "OutcomeUnknown")
    }))
})
