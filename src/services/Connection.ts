/**
 * What a client may ask of one server, over whatever connects them; and the shortest of all connections, to a node in this process.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Change, Configuration } from "../domain/Configuration.ts"
import type { LogIndex, SessionId } from "../domain/Entry.ts"
import { type Lost, Redirected } from "./ClientErrors.ts"
import type {
  Asked,
  Behind,
  ChangeRefused,
  Consistency,
  Cut,
  NotLeader,
  OutcomeUnknown,
  Overloaded,
  RaftNode,
  ReadUnconfirmed,
  SessionExpired,
  SnapshotFailed,
  StaleAnswer,
  Stopped,
  TooLarge
} from "./RaftNode.ts"
import { report, type ServerStatus, type UrlOf } from "./ServerStatus.ts"
import * as SnapshotReport from "./SnapshotReport.ts"

/** Most commands, or queries, that are asked together. */
export const questionsMax = 8192

/** About so many bytes of answers are given together: what comes after is to be asked for once more. */
export const answersBytesMax = 16 << 20

/** How a server refuses what only a leader does, or has no room for. */
type Refused = Redirected | Overloaded | Stopped

export type ProposeFailure = Refused | TooLarge | OutcomeUnknown | SessionExpired | Cut
export type ReadFailure = Refused | ReadUnconfirmed | Cut
export type StaleFailure = Overloaded | Behind | Stopped
export type ChangeFailure = Refused | ChangeRefused | OutcomeUnknown

/** One answer for each question, in the same order. */
export type Answers<E> = ReadonlyArray<Exit.Exit<Uint8Array, E>>

/** An open connection to one server; `Broken`: how a call fails that was not answered before the connection broke. */
export interface ConnectionWith<Broken> {
  readonly propose: (commands: ReadonlyArray<Asked>) => Effect.Effect<Answers<ProposeFailure>, Broken>
  readonly read: (
    queries: ReadonlyArray<Uint8Array>,
    consistency: Consistency
  ) => Effect.Effect<Answers<ReadFailure>, Broken>
  readonly readStale: (query: Uint8Array, minIndex?: LogIndex) => Effect.Effect<StaleAnswer, StaleFailure | Broken>
  readonly openSession: Effect.Effect<SessionId, Refused | OutcomeUnknown | Broken>
  readonly reconfigure: (changes: ReadonlyArray<Change>) => Effect.Effect<Configuration, ChangeFailure | Broken>
  readonly previewReconfigure: (changes: ReadonlyArray<Change>) => Effect.Effect<Configuration, ChangeFailure | Broken>
  readonly transferLeadership: (to?: string) => Effect.Effect<void, ChangeFailure | Broken>
  readonly status: Effect.Effect<ServerStatus, Broken>
  readonly takeSnapshot: Effect.Effect<SnapshotReport.SnapshotReport, SnapshotFailed | Overloaded | Stopped | Broken>
}

/** Over a network: each call fails with `Lost` when the connection breaks before it is answered. */
export type Connection = ConnectionWith<Lost>

/** The connection to a node of this process, which never breaks. `urlOf` finds the base URL of a server, for redirects and status. */
export const ofNode = (node: RaftNode["Service"], urlOf: UrlOf): ConnectionWith<never> => {
  const redirected = ({ leader }: NotLeader): Redirected => {
    if (leader === undefined) return new Redirected()
    const url = urlOf(leader)
    return new Redirected(url === undefined ? { leader } : { leader, url })
  }
  const toLeader = <E extends { readonly _tag: string }>(error: E): Exclude<E, NotLeader> | Redirected =>
    isNotLeader(error) ? redirected(error) : error as Exclude<E, NotLeader>
  const redirect = <A, E extends { readonly _tag: string }>(asked: Effect.Effect<A, E>) =>
    Effect.mapError(asked, toLeader)
  const redirectAll = <E extends { readonly _tag: string }>(
    asked: Effect.Effect<ReadonlyArray<Exit.Exit<Uint8Array, E>>>
  ) =>
    Effect.map(
      asked,
      (answers) => answers.map((answer) => Exit.isSuccess(answer) ? answer : Exit.mapError(answer, toLeader))
    )
  return {
    propose: (commands) => redirectAll(node.proposeAll(commands)),
    read: (queries, consistency) => redirectAll(node.readAll(queries, { consistency, bytesMax: answersBytesMax })),
    readStale: (query, minIndex) => node.readStale(query, minIndex === undefined ? {} : { minIndex }),
    openSession: redirect(node.openSession),
    reconfigure: (changes) => redirect(node.reconfigure(changes)),
    previewReconfigure: (changes) => redirect(node.previewReconfigure(changes)),
    transferLeadership: (to) => redirect(node.transferLeadership(to)),
    status: Effect.map(node.status, (status) => report(status, urlOf)),
    takeSnapshot: SnapshotReport.take(node)
  }
}

const isNotLeader = (error: { readonly _tag: string }): error is NotLeader => error._tag === "NotLeader"
