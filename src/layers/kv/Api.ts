/**
 * The HTTP API as a declaration: what `/openapi.json` shows, what requests are decoded with, and where each error's status is said.
 * `Http.ts` answers it.
 */
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Schema from "effect/Schema"
import { changesMax } from "../../domain/Configuration.ts"
import { isNodeId, nodeIdRule } from "../../domain/NodeId.ts"
import { sequenceMax } from "../../domain/Session.ts"
import { Member, ServerStatus, version } from "../../services/ServerStatus.ts"
import { SnapshotReport } from "../../services/SnapshotReport.ts"
import * as Protocol from "./Protocol.ts"
import { serverUrlProblem } from "./RequestUrl.ts"

const notApplied = { outcome: Schema.tag("not-applied") }

/** The request cannot be understood; `message` names the parameter. */
export class BadRequest extends Schema.TaggedError<BadRequest>()("BadRequest", { message: Schema.String }, {
  httpApiStatus: 400
}) {}
export class NotFound extends Schema.TaggedError<NotFound>()("NotFound", { message: Schema.String }, {
  httpApiStatus: 404
}) {}
/** There is no such key. `revision`: of the store's last mutation. */
export class KeyNotFound extends Schema.TaggedError<KeyNotFound>()("KeyNotFound", { revision: Protocol.Revision }, {
  httpApiStatus: 404
}) {}
/** Nothing changed: the key's revision is `revision`, 0 where there is no such key. */
export class RevisionMismatch extends Schema.TaggedError<RevisionMismatch>()(
  "RevisionMismatch",
  { revision: Protocol.Revision },
  { httpApiStatus: 409 }
) {}
export class TooLarge extends Schema.TaggedError<TooLarge>()("TooLarge", {
  message: Schema.String,
  limitBytes: Schema.Int,
  ...notApplied
}, { httpApiStatus: 413 }) {}
/** Comes with `Location`, the same request at the leader: every HTTP client can follow it with method and body. */
export class NotLeader extends Schema.TaggedError<NotLeader>()("NotLeader", { leader: Schema.String, ...notApplied }, {
  httpApiStatus: 307
}) {}
export class NoLeader extends Schema.TaggedError<NoLeader>()("NoLeader", notApplied, { httpApiStatus: 503 }) {}
export class Overloaded extends Schema.TaggedError<Overloaded>()("Overloaded", notApplied, { httpApiStatus: 503 }) {}
export class ReadUnconfirmed extends Schema.TaggedError<ReadUnconfirmed>()("ReadUnconfirmed", notApplied, {
  httpApiStatus: 503
}) {}
export class Stopped extends Schema.TaggedError<Stopped>()("Stopped", notApplied, { httpApiStatus: 503 }) {}
/** This server has not applied `minIndex` in time: nothing was answered. */
export class Behind extends Schema.TaggedError<Behind>()("Behind", { minIndex: Schema.Int, ...notApplied }, {
  httpApiStatus: 503
}) {}
export class OutcomeUnknown extends Schema.TaggedError<OutcomeUnknown>()(
  "OutcomeUnknown",
  { outcome: Schema.tag("unknown") },
  { httpApiStatus: 504 }
) {}
/** The command was not executed this time; whether an earlier attempt was, nobody can tell any more. */
export class SessionExpired extends Schema.TaggedError<SessionExpired>()("SessionExpired", {
  message: Schema.String,
  outcome: Schema.Literals(["not-applied", "unknown"])
}, { httpApiStatus: 410 }) {}
/** Nothing changed; `message` says why. Comes with `Retry-After` where the reason passes: "NotReady", "Pending", "NotCaughtUp". */
export class ChangeRefused extends Schema.TaggedError<ChangeRefused>()("ChangeRefused", {
  reason: Schema.Literals(["NotReady", "Pending", "NotCaughtUp", "QuorumLost", "Invalid"]),
  message: Schema.String,
  ...notApplied
}, { httpApiStatus: 409 }) {}
/** A web page asks, and only programs may. */
export class Forbidden extends Schema.TaggedError<Forbidden>()("Forbidden", { message: Schema.String }, {
  httpApiStatus: 403
}) {}
/** What was there before is still there. */
export class SnapshotFailed extends Schema.TaggedError<SnapshotFailed>()("SnapshotFailed", {
  message: Schema.String
}, { httpApiStatus: 507 }) {}
export class NotReady extends Schema.TaggedError<NotReady>()("NotReady", { message: Schema.String }, {
  httpApiStatus: 503
}) {}

