/** `titan status`: what each server says about itself. */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { type EndpointStatus, RaftClient } from "../services/RaftClient.ts"
import * as Client from "./Client.ts"
import { CommandFailed, unavailable } from "./Outcome.ts"
import * as Table from "./Table.ts"

const heading = ["ENDPOINT", "ID", "ROLE", "TERM", "LEADER", "COMMIT", "APPLIED", "LAST", "CLUSTER"]

const row = (endpoint: EndpointStatus): ReadonlyArray<string> => {
  if (endpoint._tag === "Down") return [endpoint.url, "-", `unreachable: ${endpoint.reason}`]
  const { clusterId, commitIndex, id, lastApplied, lastLogIndex, leader, role, term } = endpoint.status
  return [endpoint.url, id, role, term, leader?.id ?? "-", commitIndex, lastApplied, lastLogIndex, clusterId].map(
    String
  )
}

/** Reasons are as long as they are: they stand outside of the columns. */
const format = (endpoints: ReadonlyArray<EndpointStatus>): string => {
  const rows = endpoints.map(row)
  const [first = "", ...up] = Table.format([
    heading,
    ...rows.map((cells) => cells.length < 4 ? [cells[0] ?? "", "-"] : cells)
  ])
    .split("\n")
  return [
    first,
    ...up.map((line, i) =>
      rows[i]?.length === 3 ? `${line.trimEnd().padEnd(first.indexOf("ROLE"))}${rows[i][2]}` : line
    )
  ]
    .join("\n")
}

export const command = Command.make("status", Client.flags, (flags) =>
  Effect.gen(function*() {
    const endpoints = yield* Client.withClient(flags, Effect.flatMap(RaftClient, (client) => client.status))
    const json = endpoints.map((endpoint) =>
      endpoint._tag === "Up"
        ? { url: endpoint.url, reachable: true, status: endpoint.status }
        : { url: endpoint.url, reachable: false, reason: endpoint.reason }
    )
    yield* Client.print(flags, json, format(endpoints))
    if (endpoints.every((endpoint) => endpoint._tag === "Down")) {
      return yield* new CommandFailed({ exitCode: unavailable, message: "no server is reachable", tag: "Unavailable" })
    }
  })).pipe(Command.withDescription("Print a row for each server. Exit code 4: none is reachable"))
