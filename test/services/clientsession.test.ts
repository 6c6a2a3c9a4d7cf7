/**
 * A client in a session: whatever happens between it and the servers, a command is applied once and gets its first answer (thesis §6.3; rules
 * R4, R5).
 */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { answersMax, Sessions } from "../../src/domain/Session.ts"
import type { Answers, Connection, ProposeFailure } from "../../src/services/Connection.ts"
import { Lost, make, type Options, Redirected, Unreachable } from "../../src/services/RaftClient.ts"
import {
  type Asked,
  Cut,
  OutcomeUnknown,
  Overloaded,
  SessionExpired,
  Stopped,
  TooLarge
} from "../../src/services/RaftNode.ts"
import { silent } from "../layers/scriptedServers.ts"

/** What a server does with commands; `apply` is what it should. */
type Behaviour = (
  commands: ReadonlyArray<Asked>,
  apply: () => Answers<ProposeFailure>
) => Effect.Effect<Answers<ProposeFailure>, Lost>

const wellBehaved: Behaviour = (_, apply) => Effect.sync(apply)

const broken = Effect.fail(new Lost({ reason: "closed" }))

/** Servers of one cluster: a table of sessions and a counter of how often each command was executed, which all of them share. */
const cluster = Effect.fnUntraced(function*(
  behaviours: Record<string, Behaviour | Unreachable>,
  options: Partial<Options> = {}
) {
  const state = { index: 0, timeMs: 0, sessionsMax: 100, sessions: new Sessions(), opened: 0 }
  const executed: Array<string> = []
  const batches: Array<ReadonlyArray<Asked>> = []
  const applyOne = ({ command, sequenced }: Asked): Exit.Exit<Uint8Array, ProposeFailure> => {
    state.index++
    const text = new TextDecoder().decode(command)
    if (sequenced === undefined) return Exit.fail(new SessionExpired())
    const admitted = state.sessions.admit(sequenced, state.timeMs)
    if (admitted._tag === "Expired") return Exit.fail(new SessionExpired())
    if (admitted._tag === "Execute") {
      executed.push(text)
      state.sessions.keep(admitted.answer, new TextEncoder().encode(`${text} as ${executed.length}`))
    }
    return Exit.succeed(admitted.answer.result ?? new Uint8Array())
  }
  const openSession = Effect.sync(() => {
    state.opened++
    const timeoutMs = 1000
    state.sessions.open(++state.index, {
      _tag: "OpenSession",
      timeMs: state.timeMs,
      sessionsMax: state.sessionsMax,
      timeoutMs
    })
    return state.index
  })
  const connections = Object.entries(behaviours).map(([url, behaviour]) => {
    const connection: Connection | Unreachable = behaviour instanceof Unreachable ? behaviour : {
      ...silent,
      openSession,
      propose: (commands) =>
        Effect.suspend(() => {
          batches.push(commands)
          return behaviour(commands, () => commands.map(applyOne))
        })
    }
    return [url, connection] as const
  })
  const byUrl = new Map(connections)
  const client = yield* make({ endpoints: [...byUrl.keys()], ...options }, (url) => {
    const connection = byUrl.get(url) ?? new Unreachable({ reason: "unknown" })
    return connection instanceof Unreachable ? Effect.fail(connection) : Effect.succeed(connection)
  })
  const propose = (text: string) =>
    Effect.map(client.propose(new TextEncoder().encode(text)), (bytes) => new TextDecoder().decode(bytes))
  return { state, executed, batches, propose }
})

const inTestTime = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(effect)
    yield* TestClock.adjust("1 minute")
    return yield* Fiber.await(fiber)
  })

/** The first `times` batches end as `bad` says, after they were applied or instead of that. */
const atFirst = (times: number, bad: Behaviour): Behaviour => {
  let left = times
  return (commands, apply) => left-- > 0 ? bad(commands, apply) : wellBehaved(commands, apply)
}

const failures: ReadonlyArray<[string, Behaviour]> = [
  ["the connection broke before it was applied", () => broken],
  ["the connection broke after it was applied", (_, apply) => Effect.andThen(Effect.sync(apply), broken)],
  [
    "the server did not know what became of it, and had applied it",
    (_, apply) => Effect.sync(() => apply().map(() => Exit.fail(new OutcomeUnknown())))
  ],
  ["the server never answered, and had applied it", (_, apply) => Effect.andThen(Effect.sync(apply), Effect.never)],
  ["the answer had no room", (_, apply) => Effect.sync(() => apply().map(() => Exit.fail(new Cut())))],
  ["the server does not lead", (commands) => Effect.succeed(commands.map(() => Exit.fail(new Redirected())))],
  ["the server was overloaded", (commands) => Effect.succeed(commands.map(() => Exit.fail(new Overloaded())))],
  ["the server stopped", (commands) => Effect.succeed(commands.map(() => Exit.fail(new Stopped())))]
]