/** Turns what Schema says about a bad parameter into `BadRequest`. */
export class NamesParameter extends HttpApiMiddleware.Service<NamesParameter>()("titan/kv/NamesParameter", {
  error: BadRequest
}) {}

const text = (problem: (value: string) => string | undefined) => Schema.String.check(Schema.makeFilter(problem))

/** Decimal digits, and nothing else that JavaScript would read as a number. */
const Digits = (from: number, to: number, expected: string) =>
  text((value) => /^\d{1,16}$/.test(value) && Number(value) >= from && Number(value) <= to ? undefined : expected)

const key = text(Protocol.keyProblem).annotate({ description: "Percent-encoded UTF-8, 1 to 4096 bytes." })
const ifRevision = Schema.optionalKey(
  Digits(0, Number.MAX_SAFE_INTEGER, "must be a whole number from 0").annotate({
    description: "Only if the key has this revision; 0: only if it does not exist."
  })
)
const whole = "must be a whole number from 1"
/** Makes a write safe to send again (thesis §6.3). */
const session = {
  "titan-session": Schema.optionalKey(
    Digits(1, sequenceMax, whole).annotate({
      description: "A session of POST /v1/sessions. With titan-sequence it makes this write safe to send again: " +
        "under the same number it is applied once, and answered as the first time, by whatever server leads."
    })
  ),
  "titan-sequence": Schema.optionalKey(
    Digits(1, sequenceMax, whole).annotate({
      description: "The number of this write in its session: 1, 2, 3, … A number is used for one write only."
    })
  ),
  "titan-first-unanswered": Schema.optionalKey(
    Digits(1, sequenceMax, whole).annotate({
      description: "The lowest number whose answer the client has not seen: answers below need not be kept. " +
        "A client that writes one after the other gives the number of this write. Default: the last 1024 are kept."
    })
  )
}
const modes = ["linearizable", "lease", "follower", "stale"] as const
/** How a read is answered. */
const mode = {
  consistency: Schema.optionalKey(
    Schema.Literals(modes).annotate({
      message: `must be one of ${modes.join(", ")}`,
      description: [
        "linearizable (default): by the leader, which asks a majority whether it still leads.",
        "lease: by the leader, without asking while its lease lasts, where the servers run with leases; linearizable as far as clocks can be relied on.",
        "follower: by the server asked, which asks the leader how far it must be; linearizable.",
        "stale: by the server asked, at once, from what it has applied, which may be old."
      ].join(" ")
    })
  ),
  "min-index": Schema.optionalKey(
    Digits(0, Number.MAX_SAFE_INTEGER, "must be a whole number from 0").annotate({
      description:
        "Only with consistency=stale: answer once the server has applied this much; the revision of a write counts as such."
    })
  )
}
/** What a stale answer says about its age; other answers have neither. */
const staleness = {
  "titan-applied-index": Schema.optionalKey(
    Schema.String.annotate({ description: "Of a stale answer: the last log index that it takes into account." })
  ),
  "titan-leader-contact-age-ms": Schema.optionalKey(
    Schema.String.annotate({
      description: "Of a stale answer: for how long the server has not heard from the leader; absent if never."
    })
  )
}
const reads = [BadRequest, NotLeader, NoLeader, Overloaded, ReadUnconfirmed, Behind, Stopped] as const
const writes = [
  BadRequest,
  RevisionMismatch,
  TooLarge,
  NotLeader,
  NoLeader,
  Overloaded,
  Stopped,
  OutcomeUnknown,
  SessionExpired
] as const
const bytes = Schema.Uint8Array.pipe(HttpApiSchema.asUint8Array())

