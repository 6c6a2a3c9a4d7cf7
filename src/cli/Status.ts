/** `titan status`: what each server says about itself. */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { type EndpointStatus, RaftClient } from "../services/RaftClient.ts"
import * as Client from "./Client.ts"
import { CommandFailed, unavailable } from "./Outcome.ts"
import * as Table from "./Table.ts"

const heading = ["ENDPOINT", "ID", "ROLE", "TERM", "LEADER", "COMMIT", "APPLIED", "LAST", "SNAPSHOT", "CLUSTER"]

const row = (endpoint: EndpointStatus): Table.Row => {
  if (endpoint._tag === "Down") return { cells: [endpoint.url, "-"], text: `unreachable: ${endpoint.reason}` }
  const { clusterId, commitIndex, id, lastApplied, lastLogIndex, leader, role, snapshotIndex, term } = endpoint.status
  const numbers = [commitIndex, lastApplied, lastLogIndex, snapshotIndex].map(String)
  return { cells: [endpoint.url, id, role, String(term), leader?.id ?? "-", ...numbers, clusterId] }
}

interface Transfer {
  readonly index: number
  readonly offset: number
  readonly sizeBytes: number
}

const describe = (from: string, to: string, { index, offset, sizeBytes }: Transfer): string => {
  const percent = sizeBytes === 0 ? 100 : Math.floor(100 * offset / sizeBytes)
  return `${from} sends ${to} its snapshot of index ${index}: ${percent} % of ${sizeBytes} bytes`
}

/** A line for each snapshot on its way: from its sender where that is reachable, else from who receives it. */
export const transfers = (endpoints: ReadonlyArray<EndpointStatus>): ReadonlyArray<string> => {
  const lines = new Map<string, string>()
  const servers = endpoints.flatMap((endpoint) => endpoint._tag === "Up" ? [endpoint.status] : [])
  for (const { id, receiving } of servers) {
    if (receiving !== null) lines.set(`${receiving.from} ${id}`, describe(receiving.from, id, receiving))
  }
  for (const { id, sending } of servers) {
    for (const transfer of sending) lines.set(`${id} ${transfer.to}`, describe(id, transfer.to, transfer))
  }
  return [...lines.values()]
}

export const command = Command.make("status", Client.flags, (flags) =>
  Effect.gen(function*() {
    const endpoints = yield* Client.withClient(flags, Effect.flatMap(RaftClient, (client) => client.status))
    const json = endpoints.map((endpoint) =>
      endpoint._tag === "Up"
        ? { url: endpoint.url, reachable: true, status: endpoint.status }
        : { url: endpoint.url, reachable: false, reason: endpoint.reason }
    )
    const text = [Table.formatRows(heading, endpoints.map(row)), ...transfers(endpoints)].join("\n")
    yield* Client.print(flags, json, text)
    if (endpoints.every((endpoint) => endpoint._tag === "Down")) {
      return yield* new CommandFailed({ exitCode: unavailable, message: "no server is reachable", tag: "Unavailable" })
    }
  })).pipe(
    Command.withDescription(
      "Print a row for each server, and a line for each snapshot on its way to one. Exit code 4: none is reachable"
    )
  )