describe("a command that is sent again in its session", () => {
  for (const [when, bad] of failures) {
    it.effect(`is applied once and gets its first answer: ${when}`, () =>
      Effect.gen(function*() {
        const { batches, executed, propose } = yield* cluster({ a: atFirst(2, bad), b: atFirst(1, bad) })
        assert.deepStrictEqual(yield* inTestTime(propose("x")), Exit.succeed("x as 1"))
        assert.deepStrictEqual(executed, ["x"])
        assert.isAtLeast(batches.length, 2)
        const numbers = batches.flatMap((batch) => batch.map(({ sequenced }) => sequenced?.sequence))
        assert.deepStrictEqual(new Set(numbers), new Set([1]))
      }))
  }

  it.effect("has an unknown outcome at its deadline only where it may have been applied", () =>
    Effect.gen(function*() {
      const lost = yield* cluster({ a: () => broken })
      assert.deepStrictEqual(yield* inTestTime(lost.propose("x")), Exit.fail(new OutcomeUnknown()))
      const refused = yield* cluster({
        a: (commands) => Effect.succeed(commands.map(() => Exit.fail(new Redirected())))
      })
      assert.strictEqual((yield* Effect.flip(Effect.flatten(inTestTime(refused.propose("x")))))._tag, "NoLeader")
    }))

  it.effect("is not sent again when the server says that it is too large", () =>
    Effect.gen(function*() {
      const tooLarge = new TooLarge({ sizeBytes: 2, limitBytes: 1 })
      const { batches, propose } = yield* cluster({
        a: (commands) => Effect.succeed(commands.map(() => Exit.fail(tooLarge)))
      })
      assert.deepStrictEqual(yield* inTestTime(propose("x")), Exit.fail(tooLarge))
      assert.strictEqual(batches.length, 1)
    }))

  it.effect("has an unknown outcome where a server says that it is too large, and another may have taken it before", () =>
    Effect.gen(function*() {
      const { propose } = yield* cluster({
        a: atFirst(1, (_, apply) => Effect.andThen(Effect.sync(apply), broken)),
        b: (commands) => Effect.succeed(commands.map(() => Exit.fail(new TooLarge({ sizeBytes: 2, limitBytes: 1 }))))
      })
      assert.deepStrictEqual(yield* inTestTime(propose("x")), Exit.fail(new OutcomeUnknown()))
    }))
})

