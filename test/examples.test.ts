import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { program as counter } from "../examples/counter.ts"
import { program as embedded } from "../examples/embedded.ts"

describe("examples", () => {
  it.live("embedded.ts: three nodes in one process hold a key, and a read finds it", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* embedded, "hello")
    }))

  it.live("counter.ts: three nodes run a state machine of the user's own", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* counter, { total: 2, read: 2 })
    }))
})
