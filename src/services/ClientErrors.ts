/**
 * How a request to a cluster can end without its answer, beyond what its servers say (`RaftErrors.ts`). Each error says what happened to the
 * command, and `message` what to do.
 */
import * as Schema from "effect/Schema"
import type { ChangeRefused, OutcomeUnknown, Overloaded, SessionExpired, TooLarge } from "./RaftErrors.ts"

/** The last failure at each server that was asked. */
const attempts = Schema.Array(Schema.Struct({ url: Schema.String, reason: Schema.String }))
export type Attempts = typeof attempts.Type

const inWords = (all: Attempts): string => all.map(({ reason, url }) => `; ${url}: ${reason}`).join("")

/** No server that leads was found before the deadline. The request had no effect. */
export class NoLeader extends Schema.TaggedError<NoLeader>()("NoLeader", {
  deadlineMs: Schema.Int,
  attempts,
  outcome: Schema.tag("not-applied")
}) {
  override get message(): string {
    return `not applied: no server that leads was found within ${this.deadlineMs} ms: see that a majority is up${
      inWords(this.attempts)
    }`
  }
}

/** No server answered before the deadline, and none may have applied the request: try again, or give it more time. */
export class DeadlineExceeded extends Schema.TaggedError<DeadlineExceeded>()("DeadlineExceeded", {
  deadlineMs: Schema.Int,
  attempts,
  outcome: Schema.tag("not-applied")
}) {
  override get message(): string {
    return `not applied: no server could answer within ${this.deadlineMs} ms${inWords(this.attempts)}`
  }
}

/** The servers, or what stands before them, let this client in nowhere. The request had no effect: check its credentials. */
export class Unauthorized extends Schema.TaggedError<Unauthorized>()("Unauthorized", {
  attempts,
  outcome: Schema.tag("not-applied")
}) {
  override get message(): string {
    return `not applied: no server lets this client in${inWords(this.attempts)}`
  }
}

/** A server's answer that it does not lead, with the leader's name and base URL where it knows them. */
export class Redirected extends Schema.TaggedError<Redirected>()("NotLeader", {
  leader: Schema.optionalKey(Schema.String),
  url: Schema.optionalKey(Schema.String),
  outcome: Schema.tag("not-applied")
}) {}

/** No connection to the server: whatever was to be sent was not. */
export class Unreachable extends Schema.TaggedError<Unreachable>()("Unreachable", {
  reason: Schema.String,
  /** It answers, and lets this client not in (401 or 403). */
  isUnauthorized: Schema.optionalKey(Schema.Boolean)
}) {}

/** The connection broke after the request was sent and before it was answered. */
export class Lost extends Schema.TaggedError<Lost>()("Lost", { reason: Schema.String }) {}

/** Nothing was answered before the deadline, or could be. */
export type Unanswered = NoLeader | DeadlineExceeded | Overloaded | Unauthorized
export type ProposeError = Unanswered | TooLarge | OutcomeUnknown | SessionExpired
export type ReadError = Unanswered
export type ChangeError = Unanswered | ChangeRefused | OutcomeUnknown