describe("a session", () => {
  it.effect("is opened once, by the first command, and commands that are made at the same time travel together", () =>
    Effect.gen(function*() {
      const { batches, propose, state } = yield* cluster({ a: wellBehaved })
      assert.strictEqual(state.opened, 0)
      const answers = yield* Effect.forEach(["x", "y", "z"], propose, { concurrency: "unbounded" })
      assert.deepStrictEqual(answers, ["x as 1", "y as 2", "z as 3"])
      yield* propose("w")
      assert.strictEqual(state.opened, 1)
      assert.deepStrictEqual(batches.map((batch) => batch.length), [3, 1])
    }))

  it.effect("says with each command which answers its client still waits for", () =>
    Effect.gen(function*() {
      const { batches, propose } = yield* cluster({ a: wellBehaved })
      for (const text of ["x", "y", "z"]) yield* propose(text)
      const places = batches.flat().map(({ sequenced }) => [sequenced?.sequence, sequenced?.firstUnanswered])
      assert.deepStrictEqual(places, [[1, 1], [2, 2], [3, 3]])
    }))

  it.effect("never has more commands under way than the table keeps answers for, so that none loses its answer", () =>
    Effect.gen(function*() {
      let held = true
      const { batches, executed, propose } = yield* cluster({
        // The first command's answer is lost until all others that may are applied.
        a: (commands, apply) => {
          const answers = apply()
          const isFirst = commands.some(({ sequenced }) => sequenced?.sequence === 1)
          return isFirst && held ? broken : Effect.succeed(answers)
        }
      }, { backoffMsMin: 100, backoffMsMax: 100 })
      const count = answersMax + 500
      const all = yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: count }, (_, i) => `c${i + 1}`), propose, { concurrency: "unbounded" })
      )
      yield* TestClock.adjust(1000)
      const furthest = () => Math.max(...batches.flat().map(({ sequenced }) => sequenced?.sequence ?? 0))
      assert.isAtMost(furthest(), answersMax)
      held = false
      yield* TestClock.adjust(1000)
      yield* Fiber.join(all)
      assert.strictEqual(furthest(), count)
      assert.strictEqual(executed.length, count)
      assert.strictEqual(new Set(executed).size, count)
    }))

  it.effect("that has expired is replaced for commands that it never executed", () =>
    Effect.gen(function*() {
      const { executed, propose, state } = yield* cluster({ a: wellBehaved })
      yield* propose("x")
      state.timeMs += 10_000
      assert.deepStrictEqual(yield* inTestTime(propose("y")), Exit.succeed("y as 2"))
      assert.strictEqual(state.opened, 2)
      assert.deepStrictEqual(executed, ["x", "y"])
    }))

  it.effect("that has expired is the end of a command that it may have executed: its outcome is unknown, and it is not sent as new", () =>
    Effect.gen(function*() {
      let isFirst = true
      const { executed, propose, state } = yield* cluster({
        a: (_, apply) => {
          const answers = apply()
          if (!isFirst) return Effect.succeed(answers)
          isFirst = false
          state.timeMs += 10_000
          return broken
        }
      })
      const error = yield* Effect.flip(Effect.flatten(inTestTime(propose("x"))))
      assert.deepStrictEqual([error._tag, error.outcome], ["SessionExpired", "unknown"])
      assert.deepStrictEqual(executed, ["x"])
    }))

  it.effect("that has expired is no leave to send again what a server knew nothing certain of", () =>
    Effect.gen(function*() {
      let isFirst = true
      const { executed, propose, state } = yield* cluster({
        a: (_, apply) => {
          const answers = apply()
          if (!isFirst) return Effect.succeed(answers)
          isFirst = false
          state.timeMs += 10_000
          return Effect.succeed(answers.map(() => Exit.fail(new OutcomeUnknown())))
        }
      })
      assert.strictEqual((yield* Effect.flip(Effect.flatten(inTestTime(propose("x")))))._tag, "SessionExpired")
      assert.deepStrictEqual(executed, ["x"])
    }))

  it.effect("that has expired holds nobody up, though a command waits to be sent again in it", () =>
    Effect.gen(function*() {
      const sent: Array<string> = []
      const { propose, state } = yield* cluster({
        a: (commands, apply) => {
          const texts = commands.map(({ command }) => new TextDecoder().decode(command)).join()
          sent.push(`${texts} in ${commands[0]?.sequenced?.session}`)
          if (sent.length === 1) return Effect.delay(Effect.sync(apply), 20)
          if (sent.length > 2) return Effect.sync(apply)
          state.timeMs += 10_000
          return broken
        }
      }, { backoffMsMin: 100, backoffMsMax: 100 })
      const y = yield* Effect.forkChild(Effect.exit(propose("y")))
      yield* TestClock.adjust(1)
      const x = yield* Effect.forkChild(Effect.exit(propose("x")))
      yield* TestClock.adjust(1000)
      const z = yield* Effect.forkChild(Effect.exit(propose("z")))
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(yield* Fiber.join(x), Exit.fail(new SessionExpired()))
      assert.deepStrictEqual([yield* Fiber.join(y), yield* Fiber.join(z)], [
        Exit.succeed("y as 1"),
        Exit.succeed("z as 2")
      ])
      assert.deepStrictEqual(sent, ["y in 1", "x in 1", "y in 3", "x in 1", "z in 3"])
    }))

  it.effect("goes on after a caller has given up: its command counts as answered, and is not waited for", () =>
    Effect.gen(function*() {
      const { batches, propose } = yield* cluster({
        a: (commands, apply) => commands[0]?.sequenced?.sequence === 1 ? Effect.never : Effect.sync(apply)
      })
      const first = yield* Effect.forkChild(propose("x"))
      yield* TestClock.adjust(1)
      yield* Fiber.interrupt(first)
      yield* propose("y")
      assert.deepStrictEqual(batches[1]?.[0]?.sequenced?.firstUnanswered, 2)
    }))
})

describe("requests that are asked at the same time", () => {
  it.effect("are one batch, and the next one goes once as many wait as are under way", () =>
    Effect.gen(function*() {
      const answered: Array<Deferred.Deferred<void>> = []
      const { batches, propose } = yield* cluster({
        a: (_, apply) =>
          Effect.suspend(() => {
            const isAnswered = Deferred.makeUnsafe<void>()
            answered.push(isAnswered)
            return Effect.map(Deferred.await(isAnswered), apply)
          })
      })
      const ask = (count: number) =>
        Effect.andThen(
          Effect.forEach(
            Array.from({ length: count }),
            () => Effect.forkChild(propose("x"), { startImmediately: true })
          ),
          TestClock.adjust(1)
        )
      const sizes = () => batches.map((batch) => batch.length)
      yield* ask(4)
      assert.deepStrictEqual(sizes(), [4])
      yield* ask(3)
      assert.deepStrictEqual(sizes(), [4])
      yield* ask(1)
      assert.deepStrictEqual(sizes(), [4, 4])
      yield* ask(7)
      assert.deepStrictEqual(sizes(), [4, 4])
      for (const isAnswered of answered) yield* Deferred.succeed(isAnswered, undefined)
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(sizes(), [4, 4, 7])
    }))
})
