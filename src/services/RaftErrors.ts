/**
 * How a request to a server can end without its answer. Each error says what happened to the command: `outcome` is "not-applied" or
 * "unknown" (rule R4), and `message` what to do.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/** This server does not lead. The request had no effect: send it to `leader`, or, where that is unknown, try again soon. */
export class NotLeader extends Schema.TaggedError<NotLeader>()("NotLeader", {
  leader: Schema.optionalKey(Schema.String),
  outcome: Schema.tag("not-applied")
}) {
  override get message(): string {
    return this.leader === undefined
      ? "not applied: this server does not lead, and knows no leader; try again, or ask another server"
      : `not applied: this server does not lead; ask ${this.leader}`
  }
}

/** The server has as much work waiting as it takes. The request had no effect: try again later. */
export class Overloaded extends Schema.TaggedError<Overloaded>()("Overloaded", {
  outcome: Schema.tag("not-applied")
}) {
  override get message(): string {
    return "not applied: too many requests are waiting; try again later"
  }
}

/** The command is larger than an entry may be. It had no effect. */
export class TooLarge extends Schema.TaggedError<TooLarge>()("TooLarge", {
  sizeBytes: Schema.Int,
  limitBytes: Schema.Int,
  outcome: Schema.tag("not-applied")
}) {
  override get message(): string {
    return `not applied: the command has ${this.sizeBytes} bytes, and ${this.limitBytes} are allowed`
  }
}

/** The command was accepted and its fate is not known: it may have been applied, may still be, or may never be. */
export class OutcomeUnknown extends Schema.TaggedError<OutcomeUnknown>()("OutcomeUnknown", {
  outcome: Schema.tag("unknown")
}) {
  override get message(): string {
    return "unknown: it was not confirmed in time that the command was applied; it may or may not take effect: read before you try again"
  }
}

/** No majority confirmed in time that this server still leads, so it cannot answer without the risk of a stale value. */
export class ReadUnconfirmed extends Schema.TaggedError<ReadUnconfirmed>()("ReadUnconfirmed", {
  outcome: Schema.tag("not-applied")
}) {
  override get message(): string {
    return "not answered: no majority confirmed in time that this server leads; try again, or ask another server"
  }
}

/** The server is stopping or has stopped, before it took the request. */
export class Stopped extends Schema.TaggedError<Stopped>()("Stopped", {
  outcome: Schema.tag("not-applied")
}) {
  override get message(): string {
    return "not applied: this server is stopping; ask another one"
  }
}

/** This server has not applied what the reader wants to see. Nothing was answered: try again later, or ask another server. */
export class Behind extends Schema.TaggedError<Behind>()("Behind", {
  minIndex: Schema.Int,
  outcome: Schema.tag("not-applied")
}) {
  override get message(): string {
    return `not answered: this server has not applied index ${this.minIndex} in time; try again, or ask another server`
  }
}

/**
 * The session is not, or no longer, in the replicated state, or its client had said that it has the answer to this command. The command was not
 * executed this time; whether an earlier attempt was, nobody can tell any more. `outcome` is "not-applied" only where this was the first attempt.
 */
export class SessionExpired extends Schema.TaggedError<SessionExpired>()("SessionExpired", {
  outcome: Schema.Literals(["not-applied", "unknown"]).pipe(
    Schema.withConstructorDefault(Effect.succeed("unknown" as const))
  )
}) {
  override get message(): string {
    return this.outcome === "not-applied"
      ? "not applied: the session has expired; open another one"
      : "unknown: the session has expired, or keeps this answer no more (its client had seen it, or went on too far without it), so an earlier attempt may have been applied; read before you try again in a new session"
  }
}

/** The answer had no room in its message, after those of other requests: a query is asked again, a command may have been applied. */
export class Cut extends Schema.TaggedError<Cut>()("Cut", {}) {
  override get message(): string {
    return "the answer had no room beside others"
  }
}

/**
 * The configuration cannot be changed so, or leadership not be transferred; `message` says why. Nothing was changed. "NotReady", "Pending" and
 * "NotCaughtUp" pass: try again.
 */
export class ChangeRefused extends Schema.TaggedError<ChangeRefused>()("ChangeRefused", {
  reason: Schema.Literals(["NotReady", "Pending", "NotCaughtUp", "QuorumLost", "Invalid"]),
  message: Schema.String,
  outcome: Schema.tag("not-applied")
}) {}

/** Whether a change that was refused for this reason may be accepted a moment later. */
export const isPassing = (reason: ChangeRefused["reason"]): boolean =>
  reason === "NotReady" || reason === "Pending" || reason === "NotCaughtUp"

/** No snapshot could be written; `message` says why. What was there before is still there. */
export class SnapshotFailed extends Schema.TaggedError<SnapshotFailed>()("SnapshotFailed", {
  message: Schema.String
}) {}

export type ProposeError = NotLeader | Overloaded | TooLarge | OutcomeUnknown | Stopped
export type ChangeError = NotLeader | Overloaded | ChangeRefused | OutcomeUnknown | Stopped
export type OpenError = NotLeader | Overloaded | OutcomeUnknown | Stopped
export type ReadError = NotLeader | Overloaded | ReadUnconfirmed | Stopped
export type StaleReadError = Overloaded | Behind | Stopped

/** The settings contradict each other; `message` names the values. */
export class SettingsError extends Schema.TaggedError<SettingsError>()("SettingsError", {
  message: Schema.String
}) {}
