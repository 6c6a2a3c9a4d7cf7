/**
 * The key-value store over HTTP, answered from this process's node: the routes of `Api.ts` and `/openapi.json`.
 *
 * ```ts
 * HttpRouter.serve(KvHttp.layer({ urlOf: (id) => urls[id] }), { routerConfig: KvHttp.routerConfig }).pipe(
 *   Layer.provide(raftNode),                     // outside of `serve`, which would build a node of its own
 *   Layer.provide(NodeHttpServer.layer(…))
 * )
 * ```
 */
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerError from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Configuration from "../../domain/Configuration.ts"
import * as RaftNode from "../../services/RaftNode.ts"
import { report, type UrlOf } from "../../services/ServerStatus.ts"
import * as SnapshotReport from "../../services/SnapshotReport.ts"
import { badRequest, later, onlyPrograms, withHeaders } from "./Answers.ts"
import * as Api from "./Api.ts"
import * as Keys from "./Keys.ts"
import * as Members from "./Members.ts"
import * as Protocol from "./Protocol.ts"
import * as RequestBody from "./RequestBody.ts"
import * as RequestUrl from "./RequestUrl.ts"

export interface Options {
  /** Finds the base URL of a server, for redirects and status. */
  readonly urlOf: UrlOf
  /** The longest value taken, in bytes. Default 1 MiB, at most 8 MiB. */
  readonly valueBytesMax?: number | undefined
}

/** For `HttpRouter.serve`: paths as they are, and keys of any length we allow, however they are encoded. */
export const routerConfig = {
  caseSensitive: true,
  ignoreTrailingSlash: false,
  ignoreDuplicateSlashes: false,
  maxParamLength: 1 << 16
}

/** Longest head of a request, in bytes, for `createServer`: a key may need three characters for each of its bytes. */
export const maxHeaderSize = 64 << 10

/** Why clients had better ask another server, or `undefined` when they need not. */
const unreadiness = ({ configuration, id, lastApplied, leaderId, prevLogIndex, role, term }: RaftNode.Status) => {
  if (Configuration.isUnknown(configuration)) return `${id} waits to be added to its cluster`
  if (!Configuration.isMember(configuration, id)) return `${id} is no member of its cluster: it was removed`
  if (lastApplied < prevLogIndex) return `${id} has lost its state and waits for a snapshot from the leader`
  return leaderId === undefined ? `no leader is known: ${id} is a ${role.toLowerCase()} in term ${term}` : undefined
}

const node = (options: Keys.Options) =>
  HttpApiBuilder.group(Api.Api, "node", (handlers) =>
    Effect.gen(function*() {
      const { status, takeSnapshot } = yield* RaftNode.RaftNode
      return handlers
        .handle("status", () => Effect.map(status, (current) => report(current, options.urlOf)))
        .handle("snapshot", ({ request }) =>
          Effect.andThen(
            onlyPrograms(request),
            Effect.catchTags(SnapshotReport.take({ takeSnapshot }), {
              SnapshotFailed: ({ message }) => Effect.fail(new Api.SnapshotFailed({ message })),
              Stopped: () => later(new Api.Stopped())
            })
          ))
        .handle("livez", () => Effect.succeed({ status: "ok" as const }))
        .handle("readyz", () =>
          Effect.flatMap(status, (current) => {
            const problem = unreadiness(current)
            return problem === undefined
              ? Effect.succeed({ status: "ok" as const, leader: current.leaderId ?? "" })
              : Effect.fail(new Api.NotReady({ message: problem }))
          }))
    }))

const namesParameter = HttpApiMiddleware.layerSchemaErrorTransform(
  Api.NamesParameter,
  (error) =>
    Effect.gen(function*() {
      if (error.kind === "Body" || error.kind === "ResponseHeaders") return yield* Effect.fail(error)
      yield* RequestBody.drain(yield* HttpServerRequest.HttpServerRequest)
      return yield* badRequest(error.cause)
    })
)

const jsonError = (error: Api.BadRequest | Api.NotFound, status: 400 | 404) =>
  Effect.gen(function*() {
    yield* RequestBody.drain(yield* HttpServerRequest.HttpServerRequest)
    return HttpServerResponse.jsonUnsafe({ _tag: error._tag, message: error.message }, { status })
  })

const isUnknownRoute = (error: unknown): boolean =>
  HttpServerError.isHttpServerError(error) && error.reason._tag === "RouteNotFound"

const isRead = ({ method }: HttpServerRequest.HttpServerRequest): boolean => method === "GET" || method === "HEAD"

/**
 * A server that stops interrupts what it is doing, and Effect answers for it: 503 and nothing else, which here would mean that nothing was applied.
 * Of anything but a read that is not known (rule R4).
 */
const sayWhatIsKnown = HttpEffect.appendPreResponseHandler((request, response) => {
  if (response.status !== 503 || response.body._tag !== "Empty") return Effect.succeed(response)
  return isRead(request) ? later(new Api.Stopped()) : withHeaders(new Api.OutcomeUnknown(), 504, {})
})

/** Before routing: refuses URLs that routing would misread. After it: answers unknown paths. Covers the whole server. */
const guard = HttpRouter.use((router) =>
  router.addGlobalMiddleware((routed) =>
    Effect.gen(function*() {
      const request = yield* HttpServerRequest.HttpServerRequest
      yield* sayWhatIsKnown
      const checked = RequestUrl.check(request.url)
      if (checked._tag === "Invalid") return yield* jsonError(new Api.BadRequest({ message: checked.problem }), 400)
      const served = checked.url === request.url
        ? routed
        : Effect.provideService(routed, HttpServerRequest.HttpServerRequest, request.modify({ url: checked.url }))
      return yield* Effect.catchIf(
        served,
        isUnknownRoute,
        () => jsonError(new Api.NotFound({ message: `nothing answers ${request.method} here; see /openapi.json` }), 404)
      )
    })
  )
)

/** The API's routes, to be merged with others inside `HttpRouter.serve`, which must be given `routerConfig`. */
export const layer = (options: Options) => {
  const complete: Keys.Options = {
    urlOf: options.urlOf,
    valueBytesMax: Math.min(options.valueBytesMax ?? Protocol.valueBytesMaxDefault, Protocol.valueBytesMax)
  }
  return Layer.merge(
    HttpApiBuilder.layer(Api.Api, { openapiPath: "/openapi.json" }).pipe(
      Layer.provide([Keys.group(complete), Members.group(complete), node(complete)]),
      Layer.provide(namesParameter)
    ),
    guard
  )
}
