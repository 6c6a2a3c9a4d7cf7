/**
 * How a server gets into a cluster that is there (`titan serve --join`): it asks servers of the cluster over HTTP, one after the other, until the
 * leader has made it a learner. Asking twice is no mistake, so whatever may pass is tried again, for as long as it takes.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { NodeId } from "../domain/NodeId.ts"
import * as Api from "../layers/kv/Api.ts"
import { CommandFailed, failed } from "./Outcome.ts"

export interface Request {
  readonly id: NodeId
  /** Where the others are to reach it. */
  readonly url: string
  readonly becomes: "voter" | "learner"
  /** Base URLs of servers of the cluster. */
  readonly servers: ReadonlyArray<string>
}

/** This server, or no server at present, could be answered by; another may be. */
class NotNow extends Data.TaggedError("NotNow")<{ readonly reason: string }> {}

const attemptMs = 8000
const pauseMs = 500

const decodeMembers = Schema.decodeUnknownResult(Schema.fromJsonString(Api.Members))
const decodeRefusal = Schema.decodeUnknownResult(
  Schema.fromJsonString(Schema.Struct({ _tag: Schema.String, message: Schema.optionalKey(Schema.String) }))
)

const refused = (message: string, tag?: string): CommandFailed =>
  new CommandFailed({ exitCode: failed, message, ...(tag === undefined ? {} : { tag }) })

/** Sends the request to one server, which redirects it to the leader. */
const post = (server: string, { becomes, id, url }: Request) =>
  Effect.tryPromise({
    try: async (signal) => {
      const response = await fetch(`${server}/v1/members`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ id, url, becomes }),
        signal
      })
      return { status: response.status, retry: response.headers.has("retry-after"), body: await response.text() }
    },
    catch: (error) => {
      const { cause, message } = error as { readonly cause?: { readonly message?: string }; readonly message: string }
      return new NotNow({ reason: `${server}: ${cause?.message ?? message}` })
    }
  }).pipe(
    Effect.timeoutOrElse({
      duration: attemptMs,
      orElse: () => Effect.fail(new NotNow({ reason: `${server}: no answer within ${attemptMs} ms` }))
    })
  )

const attempt = Effect.fnUntraced(function*(server: string, request: Request) {
  const { body, retry, status } = yield* post(server, request)
  if (status === 200) {
    const decoded = decodeMembers(body)
    return Result.isSuccess(decoded)
      ? decoded.success
      : yield* refused(`${server} answered what no server of Titan does: ${body.slice(0, 200)}`)
  }
  const refusal = Result.getOrUndefined(decodeRefusal(body))
  const reason = `${server} answered ${status}: ${refusal?.message ?? refusal?._tag ?? body.slice(0, 200)}`
  // The outcome of a request that was cut short (504) is told by asking again.
  if (retry || status === 503 || status === 504) return yield* new NotNow({ reason })
  return yield* refused(`the cluster refused ${request.id}: ${reason}`, refusal?._tag)
})

/** The members once this server is one of them. Fails when it is refused for good. */
export const ask = Effect.fnUntraced(function*(request: Request) {
  let said: string | undefined
  for (let at = 0;; at++) {
    const server = request.servers[at % request.servers.length] ?? ""
    const attempted = yield* Effect.result(attempt(server, request))
    if (Result.isSuccess(attempted)) return attempted.success
    if (attempted.failure._tag === "CommandFailed") return yield* attempted.failure
    const { reason } = attempted.failure
    if (reason !== said && (at + 1) % request.servers.length === 0) {
      said = reason
      yield* Effect.annotateLogs(Effect.logWarning("cannot join the cluster yet, and tries again"), {
        node: request.id,
        reason
      })
    }
    if ((at + 1) % request.servers.length === 0) yield* Effect.sleep(pauseMs)
  }
})
