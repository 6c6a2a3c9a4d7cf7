/**
 * Processes that load a cluster (`client.ts`), kept for all rounds of a bench.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { resolve } from "node:path"
import { createInterface } from "node:readline"
import type { Outcome, Round } from "./client.ts"
import { Latencies, type Percentiles } from "./load.ts"

/** A round has no result: the leader changed, for example. */
export class Spoilt extends Data.TaggedError("Spoilt")<{ readonly message: string }> {}

/** A load as all its processes together saw it. */
export interface Reading extends Percentiles {
  readonly operations: number
  readonly perSecond: number
  /** Of all these processes, for one operation. */
  readonly cpuMicros: number
}

/** Gives one of them a round, and waits for what it says. */
export type Client = (round: Round) => Effect.Effect<Outcome, Spoilt>

/** One such process. It is killed when the scope closes. */
export const start = (nodeOptions: ReadonlyArray<string>): Effect.Effect<Client, never, Scope.Scope> =>
  Effect.gen(function*() {
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, [...nodeOptions, resolve("bench/client.ts")], { stdio: ["pipe", "pipe", "inherit"] })
      ),
      (process) => Effect.sync(() => void process.kill("SIGKILL"))
    )
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    return (round) =>
      Effect.promise(() => {
        child.stdin.write(`${JSON.stringify(round)}\n`)
        return lines.next()
      }).pipe(Effect.flatMap(({ done, value }) =>
        done === true ? Effect.fail(new Spoilt({ message: "the client has ended" })) : Effect.succeed(JSON.parse(value))
      ))
  })

const share = (count: number, of: number, i: number): number => Math.floor(count / of) + (i < count % of ? 1 : 0)

/** The same load from all `clients`, each with its share of connections and requests in flight, measured at the same time. */
export const run = Effect.fnUntraced(function*(
  clients: ReadonlyArray<Client>,
  warmupSeconds: number,
  round: Omit<Round, "measureAtMs">
) {
  const measureAtMs = Date.now() + 1000 * warmupSeconds
  const busy = clients.slice(0, Math.min(clients.length, round.inFlight))
  const outcomes = yield* Effect.forEach(busy, (client, i) =>
    client({
      ...round,
      measureAtMs,
      connections: share(round.connections, busy.length, i),
      inFlight: share(round.inFlight, busy.length, i),
      ...(round.rate === undefined ? {} : { rate: round.rate / busy.length })
    }), { concurrency: "unbounded" })
  const loads = outcomes.flatMap((outcome) => "problem" in outcome ? [] : [outcome])
  const problem = outcomes.find((outcome) => "problem" in outcome)
  if (problem !== undefined && "problem" in problem) return yield* new Spoilt({ message: problem.problem })
  const operations = loads.reduce((sum, load) => sum + load.operations, 0)
  return {
    operations,
    perSecond: loads.reduce((sum, load) => sum + load.perSecond, 0),
    cpuMicros: 1000 * loads.reduce((sum, load) => sum + load.cpuMs, 0) / operations,
    ...Latencies.of(loads.flatMap((load) => load.latencies)).percentiles
  } satisfies Reading
})
