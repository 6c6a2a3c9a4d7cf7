/**
 * The routes that change the cluster: `/v1/members`, `/v1/configuration`, `/v1/leadership`. The leader answers them, and others redirect to it.
 */
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Configuration from "../../domain/Configuration.ts"
import * as RaftNode from "../../services/RaftNode.ts"
import { membersOf, standing } from "../../services/ServerStatus.ts"
import * as Answers from "./Answers.ts"
import * as Api from "./Api.ts"
import * as RequestBody from "./RequestBody.ts"

type Node = RaftNode.RaftNode["Service"]
type Request = Answers.Request
type Query = { readonly "dry-run"?: "true" | "false" }

const body = <A>(request: Request, schema: Schema.Codec<A, unknown>): Effect.Effect<A, Api.BadRequest> =>
  Effect.flatMap(RequestBody.json(request), (parsed) =>
    "problem" in parsed
      ? Effect.fail(new Api.BadRequest({ message: parsed.problem }))
      // What is misspelt must not be overlooked: it may be what was to make the change harmless.
      : Effect.mapError(
        Schema.decodeUnknownEffect(schema)(parsed.value, { onExcessProperty: "error" }),
        Answers.badRequest
      ))

const addition = ({ becomes = "voter", id, url }: typeof Api.NewMember.Type): Configuration.Change => ({
  _tag: "Add",
  id,
  // Addresses are compared as text: each server has one way to write its own.
  address: new URL(url).origin,
  becomes: becomes === "voter" ? "Voter" : "Learner"
})

const tags = { promote: "Promote", demote: "Demote", remove: "Remove" } as const

const changeOf = (asked: typeof Api.Changes.Type["changes"][number]): Configuration.Change =>
  asked.change === "add" ? addition(asked) : { _tag: tags[asked.change], id: asked.id }

const report = (status: RaftNode.Status, { urlOf }: Answers.Urls) => ({
  clusterId: status.clusterId,
  index: status.configurationIndex,
  committed: status.isConfigurationCommitted,
  members: membersOf(status.configuration, urlOf)
})

/** What a change would lead to, learners that are to become voters counted as such. */
const preview = (now: Configuration.Configuration, next: Configuration.Configuration) => ({
  dryRun: true as const,
  before: standing(now.voters, now.learners),
  after: standing(
    [...next.voters, ...next.joining],
    next.learners.filter((id) => !next.joining.includes(id))
  ),
  joint: Configuration.votersMoved(now, next) > 1
})

const refuse = (urls: Answers.Urls, request: Request) =>
(
  error: RaftNode.ChangeError
): Effect.Effect<Answers.Answer, Api.OutcomeUnknown> => {
  switch (error._tag) {
    case "NotLeader":
      return Answers.redirect(urls, request, error.leader)
    case "Overloaded":
      return Answers.later(new Api.Overloaded())
    case "ChangeRefused":
      return Answers.changeRefused(new Api.ChangeRefused({ reason: error.reason, message: error.message }))
    case "OutcomeUnknown":
      return Effect.fail(new Api.OutcomeUnknown())
    case "Stopped":
      return Answers.later(new Api.Stopped())
  }
}

/** Makes the changes, or says what they would make. */
const change = (node: Node, urls: Answers.Urls) =>
(
  request: Request,
  query: Query,
  changes: ReadonlyArray<Configuration.Change>
) =>
  Effect.gen(function*() {
    if (query["dry-run"] === "true") {
      const next = yield* node.previewReconfigure(changes)
      return preview((yield* node.status).configuration, next)
    }
    yield* node.reconfigure(changes)
    return report(yield* node.status, urls)
  }).pipe(Effect.catch(refuse(urls, request)))

/** How long the successor may take until this server has heard of it. */
const successorMs = 1000

/** The leader that follows, as soon as this server knows it. */
const successor = (node: Node, { urlOf }: Answers.Urls) =>
  node.status.pipe(
    Effect.repeat({ until: ({ leaderId }) => leaderId !== undefined, schedule: Schedule.spaced(10) }),
    Effect.timeoutOrElse({ duration: successorMs, orElse: () => node.status }),
    Effect.map(({ leaderId: id, term }) => ({
      leader: id === undefined ? null : { id, url: urlOf(id) ?? null },
      term
    }))
  )

const transfer = (node: Node, urls: Answers.Urls, request: Request, to: string | undefined) =>
  node.transferLeadership(to).pipe(
    Effect.andThen(successor(node, urls)),
    Effect.catch(refuse(urls, request))
  )

export const group = (urls: Answers.Urls) =>
  HttpApiBuilder.group(Api.Api, "cluster", (handlers) =>
    Effect.gen(function*() {
      const node = yield* RaftNode.RaftNode
      const changed = change(node, urls)
      /** A change of one server that the path names. */
      const single = (tag: "Promote" | "Demote" | "Remove") =>
      ({ params: { id }, query, request }: {
        readonly params: { readonly id: string }
        readonly query: Query
        readonly request: Request
      }) => Effect.andThen(Answers.onlyPrograms(request), changed(request, query, [{ _tag: tag, id }]))
      return handlers
        .handle("members", () => Effect.map(node.status, (status) => report(status, urls)))
        .handleRaw("add", ({ query, request }) =>
          Effect.gen(function*() {
            yield* Answers.onlyPrograms(request)
            return yield* changed(request, query, [addition(yield* body(request, Api.NewMember))])
          }))
        .handle("remove", single("Remove"))
        .handle("promote", single("Promote"))
        .handle("demote", single("Demote"))
        .handleRaw("reconfigure", ({ query, request }) =>
          Effect.gen(function*() {
            yield* Answers.onlyPrograms(request)
            const { changes } = yield* body(request, Api.Changes)
            return yield* changed(request, query, changes.map(changeOf))
          }))
        .handleRaw("transfer", ({ request }) =>
          Effect.gen(function*() {
            yield* Answers.onlyPrograms(request)
            const { to } = yield* body(request, Api.Successor)
            return yield* transfer(node, urls, request, to)
          }))
    }))
