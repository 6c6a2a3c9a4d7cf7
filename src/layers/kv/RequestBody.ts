/**
 * Request bodies, read to their end whatever the answer: a client that is still sending reads no answer, and sees a broken connection.
 */
import * as Effect from "effect/Effect"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Stream from "effect/Stream"

/** A body beyond this many bytes is not waited for: its connection closes. */
const drainBytesMax = 64 << 20

type Body =
  | { readonly _tag: "Read"; readonly bytes: Uint8Array }
  | { readonly _tag: "TooLong" }

/** The client has not sent the body: it waits to be asked for it. */
const isWaiting = (request: HttpServerRequest.HttpServerRequest): boolean =>
  request.headers["expect"]?.toLowerCase() === "100-continue"

const declaredBytes = (request: HttpServerRequest.HttpServerRequest): number | undefined => {
  const header = request.headers["content-length"]
  return header === undefined ? undefined : Number(header)
}

/** Reads what there is of the body, keeping nothing. */
export const drain = (request: HttpServerRequest.HttpServerRequest): Effect.Effect<void> => {
  if (isWaiting(request) || (declaredBytes(request) ?? 0) > drainBytesMax) return Effect.void
  let bytes = 0
  return request.stream.pipe(
    Stream.takeWhile((chunk) => (bytes += chunk.length) <= drainBytesMax),
    Stream.runDrain,
    Effect.ignore
  )
}

/** The whole body, if it has at most `limitBytes`. Otherwise it is drained and dropped. Fails when the client goes away. */
export const read = (request: HttpServerRequest.HttpServerRequest, limitBytes: number) =>
  Effect.gen(function*() {
    const declared = declaredBytes(request)
    if (declared !== undefined && declared > limitBytes) {
      yield* drain(request)
      return { _tag: "TooLong" } as Body
    }
    if (declared !== undefined) {
      return { _tag: "Read", bytes: new Uint8Array(yield* request.arrayBuffer) } as Body
    }
    const chunks: Array<Uint8Array> = []
    let size = 0
    yield* request.stream.pipe(
      Stream.takeWhile((chunk) => {
        size += chunk.length
        if (size <= limitBytes) chunks.push(chunk)
        else chunks.length = 0
        return size <= drainBytesMax
      }),
      Stream.runDrain
    )
    return size > limitBytes ? { _tag: "TooLong" } as Body : { _tag: "Read", bytes: joined(chunks, size) } as Body
  })

/** More than any JSON that is asked for here has. */
const jsonBytesMax = 64 << 10

/** The body as JSON, whatever its content type says: `curl -d` calls it a form. No body at all is `{}`. */
export const json = (
  request: HttpServerRequest.HttpServerRequest
): Effect.Effect<{ readonly value: unknown } | { readonly problem: string }> =>
  Effect.map(Effect.orDie(read(request, jsonBytesMax)), (body) => {
    if (body._tag === "TooLong") return { problem: `body: at most ${jsonBytesMax} bytes are taken` }
    const text = new TextDecoder().decode(body.bytes)
    try {
      return { value: text.trim() === "" ? {} : JSON.parse(text) as unknown }
    } catch {
      return { problem: "body: must be JSON" }
    }
  })

const joined = (chunks: ReadonlyArray<Uint8Array>, size: number): Uint8Array => {
  const bytes = new Uint8Array(size)
  let at = 0
  for (const chunk of chunks) {
    bytes.set(chunk, at)
    at += chunk.length
  }
  return bytes
}
