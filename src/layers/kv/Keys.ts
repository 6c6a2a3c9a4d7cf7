/**
 * The routes of keys and of sessions: `/v1/kv`, `/v1/sessions`.
 */
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type { Sequenced } from "../../domain/Entry.ts"
import * as RaftNode from "../../services/RaftNode.ts"
import type { Malformed } from "../../services/StateMachine.ts"
import { bufferOf } from "../Bytes.ts"
import { type Answer, later, onlyPrograms, redirect, type Request, type Urls, withHeaders } from "./Answers.ts"
import * as Api from "./Api.ts"
import * as Protocol from "./Protocol.ts"
import * as RequestBody from "./RequestBody.ts"

export interface Options extends Urls {
  /** The longest value taken, in bytes. */
  readonly valueBytesMax: number
}

const refuseWrite = (options: Options, request: Request) =>
(
  error: RaftNode.ProposeError | RaftNode.SessionExpired | Malformed
): Effect.Effect<Answer, Api.OutcomeUnknown | Api.TooLarge | Api.SessionExpired> => {
  switch (error._tag) {
    case "NotLeader":
      return redirect(options, request, error.leader)
    case "Overloaded":
      return later(new Api.Overloaded())
    case "OutcomeUnknown":
      return Effect.fail(new Api.OutcomeUnknown())
    case "SessionExpired":
      return Effect.fail(new Api.SessionExpired({ message: error.message, outcome: error.outcome }))
    case "TooLarge":
      return Effect.fail(new Api.TooLarge({ message: error.message, limitBytes: error.limitBytes }))
    case "Stopped":
      return later(new Api.Stopped())
    case "Malformed":
      return Effect.die(error)
  }
}

const refuseOpening = (options: Options, request: Request) =>
(
  error: RaftNode.OpenError
): Effect.Effect<Answer, Api.OutcomeUnknown> => {
  switch (error._tag) {
    case "NotLeader":
      return redirect(options, request, error.leader)
    case "Overloaded":
      return later(new Api.Overloaded())
    case "OutcomeUnknown":
      return Effect.fail(new Api.OutcomeUnknown())
    case "Stopped":
      return later(new Api.Stopped())
  }
}

/** A follower's reader is never sent elsewhere: it asked this server, and may ask it again. */
const refuseRead = (options: Options, request: Request, consistency: RaftNode.Consistency | undefined) =>
(
  error: RaftNode.ReadError | RaftNode.StaleReadError | Malformed
): Effect.Effect<Answer> => {
  switch (error._tag) {
    case "NotLeader":
      return consistency === "follower" && error.leader !== undefined
        ? later(new Api.ReadUnconfirmed())
        : redirect(options, request, error.leader)
    case "Overloaded":
      return later(new Api.Overloaded())
    case "ReadUnconfirmed":
      return later(new Api.ReadUnconfirmed())
    case "Behind":
      return later(new Api.Behind({ minIndex: error.minIndex }))
    case "Stopped":
      return later(new Api.Stopped())
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

type SessionHeaders = Partial<Record<"titan-session" | "titan-sequence" | "titan-first-unanswered", string>>

const bad = (message: string): Effect.Effect<never, Api.BadRequest> => Effect.fail(new Api.BadRequest({ message }))

const withoutSession: Sequenced | undefined = undefined

/** What the headers say of a write's place in a session, if they do. */
const sequencedOf = (headers: SessionHeaders): Effect.Effect<Sequenced | undefined, Api.BadRequest> => {
  const { "titan-first-unanswered": first, "titan-sequence": sequence, "titan-session": session } = headers
  if (session === undefined && sequence === undefined) {
    return first === undefined
      ? Effect.succeed(withoutSession)
      : bad("titan-first-unanswered: only with titan-session and titan-sequence")
  }
  if (session === undefined) return bad("titan-session: missing beside titan-sequence")
  if (sequence === undefined) return bad("titan-sequence: missing beside titan-session")
  const firstUnanswered = Number(first ?? 1)
  return firstUnanswered > Number(sequence)
    ? bad("titan-first-unanswered: must not be above titan-sequence, which has no answer yet")
    : Effect.succeed({ session: Number(session), sequence: Number(sequence), firstUnanswered })
}

/** The store behind the node, with every refusal turned into an answer. */
const makeStore = (node: RaftNode.RaftNode["Service"], options: Options) => {
  const store = Protocol.wire.on(node)
  return {
    propose: <A, E>(
      request: Request,
      command: Protocol.Command,
      sequenced: Sequenced | undefined,
      onSuccess: (result: Protocol.Result) => Effect.Effect<A, E>
    ) => {
      const target = sequenced === undefined ? store : Protocol.wire.on({
        propose: (bytes) => node.proposeInSession(bytes, sequenced),
        read: node.read
      })
      return Effect.matchEffect(target.propose(command), { onSuccess, onFailure: refuseWrite(options, request) })
    },
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

/** The first answer to this number of the session (rule R4), which was given to a request of another kind. */
const otherWrite = () =>
  bad(
    "titan-sequence: another write was applied with this number, and this one was not: a new write needs a new number"
  )

type Unchanged = Api.RevisionMismatch | Api.BadRequest

const unchanged = (result: Protocol.Result): Effect.Effect<never, Unchanged> => {
  if (result._tag === "RevisionMismatch") return Effect.fail(new Api.RevisionMismatch({ revision: result.revision }))
  return result._tag === "Invalid" ? bad(result.message) : otherWrite()
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
    value: bufferOf(value).toString("base64"),
    revision
  }))
  const body = { items, revision: answer.revision, more: answer.more }
  return Effect.succeed(HttpApiSchema.withHeaders({ body, headers }))
}

export const group = (options: Options) =>
  HttpApiBuilder.group(Api.Api, "kv", (handlers) =>
    Effect.gen(function*() {
      const node = yield* RaftNode.RaftNode
      const { propose, read } = makeStore(node, options)
      return handlers
        .handleRaw("put", ({ headers, params: { key }, query, request }) =>
          Effect.gen(function*() {
            const sequenced = yield* Effect.tapError(sequencedOf(headers), () => RequestBody.drain(request))
            const body = yield* Effect.orDie(RequestBody.read(request, options.valueBytesMax))
            if (body._tag === "TooLong") {
              const limitBytes = options.valueBytesMax
              return yield* new Api.TooLarge({ message: `a value has at most ${limitBytes} bytes`, limitBytes })
            }
            const command = { _tag: "Put" as const, key, value: body.bytes, ...conditionOf(query) }
            return yield* propose(request, command, sequenced, onPut)
          }))
        .handle("get", ({ params: { key }, query, request }) => read(request, query, { _tag: "Get", key }, onGet))
        .handle("delete", ({ headers, params: { key }, query, request }) =>
          Effect.flatMap(
            sequencedOf(headers),
            (sequenced) => propose(request, { _tag: "Delete", key, ...conditionOf(query) }, sequenced, onDelete)
          ))
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
        .handle("openSession", ({ request }) =>
          Effect.andThen(
            onlyPrograms(request),
            Effect.matchEffect(node.openSession, {
              onSuccess: (session) => Effect.succeed({ session }),
              onFailure: refuseOpening(options, request)
            })
          ))
    }))
