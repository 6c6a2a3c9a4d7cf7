/** `titan snapshot take`: has every server take a snapshot. */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { type EndpointSnapshot, RaftClient } from "../services/RaftClient.ts"
import * as Client from "./Client.ts"
import { CommandFailed, failed, unavailable } from "./Outcome.ts"
import * as Table from "./Table.ts"

const heading = ["ENDPOINT", "INDEX", "TERM", "BYTES", "TOOK"]

const row = (endpoint: EndpointSnapshot): Table.Row => {
  switch (endpoint._tag) {
    case "Taken": {
      const { sizeBytes, snapshotIndex, snapshotTerm, tookMs } = endpoint.snapshot
      return { cells: [endpoint.url, `${snapshotIndex}`, `${snapshotTerm}`, `${sizeBytes}`, `${tookMs} ms`] }
    }
    case "Failed":
      return { cells: [endpoint.url, "-"], text: `failed: ${endpoint.reason}` }
    case "Down":
      return { cells: [endpoint.url, "-"], text: `unreachable: ${endpoint.reason}` }
  }
}

const toJson = (endpoint: EndpointSnapshot) => {
  const { _tag, url, ...what } = endpoint
  return { url, reachable: _tag !== "Down", taken: _tag === "Taken", ...what }
}

/** A server that did not answer in time may well have taken its snapshot, or still be at it. */
const problem = (endpoints: ReadonlyArray<EndpointSnapshot>): CommandFailed | undefined => {
  if (endpoints.every(({ _tag }) => _tag === "Down")) {
    return new CommandFailed({ exitCode: unavailable, message: "no server is reachable", tag: "Unavailable" })
  }
  const missing = endpoints.filter(({ _tag }) => _tag !== "Taken").map(({ url }) => url)
  return missing.length === 0
    ? undefined
    : new CommandFailed({ exitCode: failed, message: `no snapshot is known to be taken by ${missing.join(", ")}` })
}

const take = Command.make("take", Client.flags, (flags) =>
  Effect.gen(function*() {
    const endpoints = yield* Client.withClient(flags, Effect.flatMap(RaftClient, (client) => client.takeSnapshots))
    yield* Client.print(flags, endpoints.map(toJson), Table.formatRows(heading, endpoints.map(row)))
    const found = problem(endpoints)
    if (found !== undefined) return yield* found
  })).pipe(
    Command.withDescription(
      "Have each server take a snapshot of what it has applied, and print a row for it once that is on its disk; --timeout-ms is for " +
        "how long to wait. Exit code 1: not by all of them; 4: none is reachable"
    )
  )

export const command = Command.make("snapshot").pipe(
  Command.withDescription("Snapshots, which servers otherwise take by themselves as their logs grow"),
  Command.withSubcommands([take])
)