const kv = HttpApiGroup.make("kv").add(
  HttpApiEndpoint.put("put", "/v1/kv/:key", {
    params: { key },
    query: { "if-revision": ifRevision },
    headers: session,
    payload: bytes,
    success: Schema.Struct({ revision: Protocol.Revision }),
    error: writes
  }),
  HttpApiEndpoint.get("get", "/v1/kv/:key", {
    params: { key },
    query: mode,
    success: HttpApiSchema.WithHeaders(bytes, {
      "titan-revision": Schema.String,
      "titan-version": Schema.String,
      ...staleness
    }),
    error: [...reads, KeyNotFound]
  }),
  HttpApiEndpoint.delete("delete", "/v1/kv/:key", {
    params: { key },
    query: { "if-revision": ifRevision },
    headers: session,
    success: Schema.Struct({ revision: Protocol.Revision, deleted: Schema.Boolean }),
    error: writes
  }),
  HttpApiEndpoint.get("list", "/v1/kv", {
    query: {
      prefix: Schema.optionalKey(Schema.String),
      limit: Schema.optionalKey(
        Digits(1, Protocol.listLimitMax, `must be a whole number from 1 to ${Protocol.listLimitMax}`).annotate({
          description: `At most this many items, 1 to ${Protocol.listLimitMax}; ${Protocol.listLimitDefault} if absent.`
        })
      ),
      after: Schema.optionalKey(Schema.String),
      ...mode
    },
    success: HttpApiSchema.WithHeaders(
      Schema.Struct({
        items: Schema.Array(Schema.Struct({
          key: Schema.String,
          value: Schema.String.annotate({ description: "base64" }),
          revision: Protocol.Revision
        })),
        revision: Protocol.Revision,
        more: Schema.Boolean
      }),
      staleness
    ),
    error: reads
  }),
  HttpApiEndpoint.post("openSession", "/v1/sessions", {
    success: Schema.Struct({ session: Schema.Int }),
    error: [Forbidden, NotLeader, NoLeader, Overloaded, Stopped, OutcomeUnknown]
  }).annotate(
    OpenApi.Description,
    "Opens a session, for the headers titan-session and titan-sequence of writes. It expires when it is not used for an hour, or too many " +
      "others are, as the servers are set; then its writes are answered 410."
  )
).middleware(NamesParameter)

const serverId = text((value) => isNodeId(value) ? undefined : `must have ${nodeIdRule}`)
  .annotate({ description: "A server's id, such as n4." })
const serverUrl = text(serverUrlProblem).annotate({
  description: "Where the others and clients reach it, such as http://127.0.0.1:7104."
})
const becomes = Schema.optionalKey(
  Schema.Literals(["voter", "learner"]).annotate({
    message: "must be voter or learner",
    description: "voter (default): it votes as soon as it has caught up. learner: it gets the log and never counts."
  })
)

export const NewMember = Schema.Struct({ id: serverId, url: serverUrl, becomes })

/** One of several changes that are made at once. */
export const Changes = Schema.Struct({
  changes: Schema.NonEmptyArray(Schema.Union([
    Schema.Struct({ change: Schema.Literal("add"), ...NewMember.fields }),
    Schema.Struct({ change: Schema.Literals(["promote", "demote", "remove"]), id: serverId })
  ])).check(Schema.isMaxLength(changesMax))
})

export const Successor = Schema.Struct({ to: Schema.optionalKey(serverId) })

/** The configuration in force on the server that answers. */
export const Members = Schema.Struct({
  clusterId: Schema.String,
  /** The index of its entry in the log; 0: as the cluster began. Committed: nothing takes it back any more. */
  index: Schema.Int,
  committed: Schema.Boolean,
  members: Schema.Array(Member)
})

