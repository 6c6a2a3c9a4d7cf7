/**
 * The paths where programs talk RPC: what they answer to everybody else.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Http from "node:http"
import * as ClientHttp from "../../src/layers/ClientHttp.ts"
import * as FakeNode from "./fakeNode.ts"

const upgrade = {
  connection: "Upgrade",
  upgrade: "websocket",
  "sec-websocket-version": "13",
  "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="
}

/** The status of the answer: 101 where the connection became a WebSocket. */
const statusOf = (url: string, headers: Record<string, string>) =>
  Effect.callback<number, Error>((resume) => {
    const request = Http.get(url, { headers, agent: false }, (response) => {
      response.resume()
      resume(Effect.succeed(response.statusCode ?? 0))
    })
    request.on("upgrade", (_, socket) => {
      socket.destroy()
      resume(Effect.succeed(101))
    })
    request.on("error", (error) => resume(Effect.fail(error)))
  })

const served = Effect.map(
  Effect.suspend(() => FakeNode.serve(FakeNode.make(), ClientHttp.layer({ urlOf: () => undefined }))),
  (url) => `${url}/rpc`
)

describe("an RPC path", () => {
  it.live("accepts the WebSocket of a program", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* statusOf(yield* served, upgrade), 101)
    }))

  it.live("refuses the WebSocket of a web page, wherever that comes from", () =>
    Effect.gen(function*() {
      const url = yield* served
      for (const origin of ["https://example.org", "http://127.0.0.1:7101", "null"]) {
        assert.strictEqual(yield* statusOf(url, { ...upgrade, origin }), 403, origin)
      }
    }))

  it.live("tells a plain request that a WebSocket is needed", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* statusOf(yield* served, {}), 426)
    }))
})
