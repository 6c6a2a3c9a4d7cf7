/**
 * Commands of sessions on the real driver: once, whoever leads by then, after snapshots and restarts (thesis §6.3).
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import type { Sequenced } from "../../src/domain/Entry.ts"
import * as StateMachine from "../../src/services/StateMachine.ts"
import { whileTimePasses } from "../../src/testing/TestCluster.ts"
import { type Cluster, during, leaderOf, on, others, settled } from "./cluster.ts"
import { Register } from "./register.ts"

/** `text` as command `sequence` of a session, at `id`: how many there are then. */
const append = (cluster: Cluster, id: string, text: string, sequenced: Sequenced) =>
  Register.on({
    propose: (bytes) => cluster.node(id).proposeInSession(bytes, sequenced),
    read: cluster.node(id).read
  }).propose(text)

const numbered = (session: number, sequence: number): Sequenced => ({ session, sequence, firstUnanswered: 1 })

const opened = Effect.fnUntraced(function*(settings = {}) {
  const cluster = yield* settled({ settings })
  const leader = yield* leaderOf(cluster)
  return { cluster, leader, session: yield* cluster.node(leader).openSession }
})

const held = (cluster: Cluster, id: string) => on(cluster, id).read()

describe("a command of a session", () => {
  it.effect("that is sent again is applied once, and has the first answer", () =>
    Effect.gen(function*() {
      const { cluster, leader, session } = yield* opened()
      assert.strictEqual(yield* append(cluster, leader, "a", numbered(session, 1)), 1)
      assert.strictEqual(yield* append(cluster, leader, "b", numbered(session, 2)), 2)
      assert.strictEqual(yield* append(cluster, leader, "a", numbered(session, 1)), 1)
      assert.deepEqual(yield* held(cluster, leader), ["a", "b"])
    }))

  it.effect("that is sent again while it is under way is applied once, and both are answered", () =>
    Effect.gen(function*() {
      const { cluster, leader, session } = yield* opened()
      const all = yield* Effect.forEach([1, 2, 3], () => append(cluster, leader, "a", numbered(session, 1)), {
        concurrency: "unbounded"
      })
      assert.deepEqual([all, yield* held(cluster, leader)], [[1, 1, 1], ["a"]])
    }))

  it.effect("whose leader died before it answered is applied once by the next one", () =>
    Effect.gen(function*() {
      const { cluster, leader, session } = yield* opened()
      yield* append(cluster, leader, "a", numbered(session, 1))
      yield* cluster.crash(leader)
      yield* TestClock.adjust("2 seconds")
      const next = yield* leaderOf(cluster)
      assert.strictEqual(yield* append(cluster, next, "a", numbered(session, 1)), 1)
      assert.deepEqual(yield* held(cluster, next), ["a"])
    }))

  it.effect("is known after a snapshot and a restart of every server", () =>
    Effect.gen(function*() {
      const { cluster, leader, session } = yield* opened({ logTailEntriesMax: 0 })
      yield* append(cluster, leader, "a", numbered(session, 1))
      yield* TestClock.adjust(200)
      for (const id of cluster.ids) yield* cluster.node(id).takeSnapshot
      for (const id of cluster.ids) yield* cluster.crash(id)
      for (const id of cluster.ids) yield* cluster.restart(id)
      yield* TestClock.adjust("2 seconds")
      const next = yield* leaderOf(cluster)
      assert.strictEqual((yield* cluster.node(next).status).prevLogIndex > 0, true)
      assert.strictEqual(yield* append(cluster, next, "a", numbered(session, 1)), 1)
      assert.deepEqual(yield* held(cluster, next), ["a"])
    }))

  it.effect("is known to a server that a leader's snapshot has brought up to date", () =>
    Effect.gen(function*() {
      const { cluster, leader, session } = yield* opened({ logTailEntriesMax: 0 })
      const [away = ""] = others(cluster, leader)
      yield* cluster.isolate(away)
      yield* append(cluster, leader, "a", numbered(session, 1))
      yield* cluster.node(leader).takeSnapshot
      yield* cluster.heal
      yield* TestClock.adjust("2 seconds")
      yield* whileTimePasses(cluster.node(yield* leaderOf(cluster)).transferLeadership(away))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* leaderOf(cluster), away)
      assert.strictEqual(yield* append(cluster, away, "a", numbered(session, 1)), 1)
      assert.deepEqual(yield* held(cluster, away), ["a"])
    }))

  it.effect("of a session that has expired is not applied, and says so", () =>
    Effect.gen(function*() {
      const { cluster, leader, session } = yield* opened({ sessionTimeoutMs: 1000 })
      yield* append(cluster, leader, "a", numbered(session, 1))
      yield* TestClock.adjust("2 seconds")
      const outcome = yield* during(append(cluster, leader, "b", numbered(session, 2)), 500)
      assert.strictEqual(outcome._tag === "Failure" ? outcome.failure._tag : outcome.success, "SessionExpired")
      assert.deepEqual(yield* held(cluster, leader), ["a"])
    }))
})

describe("a server", () => {
  it.effect("keeps a copy of the answer, where its state machine writes the next one over it", () =>
    Effect.gen(function*() {
      // All results are one piece of memory, which the next command changes.
      const reusing = Layer.sync(StateMachine.StateMachine, () => {
        const memory = new Uint8Array(1)
        return StateMachine.StateMachine.of({
          apply: (commands) =>
            Effect.sync(() => {
              memory[0] = (memory[0] ?? 0) + commands.length
              return commands.map(() => memory)
            }),
          query: () => Effect.succeed(memory),
          snapshot: Effect.sync(() => Stream.succeed(memory.slice())),
          restore: Stream.runDrain
        })
      })
      const cluster = yield* settled({ stateMachine: reusing })
      const node = cluster.node(yield* leaderOf(cluster))
      const session = yield* node.openSession
      const first = (yield* node.proposeInSession(new Uint8Array(1), numbered(session, 1))).slice()
      yield* node.propose(new Uint8Array(1))
      assert.deepEqual(yield* node.proposeInSession(new Uint8Array(1), numbered(session, 1)), first)
    }))
})