const standing = Schema.Struct({
  voters: Schema.Array(Schema.String),
  learners: Schema.Array(Schema.String),
  quorum: Schema.Int.annotate({ description: "How many voters must be up for anything to be written." }),
  mayFail: Schema.Int.annotate({ description: "How many voters may fail at the same time." })
})

const Preview = Schema.Struct({
  dryRun: Schema.Literal(true),
  before: standing,
  after: standing.annotate({ description: "Learners that become voters by themselves are counted as voters." }),
  joint: Schema.Boolean.annotate({ description: "Several voters change at once, by joint consensus." })
})

const changing = {
  query: {
    "dry-run": Schema.optionalKey(
      Schema.Literals(["true", "false"]).annotate({
        message: "must be true or false",
        description: "true: answers what would be, or why it would be refused, and changes nothing."
      })
    )
  },
  success: [Members, Preview],
  error: [BadRequest, Forbidden, ChangeRefused, NotLeader, NoLeader, Overloaded, Stopped, OutcomeUnknown]
} as const

const described = (text: string) => OpenApi.annotations({ description: text })

const cluster = HttpApiGroup.make("cluster").add(
  HttpApiEndpoint.get("members", "/v1/members", { success: Members }).annotateMerge(
    described("The members, as the server asked knows them; a later change has a higher index.")
  ),
  HttpApiEndpoint.post("add", "/v1/members", { ...changing, payload: NewMember }).annotateMerge(
    described("Adds a server. It joins as a learner, and answers come as soon as it is one.")
  ),
  HttpApiEndpoint.delete("remove", "/v1/members/:id", { ...changing, params: { id: serverId } }),
  HttpApiEndpoint.post("promote", "/v1/members/:id/promote", { ...changing, params: { id: serverId } }).annotateMerge(
    described("Makes a voter of a learner that has caught up.")
  ),
  HttpApiEndpoint.post("demote", "/v1/members/:id/demote", { ...changing, params: { id: serverId } }).annotateMerge(
    described("Makes a learner of a voter.")
  ),
  HttpApiEndpoint.post("reconfigure", "/v1/configuration", { ...changing, payload: Changes }).annotateMerge(
    described("Makes several changes at once, all or none; where more than one voter moves, by joint consensus.")
  ),
  HttpApiEndpoint.post("transfer", "/v1/leadership", {
    payload: Successor,
    success: Schema.Struct({
      leader: Schema.NullOr(Schema.Struct({ id: Schema.String, url: Schema.NullOr(Schema.String) })),
      term: Schema.Int
    }),
    error: changing.error
  }).annotateMerge(
    described(
      "Has another voter lead: `to`, or whichever is best suited. `leader` is null where the new one is not known within a second."
    )
  )
).middleware(NamesParameter)

const node = HttpApiGroup.make("node").add(
  HttpApiEndpoint.get("status", "/v1/status", { success: ServerStatus }),
  HttpApiEndpoint.post("snapshot", "/v1/snapshot", {
    success: SnapshotReport,
    error: [Forbidden, SnapshotFailed, Stopped]
  }).annotate(
    OpenApi.Description,
    "Takes a snapshot on the server asked, each takes its own, and answers once it is on disk."
  ),
  HttpApiEndpoint.get("livez", "/livez", { success: Schema.Struct({ status: Schema.Literal("ok") }) }),
  HttpApiEndpoint.get("readyz", "/readyz", {
    success: Schema.Struct({ status: Schema.Literal("ok"), leader: Schema.String }),
    error: NotReady
  })
)

export class Api extends HttpApi.make("titan").add(kv).add(cluster).add(node).annotateMerge(OpenApi.annotations({
  title: "Titan",
  version,
  description:
    "A linearizable key-value store, replicated with Raft. Every server answers; what only the leader can do is redirected to it."
})) {}
