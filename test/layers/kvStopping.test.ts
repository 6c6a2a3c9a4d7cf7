/**
 * A server that stops answers what it is asked meanwhile with what is known of it (rule R4).
 */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as FakeNode from "./fakeNode.ts"
import { bytes, json, send, start } from "./httpRequests.ts"

const cases = [
  ["PUT", "/v1/kv/a", 504, { _tag: "OutcomeUnknown", outcome: "unknown" }],
  ["DELETE", "/v1/kv/a", 504, { _tag: "OutcomeUnknown", outcome: "unknown" }],
  ["DELETE", "/v1/members/n1", 504, { _tag: "OutcomeUnknown", outcome: "unknown" }],
  ["POST", "/v1/sessions", 504, { _tag: "OutcomeUnknown", outcome: "unknown" }],
  ["GET", "/v1/kv/a", 503, { _tag: "Stopped", outcome: "not-applied" }]
] as const

describe("a request that is under way when its server stops", () => {
  for (const [method, path, status, body] of cases) {
    it.live(`${method} ${path} is answered ${status} ${body._tag}`, () =>
      Effect.gen(function*() {
        const node = FakeNode.make()
        const isAsked = yield* Deferred.make<void>()
        const unanswered = Effect.andThen(Deferred.succeed(isAsked, undefined), Effect.never)
        node.onPropose = unanswered
        node.onChange = unanswered
        node.onOpenSession = unanswered
        node.onRead = unanswered
        const scope = yield* Scope.make()
        const { url } = yield* Scope.provide(start({ node }), scope)
        const asking = yield* Effect.forkChild(send(`${url}${path}`, method, method === "PUT" ? bytes("v") : undefined))
        yield* Deferred.await(isAsked)
        yield* Scope.close(scope, Exit.void)
        const reply = yield* Fiber.join(asking)
        assert.strictEqual(reply.status, status)
        assert.deepStrictEqual(json(reply), body)
      }))
  }
})
