/**
 * What clients and servers say to each other at `/rpc`: Effect RPC over a WebSocket, in SchemaBinary. Commands, results, queries and
 * answers are bytes: only the state machine knows what is in them. Requests that a client makes at the same time travel as one message.
 */
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import * as Schema from "effect/Schema"
import { changesMax } from "../domain/Configuration.ts"
import { sequenceMax } from "../domain/Session.ts"
import { Redirected } from "../services/ClientErrors.ts"
import { type Answers, questionsMax } from "../services/Connection.ts"
import {
  Behind,
  ChangeRefused,
  Cut,
  OutcomeUnknown,
  Overloaded,
  ReadUnconfirmed,
  SessionExpired,
  SnapshotFailed,
  Stopped,
  TooLarge
} from "../services/RaftNode.ts"
import { ServerStatus } from "../services/ServerStatus.ts"
import { SnapshotReport } from "../services/SnapshotReport.ts"
import type { Room } from "../services/Unread.ts"
import * as ByteLists from "./ByteLists.ts"
import { ConfigurationData } from "./ConfigurationCodec.ts"
import * as WebSocketRoute from "./WebSocketRoute.ts"

export const path = "/rpc"

/** The longest command or query that a client sends, in bytes. */
export const requestBytesMax = 32 << 20

/** Most calls of one connection that a server answers at a time. A client that batches has far fewer. */
export const callsMax = 256

const refused = [Redirected, Overloaded, Stopped] as const

/**
 * One answer for each question, in the same order: a result, empty where there is none, or at its position a failure, or the text of a defect
 * that is of this question alone.
 */
const answersWith = <S extends Schema.Top>(failure: S) =>
  Schema.Struct({
    /** `ByteLists`. */
    results: Schema.Uint8Array,
    failures: Schema.Array(Schema.Struct({ at: Schema.Int, failure })),
    defects: Schema.Array(Schema.Struct({ at: Schema.Int, message: Schema.String }))
  })

interface Packed<F> {
  readonly results: Uint8Array
  readonly failures: ReadonlyArray<{ readonly at: number; readonly failure: F }>
  readonly defects: ReadonlyArray<{ readonly at: number; readonly message: string }>
}

const none = new Uint8Array(0)

/** Answers as they travel, those that have no room cut off. */
export const pack = <F>(answers: Answers<F>, room: Room): Packed<F | Cut> => {
  const results: Array<Uint8Array> = []
  const failures: Array<{ readonly at: number; readonly failure: F | Cut }> = []
  const defects: Array<{ readonly at: number; readonly message: string }> = []
  for (const [at, answer] of answers.entries()) {
    if (Exit.isSuccess(answer)) {
      const hasRoom = room(answer.value.length)
      results.push(hasRoom ? answer.value : none)
      if (!hasRoom) failures.push({ at, failure: new Cut() })
      continue
    }
    results.push(none)
    const failure = answer.cause.reasons.find(Cause.isFailReason)?.error
    if (failure !== undefined) failures.push({ at, failure })
    else defects.push({ at, message: String(Cause.squash(answer.cause)).slice(0, 1000) })
  }
  return { results: ByteLists.encode(results), failures, defects }
}

/** The answers of a message, each with memory of its own: whoever keeps one does not keep the others. */
export const unpack = <F>({ defects, failures, results }: Packed<F>): Answers<F> => {
  const answers: Array<Exit.Exit<Uint8Array, F>> = ByteLists.decode(results, questionsMax).map((result) =>
    Exit.succeed(new Uint8Array(result))
  )
  for (const { at, failure } of failures) answers[at] = Exit.fail(failure)
  for (const { at, message } of defects) answers[at] = Exit.die(new Error(message))
  return answers
}

/** Questions as they travel: a list of `ByteLists`, of at most `questionsMax`. */
export const questions = (all: ReadonlyArray<Uint8Array>): Uint8Array => ByteLists.encode(all)

/** The questions of a message. Throws for what are none: it is its sender's loss alone. */
export const questionsOf = (list: Uint8Array): ReadonlyArray<Uint8Array> => ByteLists.decode(list, questionsMax)

const Sequence = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: sequenceMax }))

export class Propose extends Rpc.make("Propose", {
  payload: {
    /** `questions`. */
    commands: Schema.Uint8Array,
    /** Absent: without a session. */
    session: Schema.optionalKey(
      Schema.Struct({
        id: Sequence,
        firstUnanswered: Sequence,
        /** One for each command: numbers of `ByteLists`. */
        sequences: Schema.Uint8Array
      })
    )
  },
  success: answersWith(Schema.Union([...refused, TooLarge, OutcomeUnknown, SessionExpired, Cut]))
}) {}

export class Read extends Rpc.make("Read", {
  payload: {
    /** `questions`. */
    queries: Schema.Uint8Array,
    consistency: Schema.Literals(["linearizable", "lease", "follower"])
  },
  success: answersWith(Schema.Union([...refused, ReadUnconfirmed, Cut]))
}) {}

export class ReadStale extends Rpc.make("ReadStale", {
  payload: { query: Schema.Uint8Array, minIndex: Schema.optionalKey(Schema.Int) },
  success: Schema.Struct({
    answer: Schema.Uint8Array,
    appliedIndex: Schema.Int,
    leaderContactAgeMs: Schema.UndefinedOr(Schema.Finite)
  }),
  error: Schema.Union([Overloaded, Behind, Stopped])
}) {}

export class OpenSession extends Rpc.make("OpenSession", {
  success: Schema.Int,
  error: Schema.Union([...refused, OutcomeUnknown])
}) {}

const changeErrors = Schema.Union([...refused, ChangeRefused, OutcomeUnknown])

/** As `Configuration.Change`, but that a server that nobody finds cannot be added from afar. */
const Change = Schema.Union([
  Schema.TaggedStruct("Add", {
    id: Schema.String,
    address: Schema.String,
    becomes: Schema.Literals(["Voter", "Learner"])
  }),
  Schema.TaggedStruct("Promote", { id: Schema.String }),
  Schema.TaggedStruct("Demote", { id: Schema.String }),
  Schema.TaggedStruct("Remove", { id: Schema.String })
])

/** `preview`: answer what would be, and change nothing. */
export class Reconfigure extends Rpc.make("Reconfigure", {
  payload: { changes: Schema.Array(Change).check(Schema.isMaxLength(changesMax)), preview: Schema.Boolean },
  success: ConfigurationData,
  error: changeErrors
}) {}

export class TransferLeadership extends Rpc.make("TransferLeadership", {
  payload: { to: Schema.optionalKey(Schema.String) },
  error: changeErrors
}) {}

export class Status extends Rpc.make("Status", { success: ServerStatus }) {}

export class TakeSnapshot extends Rpc.make("TakeSnapshot", {
  success: SnapshotReport,
  error: Schema.Union([SnapshotFailed, Overloaded, Stopped])
}) {}

export const ClientRpcs = RpcGroup.make(
  Propose,
  Read,
  ReadStale,
  OpenSession,
  Reconfigure,
  TransferLeadership,
  Status,
  TakeSnapshot
)

export const serialization = RpcSerialization.layerSchemaBinary({ maxFrameSize: WebSocketRoute.frameBytesMax })
