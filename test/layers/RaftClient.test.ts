import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as TestClock from "effect/testing/TestClock"
import { type Connection, Lost, make, Redirected, Unreachable } from "../../src/services/RaftClient.ts"
import { OutcomeUnknown, Overloaded, Stopped, TooLarge } from "../../src/services/RaftNode.ts"
import { type Answer, each, scripted, silent } from "./scriptedServers.ts"

const done = Uint8Array.of(1)
const command = Uint8Array.of(7)

const dead = () => new Unreachable({ reason: "connection refused" })

/** Runs `effect` with as much test time as it needs, up to a minute. */
const inTestTime = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(effect)
    yield* TestClock.adjust("1 minute")
    return yield* Fiber.await(fiber)
  })

describe("finding the leader", () => {
  it.effect("a hint is followed at once, and remembered for the next request", () =>
    Effect.gen(function*() {
      const { asked, client } = yield* scripted({
        a: () => Effect.fail(new Redirected({ leader: "n3", url: "c" })),
        b: () => Effect.fail(new Redirected()),
        c: () => Effect.succeed(done)
      })
      assert.deepStrictEqual(yield* client.propose(command), done)
      assert.deepStrictEqual(yield* client.propose(command), done)
      assert.deepStrictEqual(asked, ["a", "c", "c"])
    }))

  it.effect("a server that answered is asked first the next time", () =>
    Effect.gen(function*() {
      const { asked, client } = yield* scripted({ a: dead, b: () => Effect.succeed(done) })
      yield* client.propose(command)
      yield* client.read(command)
      assert.deepStrictEqual(asked, ["a", "b", "b"])
    }))

  it.effect("a hint at a server outside of the list is followed", () =>
    Effect.gen(function*() {
      const asked: Array<string> = []
      const client = yield* make({ endpoints: ["a"], sessions: false }, (url) =>
        Effect.sync((): Connection => {
          asked.push(url)
          const answer = url === "elsewhere"
            ? Effect.succeed(done)
            : Effect.fail(new Redirected({ leader: "n9", url: "elsewhere" }))
          return { ...silent, propose: (commands) => each(commands, () => answer) }
        }))
      assert.deepStrictEqual(yield* client.propose(command), done)
      assert.deepStrictEqual(asked, ["a", "elsewhere"])
    }))

  it.effect("a stale hint at a dead server costs one attempt in a round, then the others are asked", () =>
    Effect.gen(function*() {
      const { asked, client } = yield* scripted({
        a: () => Effect.fail(new Redirected({ leader: "n2", url: "b" })),
        b: dead,
        c: () => Effect.succeed(done)
      })
      assert.deepStrictEqual(yield* client.propose(command), done)
      assert.deepStrictEqual(asked, ["a", "b", "c"])
    }))

  it.effect("two servers that point at each other do not trap the client: it pauses and asks again until one leads", () =>
    Effect.gen(function*() {
      const { asked, client } = yield* scripted({
        a: () => Effect.fail(new Redirected({ leader: "n2", url: "b" })),
        b: (count) => count < 3 ? Effect.fail(new Redirected({ leader: "n1", url: "a" })) : Effect.succeed(done)
      })
      assert.deepStrictEqual(yield* inTestTime(client.propose(command)), Exit.succeed(done))
      assert.isAtMost(asked.length, 8)
    }))

  it.effect("late news from a server that does not lead any more misleads nobody", () =>
    Effect.gen(function*() {
      const late = yield* Deferred.make<void>()
      const { asked, client } = yield* scripted({
        a: (count) =>
          count === 1
            ? Effect.andThen(Deferred.await(late), Effect.fail(new Redirected({ leader: "n3", url: "c" })))
            : Effect.fail(new Redirected({ leader: "n2", url: "b" })),
        b: () => Effect.succeed(done),
        c: () => Effect.fail(new Redirected())
      })
      const first = yield* Effect.forkChild(client.propose(command))
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* client.propose(command), done)
      yield* Deferred.succeed(late, undefined)
      assert.deepStrictEqual(yield* Fiber.join(first), done)
      assert.deepStrictEqual(asked, ["a", "a", "b", "b"])
    }))

  it.effect("while an election runs, a write is tried again until there is a leader", () =>
    Effect.gen(function*() {
      const { client } = yield* scripted({
        a: (count) => Effect.suspend(() => count < 4 ? Effect.fail(new Redirected()) : Effect.succeed(done))
      })
      assert.deepStrictEqual(yield* inTestTime(client.propose(command)), Exit.succeed(done))
    }))
})

