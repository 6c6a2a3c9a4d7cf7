/**
 * What the commands that talk to a cluster have in common: their flags, the client, and how failures become exit codes.
 */
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import { type KeyValueClient, make as makeStore, type WriteError } from "../layers/kv/Client.ts"
import * as Protocol from "../layers/kv/Protocol.ts"
import { serverUrlProblem } from "../layers/kv/RequestUrl.ts"
import * as RaftClientHttp from "../layers/RaftClientHttp.ts"
import { type EndpointStatus, RaftClient, type ReadError } from "../services/RaftClient.ts"
import type { Malformed } from "../services/StateMachine.ts"
import { CommandFailed, failed, notMet, unavailable, usage, usageError } from "./Outcome.ts"
import * as Sources from "./Sources.ts"

const onPorts = (ports: ReadonlyArray<number>) => ports.map((port) => `http://127.0.0.1:${port}`)

/** `titan dev`, and what runs without arguments: two clusters, which must never be taken for one. */
const endpointsOfDev = onPorts([7101, 7102, 7103])
const endpointsAlone = onPorts([7100])

export interface Flags {
  readonly endpoints: ReadonlyArray<string>
  readonly timeoutMs: number
  readonly json: boolean
}

export const flags = {
  endpoints: Sources.list("endpoint", "endpoints").pipe(
    Flag.withDescription(
      "Base URL of a server; may be repeated; default http://127.0.0.1:7101, 7102 and 7103 or, where none of these answers, 7100 (TITAN_ENDPOINTS, separated by commas)"
    )
  ),
  timeoutMs: Sources.int("timeout-ms").pipe(
    Flag.withDefault(5000),
    Flag.withDescription("How long to try, in milliseconds; default 5000 (TITAN_TIMEOUT_MS)")
  ),
  json: Flag.Boolean("json").pipe(Flag.withDefault(false), Flag.withDescription("Print JSON; errors too, on stderr"))
}

export const ifRevision = Flag.Int("if-revision").pipe(
  Flag.optional,
  Flag.withDescription("Only if the key has this revision; 0: only if it does not exist")
)

/** A whole number from 0, or nothing. */
export const condition = (
  revision: { readonly _tag: "None" } | { readonly _tag: "Some"; readonly value: number }
): Effect.Effect<{ readonly ifRevision?: number }, CommandFailed> => {
  if (revision._tag === "None") return Effect.succeed({})
  return Number.isSafeInteger(revision.value) && revision.value >= 0
    ? Effect.succeed({ ifRevision: revision.value })
    : Effect.fail(usageError(`--if-revision ${revision.value}: expected a whole number from 0`))
}

/** How reads may be answered: what `RaftNode` calls consistencies, and at once from what a server has applied. */
const modes = ["linearizable", "lease", "follower", "stale"] as const

export interface Reading {
  readonly consistency: typeof modes[number]
  readonly minIndex: Option.Option<number>
}

export const reading = {
  consistency: Flag.Literals("consistency", modes).pipe(
    Flag.withDefault("linearizable"),
    Flag.withDescription(
      "linearizable: the leader asks a majority first; lease: it need not while its lease lasts, where servers run with --lease-reads; " +
        "follower: linearizable, from any server; stale: from any server at once, may be old; default linearizable"
    )
  ),
  minIndex: Flag.Int("min-index").pipe(
    Flag.optional,
    Flag.withDescription(
      "With --consistency stale: from a server that has applied this much, such as the revision of a write"
    )
  )
}

const minIndexOf = (
  { consistency, minIndex }: Reading
): Effect.Effect<{ readonly minIndex?: number }, CommandFailed> => {
  if (minIndex._tag === "None") return Effect.succeed({})
  if (consistency !== "stale") return Effect.fail(usageError("--min-index: only with --consistency stale"))
  return Number.isSafeInteger(minIndex.value) && minIndex.value >= 0
    ? Effect.succeed({ minIndex: minIndex.value })
    : Effect.fail(usageError(`--min-index ${minIndex.value}: expected a whole number from 0`))
}

export const validKey = (key: string): Effect.Effect<string, CommandFailed> => {
  const problem = Protocol.keyProblem(key)
  return problem === undefined ? Effect.succeed(key) : Effect.fail(usageError(problem))
}

/** Nothing listens there. A server that is merely slow may still be the one that was meant, and no other cluster may stand in for it. */
const isAbsent = (one: EndpointStatus): boolean => one._tag === "Down" && one.reason.includes("ECONNREFUSED")

