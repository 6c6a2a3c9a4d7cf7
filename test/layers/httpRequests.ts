/**
 * Requests to a key-value server with a fake node behind it.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Http from "node:http"
import * as ClientHttp from "../../src/layers/ClientHttp.ts"
import * as KvHttp from "../../src/layers/kv/Http.ts"
import * as FakeNode from "./fakeNode.ts"

export interface Reply {
  readonly status: number
  readonly clientPort: number | undefined
  readonly headers: Http.IncomingHttpHeaders
  readonly body: Buffer
}

/** One request by node:http, which, unlike fetch, sends paths as they are and reports broken sockets. */
export const send = (
  url: string,
  method = "GET",
  body?: Uint8Array,
  headers: Record<string, string> = {},
  agent?: Http.Agent
) =>
  Effect.callback<Reply, Error>((resume) => {
    const { hostname, port } = new URL(url)
    const path = url.slice(url.indexOf("/", "http://".length))
    const request = Http.request({ hostname, port, path, method, headers, ...(agent ? { agent } : {}) }, (response) => {
      const clientPort = response.socket.localPort
      const chunks: Array<Buffer> = []
      response.on("data", (chunk: Buffer) => chunks.push(chunk))
      response.on("error", (error) => resume(Effect.fail(error)))
      response.on("end", () => {
        resume(Effect.succeed({
          status: response.statusCode ?? 0,
          clientPort,
          headers: response.headers,
          body: Buffer.concat(chunks)
        }))
      })
    })
    request.on("error", (error) => resume(Effect.fail(error)))
    request.end(body)
  })

export const json = (reply: Reply): unknown => JSON.parse(reply.body.toString())
export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
export const keyPath = (key: string): string => `/v1/kv/${encodeURIComponent(key)}`

export const start = (options: Partial<KvHttp.Options> & { readonly node?: FakeNode.FakeNode } = {}) =>
  Effect.gen(function*() {
    const node = options.node ?? FakeNode.make()
    const urlOf = options.urlOf ?? (() => undefined)
    const url = yield* FakeNode.serve(
      node,
      Layer.merge(KvHttp.layer({ ...options, urlOf }), ClientHttp.layer({ urlOf }))
    )
    return { node, url }
  })
