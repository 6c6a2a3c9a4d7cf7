/**
 * What several routes answer alike: refusals with their headers, and the way to the leader.
 */
import * as Effect from "effect/Effect"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import { isPassing } from "../../services/RaftNode.ts"
import type { UrlOf } from "../../services/ServerStatus.ts"
import * as Api from "./Api.ts"
import * as RequestBody from "./RequestBody.ts"

/** Finds the base URL of a server, for redirects and status. */
export interface Urls {
  readonly urlOf: UrlOf
}

export type Request = HttpServerRequest.HttpServerRequest
export type Answer = HttpServerResponse.HttpServerResponse

type WithHeaders =
  | Api.KeyNotFound
  | Api.NotLeader
  | Api.NoLeader
  | Api.Overloaded
  | Api.ReadUnconfirmed
  | Api.Behind
  | Api.ChangeRefused
  | Api.Stopped
  | Api.OutcomeUnknown

/** Errors that come with a header: answered as they are; the others leave their encoding to `Api`. */
export const withHeaders = (
  error: WithHeaders,
  status: 307 | 404 | 409 | 503 | 504,
  headers: Readonly<Record<string, string>>
): Effect.Effect<Answer> => {
  // An error's message is not among its enumerable fields.
  const body = error.message === "" ? error : { ...error, message: error.message }
  return Effect.succeed(HttpServerResponse.jsonUnsafe({ ...body }, { status, headers }))
}

const retryAfter = { "retry-after": "1" }

/** Nothing was done, and the same request may well succeed a second later. */
export const later = (
  error: Exclude<WithHeaders, Api.KeyNotFound | Api.NotLeader | Api.ChangeRefused | Api.OutcomeUnknown>
): Effect.Effect<Answer> => withHeaders(error, 503, retryAfter)

/** Sends the client to the leader: same request, other server. */
export const redirect = ({ urlOf }: Urls, request: Request, leader: string | undefined): Effect.Effect<Answer> => {
  const url = leader === undefined ? undefined : urlOf(leader)
  if (leader === undefined || url === undefined) return later(new Api.NoLeader())
  return withHeaders(new Api.NotLeader({ leader }), 307, { location: url.replace(/\/+$/, "") + request.url })
}

/**
 * A web page may post to any address that its reader's machine reaches, loopback included, and browsers ask nobody for a plain body. They do
 * send `Origin` with it, which programs do not.
 */
export const onlyPrograms = (request: Request): Effect.Effect<void, Api.Forbidden> =>
  request.headers["origin"] === undefined
    ? Effect.void
    : Effect.andThen(
      RequestBody.drain(request),
      Effect.fail(
        new Api.Forbidden({ message: "programs ask this, not web pages: a request with an Origin is refused" })
      )
    )

/** Refused as things stand; some reasons pass by themselves. */
export const changeRefused = (refused: Api.ChangeRefused): Effect.Effect<Answer> =>
  withHeaders(refused, 409, isPassing(refused.reason) ? retryAfter : {})

const formatIssue = SchemaIssue.makeFormatterStandardSchemaV1()

/** What Schema says about a bad request, with the name of the parameter in front. */
export const badRequest = ({ issue }: Schema.SchemaError): Api.BadRequest => {
  const [first] = formatIssue(issue).issues
  const path = first?.path?.map((part) => String(typeof part === "object" ? part.key : part)) ?? []
  return new Api.BadRequest({ message: [path.join("."), first?.message].filter(Boolean).join(": ") })
}
