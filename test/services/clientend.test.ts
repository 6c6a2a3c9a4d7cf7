/**
 * The end of a client, and of a server's patience: nobody waits for ever, and nobody is told that nothing happened where something may have.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { unknown } from "../../src/domain/Configuration.ts"
import type { Connection } from "../../src/services/Connection.ts"
import { Lost, make, Redirected } from "../../src/services/RaftClient.ts"
import { ChangeRefused, OutcomeUnknown, Overloaded } from "../../src/services/RaftNode.ts"
import { connected, silent } from "../layers/scriptedServers.ts"

const bytes = Uint8Array.of(1)

const pending = Effect.fail(new ChangeRefused({ reason: "Pending", message: "another change is under way" }))

const refusals: ReadonlyArray<[string, ReturnType<Connection["reconfigure"]>]> = [
  ["that another change is under way", pending],
  ["that the server does not lead", Effect.fail(new Redirected())],
  ["that the server is overloaded", Effect.fail(new Overloaded())]
]

const changes = [{ _tag: "Remove", id: "n3" }] as const

describe("a change of the configuration that may have been made", () => {
  for (const [what, refusal] of refusals) {
    for (
      const [how, first] of [
        ["the connection broke", Effect.fail(new Lost({ reason: "closed" }))],
        ["no answer came in time", Effect.never]
      ] as const
    ) {
      it.effect(`has an unknown outcome: ${how}, and the next answer is ${what}`, () =>
        Effect.gen(function*() {
          let asked = 0
          const { client } = yield* connected({
            a: () => ({ reconfigure: () => Effect.suspend(() => asked++ === 0 ? first : refusal) })
          })
          const fiber = yield* Effect.forkChild(client.reconfigure(changes))
          yield* TestClock.adjust("1 minute")
          assert.deepStrictEqual(yield* Fiber.await(fiber), Exit.fail(new OutcomeUnknown()))
        }))
    }
  }

  it.effect("is refused for certain where the first answer says so", () =>
    Effect.gen(function*() {
      const { client } = yield* connected({ a: () => ({ reconfigure: () => pending }) })
      const error = yield* Effect.flip(client.reconfigure(changes))
      assert.deepStrictEqual([error._tag, error.outcome], ["ChangeRefused", "not-applied"])
    }))

  it.effect("is done where it is found done when it is asked for again", () =>
    Effect.gen(function*() {
      let asked = 0
      const { client } = yield* connected({
        a: () => ({
          reconfigure: () =>
            Effect.suspend(() => asked++ === 0 ? Effect.fail(new Lost({ reason: "" })) : Effect.succeed(unknown))
        })
      })
      const fiber = yield* Effect.forkChild(client.reconfigure(changes))
      yield* TestClock.adjust("1 minute")
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(fiber)))
    }))
})

describe("a client that is closed", () => {
  it.effect("interrupts whoever waits, and whoever asks after that", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const client = yield* Scope.provide(
        make({ endpoints: ["a"] }, () => Effect.succeed({ ...silent, openSession: Effect.succeed(1) })),
        scope
      )
      const waiting = yield* Effect.forkChild(client.propose(bytes))
      yield* TestClock.adjust(10)
      yield* Scope.close(scope, Exit.void)
      for (const fiber of [waiting, yield* Effect.forkChild(client.propose(bytes))]) {
        yield* TestClock.adjust(1)
        const exit = fiber.pollUnsafe()
        assert.isTrue(exit !== undefined && Exit.isFailure(exit) && Cause.hasInterrupts(exit.cause))
      }
    }))
})

describe("a transport that breaks a promise", () => {
  it.effect("fails those that wait for it, with an outcome that is unknown, and serves the next ones", () =>
    Effect.gen(function*() {
      let isBroken = true
      const { client } = yield* connected({
        a: () => {
          if (isBroken) throw new Error("a bug")
          return { propose: (commands) => Effect.succeed(commands.map(({ command }) => Exit.succeed(command))) }
        }
      })
      const fiber = yield* Effect.forkChild(client.propose(bytes))
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(fiber.pollUnsafe(), Exit.fail(new OutcomeUnknown()))
      isBroken = false
      assert.deepStrictEqual(yield* client.propose(bytes), bytes)
    }))
})
