import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { listener } from "../../src/cli/Server.ts"

describe("a server that listens before its routes are attached", () => {
  it.live("answers 503 not-applied instead of never, and leaves every request to the routes once they are there", () =>
    Effect.gen(function*() {
      const server = yield* Effect.acquireRelease(
        Effect.sync(listener),
        (server) =>
          Effect.callback<void>((resume) => {
            server.close(() => resume(Effect.void))
          })
      )
      const port = yield* Effect.callback<number>((resume) => {
        server.listen(0, "127.0.0.1", () => {
          const address = server.address()
          resume(Effect.succeed(typeof address === "object" ? address?.port ?? 0 : 0))
        })
      })
      const get = Effect.promise((signal) =>
        fetch(`http://127.0.0.1:${port}/v1/kv/a`, { signal, headers: { connection: "close" } })
      )
      const early = yield* get
      assert.strictEqual(early.status, 503)
      assert.deepStrictEqual(yield* Effect.promise(() => early.json()), { _tag: "NoLeader", outcome: "not-applied" })
      server.on("request", (_, response) => response.end("routed"))
      assert.strictEqual(yield* Effect.flatMap(get, (late) => Effect.promise(() => late.text())), "routed")
    }))
})
