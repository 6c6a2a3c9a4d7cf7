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
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerError from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as SchemaIssue from "effect/SchemaIssue"
import { Buffer } from "node:buffer"
import * as RaftNode from "../../services/RaftNode.ts"
import { report, type UrlOf } from "../../services/ServerStatus.ts"
import * as SnapshotReport from "../../services/SnapshotReport.ts"
import type { Malformed } from "../../services/StateMachine.ts"
import * as Api from "./Api.ts"
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

interface Complete {
  readonly urlOf: UrlOf
  readonly valueBytesMax: number
}

type Request = HttpServerRequest.HttpServerRequest
type Answer = HttpServerResponse.HttpServerResponse

/** Errors that come with a header: answered as they are; the others leave their encoding to `Api`. */
const withHeaders = (
  error:
    | Api.KeyNotFound
    | Api.NotLeader
    | Api.NoLeader
    | Api.Overloaded
    | Api.ReadUnconfirmed
    | Api.Behind
    | Api.Stopped,
  status: 307 | 404 | 503,
  headers: Readonly<Record<string, string>>
): Effect.Effect<Answer> => Effect.succeed(HttpServerResponse.jsonUnsafe({ ...error }, { status, headers }))

const retryAfter = { "retry-after": "1" }

/** Sends the client to the leader: same request, other server. */
const redirect = ({ urlOf }: Complete, request: Request, leader: string | undefined): Effect.Effect<Answer> => {
  const url = leader === undefined ? undefined : urlOf(leader)
  if (leader === undefined || url === undefined) return withHeaders(new Api.NoLeader(), 503, retryAfter)
  return withHeaders(new Api.NotLeader({ leader }), 307, { location: url.replace(/\/+$/, "") + request.url })
}

const refuseWrite = (options: Complete, request: Request) =>
(
  error: RaftNode.ProposeError | Malformed
): Effect.Effect<Answer, Api.OutcomeUnknown | Api.TooLarge | Api.Stopped> => {
  switch (error._tag) {
    case "NotLeader":
      return redirect(options, request, error.leader)
    case "Overloaded":
      return withHeaders(new Api.Overloaded(), 503, retryAfter)
    case "OutcomeUnknown":
      return Effect.fail(new Api.OutcomeUnknown())
    case "TooLarge":
      return Effect.fail(new Api.TooLarge({ message: error.message, limitBytes: error.limitBytes }))
    case "Stopped":
      return withHeaders(new Api.Stopped(), 503, retryAfter)
    case "Malformed":
      return Effect.die(error)
  }
}

/** A follower's reader is never sent elsewhere: it asked this server, and may ask it again. */
const refuseRead = (options: Complete, request: Request, consistency: RaftNode.Consistency | undefined) =>
(
  error: RaftNode.ReadError | RaftNode.StaleReadError | Malformed
): Effect.Effect<Answer> => {
  switch (error._tag) {
    case "NotLeader":
      return consistency === "follower" && error.leader !== undefined
        ? withHeaders(new Api.ReadUnconfirmed(), 503, retryAfter)
        : redirect(options, request, error.leader)
    case "Overloaded":
      return withHeaders(new Api.Overloaded(), 503, retryAfter)
    case "ReadUnconfirmed":
      return withHeaders(new Api.ReadUnconfirmed(), 503, retryAfter)
    case "Behind":
      return withHeaders(new Api.Behind({ minIndex: error.minIndex }), 503, retryAfter)
    case "Stopped":
      return withHeaders(new Api.Stopped(), 503, retryAfter)
    case "Malformed":
      return Effect.die(error)
  }
}

const conditionOf = (query: { readonly "if-revision"?: string }) =>
  query["if-revision"] === undefined ? {} : { ifRevision: Number(query["if-revision"]) }

/** How a read wants to be answered, as its parameters say. */
interface Mode {
  readonly consistency?: RaftNode.Consistency | "stale"
  readonly "min-index"?: string
}

type Staleness = Partial<Record<"titan-applied-index" | "titan-leader-contact-age-ms", string>>

