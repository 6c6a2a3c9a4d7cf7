import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RaftClientHttp from "../../src/layers/RaftClientHttp.ts"

describe("endpoints that are no URLs", () => {
  for (const endpoints of [[], ["http://127.0.0.1:1", "127.0.0.1:7101"], ["ftp://127.0.0.1"], ["nonsense"]]) {
    it.live(`no client is built on ${JSON.stringify(endpoints)}`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Layer.build(RaftClientHttp.layer({ endpoints })))
        assert.strictEqual(error._tag, "SettingsError")
      }))
  }
})
