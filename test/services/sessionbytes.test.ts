/**
 * What sessions keep is bounded in bytes, and which of them go for that is decided by the log alone: servers apply it in batches of their own.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { tableBytesMax, trimEvery } from "../../src/domain/Session.ts"
import { StateMachine } from "../../src/services/StateMachine.ts"
import { during, leaderOf, others, settled } from "./cluster.ts"

const largeBytes = 4 << 20

/** Counts what it executes; a command of 1 has a large result. */
const counting = Layer.sync(StateMachine, () => {
  let count = 0
  return StateMachine.of({
    apply: (entries) =>
      Effect.sync(() =>
        entries.map(({ command }) => {
          count++
          return new Uint8Array(command[0] === 1 ? largeBytes : 1)
        })
      ),
    query: () => Effect.sync(() => Uint8Array.of(count)),
    snapshot: Effect.succeed(Stream.empty),
    restore: () => Effect.void
  })
})

describe("sessions whose answers take more room than there is", () => {
  it.effect("are the same on a server that applies the log one by one and on one that applies it at once", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ stateMachine: counting })
      const leader = yield* leaderOf(cluster)
      const { openSession, propose, proposeInSession } = cluster.node(leader)
      const counts = Effect.forEach(
        cluster.ids,
        (id) => Effect.map(cluster.machine(id).query(new Uint8Array()), ([n]) => n)
      )
      const again = (session: number) =>
        Effect.map(
          during(proposeInSession(Uint8Array.of(2), { session, sequence: 2, firstUnanswered: 1 }), 500),
          (outcome) => outcome._tag === "Failure" ? outcome.failure._tag : "executed"
        )
      const ids: Array<number> = []
      for (let kept = 0; kept <= tableBytesMax; kept += largeBytes) {
        const session = yield* openSession
        ids.push(session)
        yield* proposeInSession(Uint8Array.of(1), { session, sequence: 1, firstUnanswered: 1 })
      }
      const [oldest = 0] = ids
      assert.strictEqual(yield* again(oldest), "executed", "where the log is not that far yet, all are there")
      const { lastApplied } = yield* cluster.node(leader).status
      yield* Effect.forEach(
        Array.from({ length: trimEvery - lastApplied }),
        () => propose(Uint8Array.of(0)),
        { concurrency: "unbounded", discard: true }
      )
      assert.strictEqual(yield* again(ids[1] ?? 0), "SessionExpired", "the least recently used one has gone")
      const [follower = ""] = others(cluster, leader)
      yield* cluster.crash(follower)
      yield* cluster.restart(follower)
      yield* TestClock.adjust("3 seconds")
      const [first, ...rest] = yield* counts
      assert.deepStrictEqual(rest, [first, first])
    }))
})