const stalenessOf = ({ appliedIndex, leaderContactAgeMs }: Omit<RaftNode.StaleAnswer, "answer">): Staleness => ({
  "titan-applied-index": String(appliedIndex),
  ...(leaderContactAgeMs === undefined ? {} : { "titan-leader-contact-age-ms": String(Math.round(leaderContactAgeMs)) })
})

const linearizable: Staleness = {}

/** The store behind the node, with every refusal turned into an answer. */
const makeStore = (node: RaftNode.RaftNode["Service"], options: Complete) => {
  const store = Protocol.wire.on(node)
  return {
    propose: <A, E>(
      request: Request,
      command: Protocol.Command,
      onSuccess: (result: Protocol.Result) => Effect.Effect<A, E>
    ) => Effect.matchEffect(store.propose(command), { onSuccess, onFailure: refuseWrite(options, request) }),
    read: <A, E>(
      request: Request,
      { consistency, "min-index": minIndex }: Mode,
      query: Protocol.Query,
      onSuccess: (answer: Protocol.Answer, staleness: Staleness) => Effect.Effect<A, E>
    ): Effect.Effect<A | Answer, E | Api.BadRequest> => {
      if (consistency === "stale") {
        return Effect.matchEffect(
          store.readStale(query, minIndex === undefined ? {} : { minIndex: Number(minIndex) }),
          {
            onSuccess: (stale) => onSuccess(stale.answer, stalenessOf(stale)),
            onFailure: refuseRead(options, request, undefined)
          }
        )
      }
      if (minIndex !== undefined) {
        return Effect.fail(new Api.BadRequest({ message: "min-index: only with consistency=stale" }))
      }
      return Effect.matchEffect(store.read(query, consistency === undefined ? {} : { consistency }), {
        onSuccess: (answer) => onSuccess(answer, linearizable),
        onFailure: refuseRead(options, request, consistency)
      })
    }
  }
}

const unexpected = (what: { readonly _tag: string }) => Effect.die(new Error(`the store answered ${what._tag}`))

type Unchanged = Api.RevisionMismatch | Api.BadRequest

const unchanged = (result: Protocol.Result): Effect.Effect<never, Unchanged> => {
  if (result._tag === "RevisionMismatch") return Effect.fail(new Api.RevisionMismatch({ revision: result.revision }))
  return result._tag === "Invalid" ? Effect.fail(new Api.BadRequest({ message: result.message })) : unexpected(result)
}

const onPut = (result: Protocol.Result): Effect.Effect<{ readonly revision: number }, Unchanged> =>
  result._tag === "Written" ? Effect.succeed({ revision: result.revision }) : unchanged(result)

const onDelete = (
  result: Protocol.Result
): Effect.Effect<{ readonly revision: number; readonly deleted: boolean }, Unchanged> =>
  result._tag === "Deleted"
    ? Effect.succeed({ revision: result.revision, deleted: result.deleted })
    : unchanged(result)

const onGet = (answer: Protocol.Answer, staleness: Staleness) => {
  if (answer._tag === "Missing") {
    return withHeaders(new Api.KeyNotFound({ revision: answer.revision }), 404, staleness)
  }
  if (answer._tag !== "Found") return unexpected(answer)
  return Effect.succeed(HttpServerResponse.uint8Array(answer.value, {
    headers: { "titan-revision": String(answer.revision), "titan-version": String(answer.version), ...staleness }
  }))
}

const onList = (answer: Protocol.Answer, headers: Staleness) => {
  if (answer._tag !== "Listed") return unexpected(answer)
  const items = answer.items.map(({ key, revision, value }) => ({
    key,
    value: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64"),
    revision
  }))
  const body = { items, revision: answer.revision, more: answer.more }
  return Effect.succeed(HttpApiSchema.withHeaders({ body, headers }))
}

