/** `titan status`: what each server says about itself. */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { type EndpointStatus, RaftClient } from "../services/RaftClient.ts"
import type { ServerStatus } from "../services/ServerStatus.ts"
import * as Administer from "./Administer.ts"
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

const lag = (status: ServerStatus, id: string): string => {
  const behind = Administer.behind(status, id)
  if (behind === undefined) return `${id} (not heard from)`
  return behind === 0 ? id : `${id} (${behind} behind)`
}

/** What the leader among them knows of the members: who counts, who does not, and how many entries each is behind. */
export const membership = (endpoints: ReadonlyArray<EndpointStatus>): ReadonlyArray<string> => {
  const status = Administer.leaderOf(endpoints)
  if (status === undefined || typeof status === "string") return []
  const withRole = (wanted: string) =>
    status.members.filter(({ role }) => role === wanted).map(({ id }) => lag(status, id)).join(", ")
  const { mayFail, quorum, voters } = Administer.standingOf(status)
  const lines: ReadonlyArray<readonly [string, string]> = [
    [
      `${voters.length} ${
        voters.length === 1 ? "voter" : "voters"
      }, of which ${quorum} must be up and ${mayFail} may fail`,
      "voter"
    ],
    ["several servers are being changed at once; still voting", "leaving"],
    ["to become voters once they have caught up", "joining"],
    ["learners", "learner"]
  ]
  return lines.flatMap(([what, role]) => withRole(role) === "" ? [] : [`${what}: ${withRole(role)}`])
}

export const command = Command.make("status", Client.flags, (flags) =>
  Effect.gen(function*() {
    const endpoints = yield* Client.withClient(flags, Effect.flatMap(RaftClient, (client) => client.status))
    const json = endpoints.map((endpoint) =>
      endpoint._tag === "Up"
        ? { url: endpoint.url, reachable: true, status: endpoint.status }
        : { url: endpoint.url, reachable: false, reason: endpoint.reason }
    )
    const text = [Table.formatRows(heading, endpoints.map(row)), ...membership(endpoints), ...transfers(endpoints)]
      .join("\n")
    yield* Client.print(flags, json, text)
    if (endpoints.every((endpoint) => endpoint._tag === "Down")) {
      return yield* new CommandFailed({ exitCode: unavailable, message: "no server is reachable", tag: "Unavailable" })
    }
  })).pipe(
    Command.withDescription(
      "Print a row for each server, who counts and who is behind as the leader knows it, and a line for each snapshot on its way. Exit code 4: " +
        "none is reachable"
    )
  )
