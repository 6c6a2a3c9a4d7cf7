/** Servers that do with a request what a test says, and a client of them. */
import * as Effect from "effect/Effect"
import {
  type Connection,
  type Lost,
  make,
  type Options,
  type Redirected,
  Unreachable
} from "../../src/services/RaftClient.ts"
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
  status: Effect.never,
  takeSnapshot: Effect.never
}

/** A cluster of such servers: how each is connected to, and the order in which they were. */
export const connected = (
  servers: Record<string, (asked: number) => Partial<Connection> | Unreachable>,
  options: Partial<Options> = {}
) => {
  const asked: Array<string> = []
  const client = make({ endpoints: Object.keys(servers), ...options }, (url) =>
    Effect.suspend(() => {
      asked.push(url)
      const connection = servers[url]?.(asked.filter((each) => each === url).length) ??
        new Unreachable({ reason: "unknown" })
      return connection instanceof Unreachable ? Effect.fail(connection) : Effect.succeed({ ...silent, ...connection })
    }))
  return { asked, client }
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
        return answer instanceof Unreachable ? answer : {
          propose: () => answer,
          read: () => Effect.catchTag(answer, ["TooLarge", "OutcomeUnknown"], () => Effect.fail(new ReadUnconfirmed()))
        }
      }])
    ),
    options
  )
