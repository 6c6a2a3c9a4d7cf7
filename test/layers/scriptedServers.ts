/** Servers that do with a request what a test says, and a client of them. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { Connection } from "../../src/services/Connection.ts"
import { Lost, make, type Options, RaftClient, type Redirected, Unreachable } from "../../src/services/RaftClient.ts"
import {
  type OutcomeUnknown,
  type Overloaded,
  ReadUnconfirmed,
  type Stopped,
  type TooLarge
} from "../../src/services/RaftNode.ts"

export type Answer = Effect.Effect<Uint8Array, Redirected | Overloaded | TooLarge | OutcomeUnknown | Stopped | Lost>

/** A connection that never answers. */
export const silent: Connection = {
  propose: () => Effect.never,
  read: () => Effect.never,
  readStale: () => Effect.never,
  openSession: Effect.never,
  reconfigure: () => Effect.never,
  previewReconfigure: () => Effect.never,
  transferLeadership: () => Effect.never,
  status: Effect.never,
  takeSnapshot: Effect.never
}

/** Asks each question by itself, and gathers the answers; the connection breaks for all of them. */
export const each = <A, E>(
  questions: ReadonlyArray<A>,
  answer: (question: A) => Effect.Effect<Uint8Array, E>
): Effect.Effect<ReadonlyArray<Exit.Exit<Uint8Array, Exclude<E, Lost>>>, Lost> =>
  Effect.forEach(questions, (question) =>
    Effect.flatMap(Effect.exit(answer(question)), (exit) => {
      const error = Exit.isFailure(exit) ? exit.cause.reasons.find(Cause.isFailReason)?.error : undefined
      return error instanceof Lost
        ? Effect.fail(error)
        : Effect.succeed(exit as Exit.Exit<Uint8Array, Exclude<E, Lost>>)
    }))

interface Scripted {
  readonly asked: Array<string>
  readonly client: RaftClient["Service"]
}

/** A cluster of such servers: how each is connected to, and the order in which they were. Writes are without a session unless asked. */
export const connected = (
  servers: Record<string, (asked: number) => Partial<Connection> | Unreachable>,
  options: Partial<Options> = {}
): Effect.Effect<Scripted, never, Scope.Scope> => {
  const asked: Array<string> = []
  const connect = (url: string) =>
    Effect.suspend(() => {
      asked.push(url)
      const connection = servers[url]?.(asked.filter((each) => each === url).length) ??
        new Unreachable({ reason: "unknown" })
      return connection instanceof Unreachable ? Effect.fail(connection) : Effect.succeed({ ...silent, ...connection })
    })
  return Effect.map(
    make({ endpoints: Object.keys(servers), sessions: false, ...options }, connect),
    (client) => ({ asked, client })
  )
}

/** A cluster of servers that answer writes and reads alike. */
export const scripted = (
  servers: Record<string, (asked: number) => Answer | Unreachable>,
  options: Partial<Options> = {}
) =>
  connected(
    Object.fromEntries(
      Object.entries(servers).map(([url, answerOf]) => [url, (asked: number) => {
        const answer = answerOf(asked)
        const read = (given: Answer) =>
          Effect.catchTag(given, ["TooLarge", "OutcomeUnknown"], () => Effect.fail(new ReadUnconfirmed()))
        return answer instanceof Unreachable ? answer : {
          propose: (commands) => each(commands, () => answer),
          read: (queries) => each(queries, () => read(answer))
        }
      }])
    ),
    options
  )
