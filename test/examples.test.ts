import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { program } from "../examples/embedded.ts"

describe("examples", () => {
  it.live("embedded.ts: three nodes in one process count to two, and a read sees it", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* program, { total: 2, read: 2 })
    }))
})