const kv = (options: Complete) =>
  HttpApiBuilder.group(Api.Api, "kv", (handlers) =>
    Effect.gen(function*() {
      const { propose, read } = makeStore(yield* RaftNode.RaftNode, options)
      return handlers
        .handleRaw("put", ({ params: { key }, query, request }) =>
          Effect.gen(function*() {
            const body = yield* Effect.orDie(RequestBody.read(request, options.valueBytesMax))
            if (body._tag === "TooLong") {
              const limitBytes = options.valueBytesMax
              return yield* new Api.TooLarge({ message: `a value has at most ${limitBytes} bytes`, limitBytes })
            }
            return yield* propose(request, { _tag: "Put", key, value: body.bytes, ...conditionOf(query) }, onPut)
          }))
        .handle("get", ({ params: { key }, query, request }) => read(request, query, { _tag: "Get", key }, onGet))
        .handle(
          "delete",
          ({ params: { key }, query, request }) =>
            propose(request, { _tag: "Delete", key, ...conditionOf(query) }, onDelete)
        )
        .handle("list", ({ query, request }) => {
          const { after, limit, prefix = "" } = query
          return read(
            request,
            query,
            {
              _tag: "List",
              prefix,
              limit: limit === undefined ? Protocol.listLimitDefault : Number(limit),
              ...(after === undefined ? {} : { after })
            },
            onList
          )
        })
    }))

const node = (options: Complete) =>
  HttpApiBuilder.group(Api.Api, "node", (handlers) =>
    Effect.gen(function*() {
      const { status, takeSnapshot } = yield* RaftNode.RaftNode
      return handlers
        .handle("status", () => Effect.map(status, (current) => report(current, options.urlOf)))
        .handle("snapshot", () =>
          Effect.catchTags(SnapshotReport.take({ takeSnapshot }), {
            SnapshotFailed: ({ message }) => Effect.fail(new Api.SnapshotFailed({ message })),
            Stopped: () => withHeaders(new Api.Stopped(), 503, retryAfter)
          }))
        .handle("livez", () => Effect.succeed({ status: "ok" as const }))
        .handle("readyz", () =>
          Effect.flatMap(status, ({ id, lastApplied, leaderId, prevLogIndex, role, term }) =>
            lastApplied < prevLogIndex
              ? Effect.fail(
                new Api.NotReady({ message: `${id} has lost its state and waits for a snapshot from the leader` })
              )
              : leaderId === undefined
              ? Effect.fail(
                new Api.NotReady({ message: `no leader is known: ${id} is a ${role.toLowerCase()} in term ${term}` })
              )
              : Effect.succeed({ status: "ok" as const, leader: leaderId })))
    }))

const formatIssue = SchemaIssue.makeFormatterStandardSchemaV1()

const namesParameter = HttpApiMiddleware.layerSchemaErrorTransform(
  Api.NamesParameter,
  (error) =>
    Effect.gen(function*() {
      if (error.kind === "Body" || error.kind === "ResponseHeaders") return yield* Effect.fail(error)
      yield* RequestBody.drain(yield* HttpServerRequest.HttpServerRequest)
      const [first] = formatIssue(error.cause.issue).issues
      const name = first?.path?.map((part) => String(typeof part === "object" ? part.key : part)).join(".")
      return yield* new Api.BadRequest({ message: `${name}: ${first?.message}` })
    })
)

const jsonError = (error: Api.BadRequest | Api.NotFound, status: 400 | 404) =>
  Effect.gen(function*() {
    yield* RequestBody.drain(yield* HttpServerRequest.HttpServerRequest)
    return HttpServerResponse.jsonUnsafe({ _tag: error._tag, message: error.message }, { status })
  })

const isUnknownRoute = (error: unknown): boolean =>
  HttpServerError.isHttpServerError(error) && error.reason._tag === "RouteNotFound"

/** Before routing: refuses URLs that routing would misread. After it: answers unknown paths. Covers the whole server. */
const guard = HttpRouter.use((router) =>
  router.addGlobalMiddleware((routed) =>
    Effect.gen(function*() {
      const request = yield* HttpServerRequest.HttpServerRequest
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
  const complete: Complete = {
    urlOf: options.urlOf,
    valueBytesMax: Math.min(options.valueBytesMax ?? Protocol.valueBytesMaxDefault, Protocol.valueBytesMax)
  }
  return Layer.merge(
    HttpApiBuilder.layer(Api.Api, { openapiPath: "/openapi.json" }).pipe(
      Layer.provide([kv(complete), node(complete)]),
      Layer.provide(namesParameter)
    ),
    guard
  )
}