/** Runs `effect` with a client of the cluster that the flags name. */
export const withClient = <A, E>(
  given: Flags,
  effect: Effect.Effect<A, E, RaftClient>
): Effect.Effect<A, E | CommandFailed> => {
  for (const text of given.endpoints) {
    const problem = serverUrlProblem(text)
    if (problem !== undefined) return Effect.fail(usageError(`--endpoint ${text}: ${problem}`))
  }
  if (given.timeoutMs < 1) return Effect.fail(usageError(`--timeout-ms ${given.timeoutMs}: expected at least 1`))
  const clientOf = (endpoints: ReadonlyArray<string>) =>
    Layer.orDie(RaftClientHttp.layer({
      endpoints: [...new Set(endpoints)],
      deadlineMs: given.timeoutMs,
      attemptMs: Math.min(1000, given.timeoutMs)
    }))
  const statusOf = (endpoints: ReadonlyArray<string>) =>
    Effect.flatMap(RaftClient, (client) => client.status).pipe(Effect.provide(clientOf(endpoints)))
  const chosen = given.endpoints.length > 0 ? Effect.succeed(given.endpoints) : Effect.gen(function*() {
    if (!(yield* statusOf(endpointsOfDev)).every(isAbsent)) return endpointsOfDev
    return (yield* statusOf(endpointsAlone)).every(isAbsent) ? endpointsOfDev : endpointsAlone
  })
  return Effect.flatMap(chosen, (endpoints) => Effect.provide(effect, clientOf(endpoints)))
}

/** Errors that do not end with "failed". */
const exitCodes: Readonly<Record<string, number>> = {
  Overloaded: unavailable,
  NoLeader: unavailable,
  DeadlineExceeded: unavailable,
  ChangeRefused: notMet,
  RevisionMismatch: notMet,
  Malformed: usage
}

interface Refusal {
  readonly _tag: string
  readonly message: string
  readonly outcome?: string
}

export const toFailed = ({ _tag: tag, message, outcome }: Refusal): CommandFailed =>
  new CommandFailed({
    exitCode: exitCodes[tag] ?? failed,
    message,
    tag,
    ...(outcome === undefined ? {} : { outcome })
  })

/** The errors of reads are those of writes, which speak of what was applied. */
const toUnread = (error: ReadError | Malformed): CommandFailed => {
  const { exitCode, message, tag } = toFailed(error)
  return new CommandFailed({
    exitCode,
    message: message.replace(/^not applied/, "not answered"),
    ...(tag ? { tag } : {})
  })
}

/** Writes. A condition that is not met, and whatever else is no success, fails. */
export const write = <A>(
  given: Flags,
  ask: (store: KeyValueClient["Service"]) => Effect.Effect<A, WriteError>
): Effect.Effect<A, CommandFailed> =>
  withClient(given, Effect.flatMap(RaftClient, (client) => Effect.mapError(ask(makeStore(client)), toFailed)))

/** Of a stale answer: what it takes into account, and for how long its server has not heard from the leader; null: never. */
export interface Staleness {
  readonly appliedIndex?: number
  readonly leaderContactAgeMs?: number | null
}

export interface Answered {
  readonly answer: Protocol.Answer
  readonly staleness: Staleness
}

const stalenessOf = (appliedIndex: number, ageMs: number | undefined): Staleness => ({
  appliedIndex,
  leaderContactAgeMs: ageMs === undefined ? null : Math.round(ageMs)
})

export const read = (
  given: Flags & Reading,
  query: Protocol.Query
): Effect.Effect<Answered, CommandFailed> =>
  Effect.gen(function*() {
    const { consistency } = given
    const options = yield* minIndexOf(given)
    const ask = Effect.flatMap(RaftClient, (client): Effect.Effect<Answered, ReadError | Malformed> => {
      const store = Protocol.wire.on(client)
      if (consistency !== "stale") {
        return Effect.map(store.read(query, { consistency }), (answer) => ({ answer, staleness: {} }))
      }
      return Effect.map(store.readStale(query, options), ({ answer, appliedIndex, leaderContactAgeMs }) => ({
        answer,
        staleness: stalenessOf(appliedIndex, leaderContactAgeMs)
      }))
    })
    return yield* withClient(given, Effect.mapError(ask, toUnread))
  })

/** Prints one line: JSON with `--json`, else `text`. */
export const print = (given: Flags, value: unknown, text: string): Effect.Effect<void> =>
  Console.log(given.json ? JSON.stringify(value) : text)

/** Bytes on stdout, as they are; on a terminal with a line break after them. */
export const printBytes = (bytes: Uint8Array) =>
  Effect.gen(function*() {
    const stdio = yield* Stdio.Stdio
    const parts = (yield* stdio.stdoutIsTerminal) ? [bytes, new TextEncoder().encode("\n")] : [bytes]
    yield* Stream.run(Stream.fromIterable(parts), stdio.stdout())
  }).pipe(Effect.orDie)

export const notFound = (key: string): CommandFailed =>
  new CommandFailed({ exitCode: notMet, message: `${key}: not found`, tag: "KeyNotFound" })

export const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64")