describe("what is certainly not applied is tried again", () => {
  it.effect("Overloaded: the same leader is asked again after a pause, not the others", () =>
    Effect.gen(function*() {
      const { asked, client } = yield* scripted({
        a: (count) => count === 1 ? Effect.fail(new Overloaded()) : Effect.succeed(done),
        b: () => Effect.succeed(done)
      })
      const fiber = yield* Effect.forkChild(client.propose(command))
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(asked, ["a"])
      yield* TestClock.adjust(25)
      assert.deepStrictEqual(yield* Fiber.join(fiber), done)
      assert.deepStrictEqual(asked, ["a", "a"])
    }))

  it.effect("Stopped: the next server is asked at once", () =>
    Effect.gen(function*() {
      const { asked, client } = yield* scripted({ a: () => Effect.fail(new Stopped()), b: () => Effect.succeed(done) })
      assert.deepStrictEqual(yield* client.propose(command), done)
      assert.deepStrictEqual(asked, ["a", "b"])
    }))

  it.effect("without any leader a write fails by the deadline with NoLeader: not applied, and why for each server", () =>
    Effect.gen(function*() {
      const { client } = yield* scripted({ a: dead, b: () => Effect.fail(new Redirected()) }, { deadlineMs: 2000 })
      const fiber = yield* Effect.forkChild(Effect.flip(client.propose(command)))
      yield* TestClock.adjust(2000)
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error._tag, "NoLeader")
      assert.strictEqual(error.outcome, "not-applied")
      assert.include(error.message, "not applied")
      assert.include(error.message, "a: connection refused")
      assert.include(error.message, "b: does not lead and knows no leader")
    }))

  it.effect("a write that was refused so far is not sent again just before the deadline, to be cut off as unknown", () =>
    Effect.gen(function*() {
      const { client } = yield* scripted({
        a: (count) =>
          count === 1 ? Effect.fail(new Overloaded()) : Effect.andThen(Effect.sleep(20), Effect.fail(new Overloaded()))
      })
      const exit = yield* inTestTime(client.propose(command))
      const error = Exit.isFailure(exit) ? Option.getOrUndefined(Cause.findErrorOption(exit.cause)) : undefined
      assert.strictEqual(error?._tag, "Overloaded")
    }).pipe(Effect.repeat({ times: 50 })))

  it.effect("what nobody waits for any more holds up nobody: after it, the next write is sent at once", () =>
    Effect.gen(function*() {
      let isUp = false
      const { client } = yield* scripted({ a: () => isUp ? Effect.succeed(done) : dead() }, { deadlineMs: 2000 })
      const given = yield* Effect.forkChild(Effect.exit(client.propose(command)))
      yield* TestClock.adjust(2000)
      yield* Fiber.join(given)
      isUp = true
      const next = yield* Effect.forkChild(client.propose(command))
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(next.pollUnsafe(), Exit.succeed(done))
    }))

  it.effect("pauses grow and are jittered: a dead cluster is asked tens of times in 5 s, not thousands, at other times for another seed", () =>
    Effect.gen(function*() {
      const times = (seed: string) =>
        Effect.gen(function*() {
          const { asked, client } = yield* scripted({ a: dead })
          yield* inTestTime(client.propose(command).pipe(Random.withSeed(seed)))
          return asked.length
        })
      const count = yield* times("one")
      assert.isAbove(count, 10)
      assert.isBelow(count, 40)
    }))
})

describe("a write whose fate is unknown is never sent twice", () => {
  const outcomes: ReadonlyArray<[string, Answer]> = [
    ["the connection broke after it was sent", Effect.fail(new Lost({ reason: "closed" }))],
    ["the server said so", Effect.fail(new OutcomeUnknown())],
    ["the deadline passed while it waited", Effect.never]
  ]
  for (const [when, answer] of outcomes) {
    it.effect(`OutcomeUnknown when ${when}`, () =>
      Effect.gen(function*() {
        const { asked, client } = yield* scripted({ a: () => answer, b: () => Effect.succeed(done) })
        const exit = yield* inTestTime(client.propose(command))
        assert.deepStrictEqual(exit, Exit.fail(new OutcomeUnknown()))
        assert.deepStrictEqual(asked, ["a"])
      }))
  }

  it.effect("TooLarge is an answer, not tried again", () =>
    Effect.gen(function*() {
      const { asked, client } = yield* scripted({
        a: () => Effect.fail(new TooLarge({ sizeBytes: 9, limitBytes: 8 })),
        b: dead
      })
      assert.strictEqual((yield* Effect.flip(client.propose(command)))._tag, "TooLarge")
      assert.deepStrictEqual(asked, ["a"])
    }))

  it.effect("a read is tried again after a lost connection, a silent server and an unconfirmed round", () =>
    Effect.gen(function*() {
      const { asked, client } = yield* scripted({
        a: () => Effect.fail(new Lost({ reason: "closed" })),
        b: () => Effect.never,
        c: (count) => count === 1 ? Effect.fail(new OutcomeUnknown()) : Effect.succeed(done)
      })
      assert.deepStrictEqual(yield* inTestTime(client.read(command)), Exit.succeed(done))
      assert.deepStrictEqual(asked.slice(0, 3), ["a", "b", "c"])
    }))
})
