/**
 * What the commands that change a cluster have in common: who leads and what it knows, changes and their refusals, and how voters stand.
 */
import * as Flag from "effect/cli/Flag"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { Change, Configuration } from "../domain/Configuration.ts"
import { isNodeId, nodeIdRule } from "../domain/NodeId.ts"
import { serverUrlProblem } from "../layers/kv/RequestUrl.ts"
import type { ChangeError } from "../services/ClientErrors.ts"
import { type EndpointStatus, RaftClient } from "../services/RaftClient.ts"
import { type ChangeRefused, isPassing } from "../services/RaftNode.ts"
import { type ServerStatus, type Standing, standing } from "../services/ServerStatus.ts"
import * as Client from "./Client.ts"
import { CommandFailed, notMet, unavailable, usageError } from "./Outcome.ts"
import * as Table from "./Table.ts"

export const dryRun = Flag.Boolean("dry-run").pipe(
  Flag.withDefault(false),
  Flag.withDescription("Print what would be, or why it would be refused, and change nothing")
)

export const validId = (id: string): Effect.Effect<string, CommandFailed> =>
  isNodeId(id)
    ? Effect.succeed(id)
    : Effect.fail(usageError(`${id}: an id has ${nodeIdRule}`))

export const validUrl = (url: string): Effect.Effect<string, CommandFailed> => {
  const problem = serverUrlProblem(url)
  return problem === undefined ? Effect.succeed(new URL(url).origin) : Effect.fail(usageError(`${url}: ${problem}`))
}

/** As things stand it is not done. */
export const refused = (message: string): CommandFailed =>
  new CommandFailed({ exitCode: notMet, message, tag: "ChangeRefused", outcome: "not-applied" })

const pollMs = 50

/** Of servers that answer: the leader with the highest term, or else where the others say that it is. */
export const leaderOf = (endpoints: ReadonlyArray<EndpointStatus>): ServerStatus | string | undefined => {
  const up = endpoints.flatMap((endpoint) => endpoint._tag === "Up" ? [endpoint.status] : [])
  const newestFirst = up.toSorted((a, b) => b.term - a.term)
  const [newest] = newestFirst
  if (newest === undefined) return undefined
  const leader = newestFirst.find(({ role, term }) => role === "Leader" && term === newest.term)
  return leader ?? newestFirst.find(({ leader: known }) => known?.url)?.leader?.url ?? undefined
}

const reachable = Effect.flatMap(RaftClient, (client) => client.status)

/** What the leader says of itself, and of the others, now; `undefined` while nobody is known to lead. */
export const leaderNow = (flags: Client.Flags): Effect.Effect<ServerStatus | undefined, CommandFailed, RaftClient> =>
  Effect.gen(function*() {
    const found = leaderOf(yield* reachable)
    if (typeof found !== "string") return found
    // Members that joined later are not among the endpoints.
    const there = leaderOf(yield* Client.withClient({ ...flags, endpoints: [found] }, reachable))
    return typeof there === "string" ? undefined : there
  })

/** What a server says that does not help to find who leads. */
const said = (endpoint: EndpointStatus): string => {
  if (endpoint._tag === "Down") return `${endpoint.url}: ${endpoint.reason}`
  const { id, leader: known, members } = endpoint.status
  if (!members.some((member) => member.id === id)) return `${endpoint.url}: ${id} is no member of its cluster`
  return `${endpoint.url}: ${id} knows ${
    known === null ? "no leader" : `${known.id} as its leader, which does not answer`
  }`
}

const noLeader = (flags: Client.Flags): Effect.Effect<never, CommandFailed, RaftClient> =>
  Effect.flatMap(reachable, (endpoints) =>
    Effect.fail(
      new CommandFailed({
        exitCode: unavailable,
        message: [`no server that leads was found within ${flags.timeoutMs} ms`, ...endpoints.map(said)].join("\n  "),
        tag: "NoLeader"
      })
    ))

/** Asks the leader again and again until `found` makes something of its answer; `undefined` when the time is over. */
export const awaited = <A>(
  flags: Client.Flags,
  found: (leader: ServerStatus) => A | undefined
): Effect.Effect<A | undefined, CommandFailed, RaftClient> =>
  Effect.gen(function*() {
    const untilMs = (yield* Clock.currentTimeMillis) + flags.timeoutMs
    for (;;) {
      const leader = yield* leaderNow(flags)
      const made = leader === undefined ? undefined : found(leader)
      if (made !== undefined || (yield* Clock.currentTimeMillis) + pollMs > untilMs) return made
      yield* Effect.sleep(pollMs)
    }
  })

export const leader = (flags: Client.Flags): Effect.Effect<ServerStatus, CommandFailed, RaftClient> =>
  Effect.gen(function*() {
    return (yield* awaited(flags, (status) => status)) ?? (yield* noLeader(flags))
  })

/** `soon`: passes within moments; a server that has to catch up may take long. */
type Patience = "soon" | "any"

const isAwaited = ({ reason }: ChangeRefused, patience: Patience): boolean =>
  isPassing(reason) && (patience === "any" || reason !== "NotCaughtUp")

/** Asks; what is refused for a reason that passes by itself is asked again until the time is over. */
const insist = (
  flags: Client.Flags,
  ask: (client: RaftClient["Service"]) => Effect.Effect<Configuration, ChangeError>,
  patience: Patience
): Effect.Effect<Configuration, CommandFailed, RaftClient> =>
  Effect.gen(function*() {
    const client = yield* RaftClient
    const untilMs = (yield* Clock.currentTimeMillis) + flags.timeoutMs
    for (;;) {
      const made = yield* Effect.result(ask(client))
      if (Result.isSuccess(made)) return made.success
      const error = made.failure
      const isDue = error._tag === "ChangeRefused" && isAwaited(error, patience)
      if (!isDue || (yield* Clock.currentTimeMillis) + 2 * pollMs > untilMs) return yield* Client.toFailed(error)
      yield* Effect.sleep(2 * pollMs)
    }
  })

/** Makes the changes; gives the configuration that is in force then. */
export const change = (
  flags: Client.Flags,
  changes: ReadonlyArray<Change>,
  patience: Patience = "soon"
): Effect.Effect<Configuration, CommandFailed, RaftClient> =>
  insist(flags, (client) => client.reconfigure(changes), patience)

/** The same flags with every member among the endpoints: those that were given may belong to servers that were removed. */
export const withMembers = <F extends Client.Flags>(flags: F, { addresses }: Configuration): F => ({
  ...flags,
  endpoints: [...flags.endpoints, ...[...addresses.values()].filter((url) => serverUrlProblem(url) === undefined)]
})

export const standingIn = ({ learners, voters }: Configuration): Standing => standing(voters, learners)

export const standingOf = ({ members }: ServerStatus): Standing => {
  const withRoles = (...roles: ReadonlyArray<string>) =>
    members.filter(({ role }) => roles.includes(role)).map(({ id }) => id)
  return standing(withRoles("voter"), withRoles("learner", "joining"))
}

const listed = (ids: ReadonlyArray<string>): string => ids.length === 0 ? "-" : ids.join(" ")

/** Example: "4 voters (n1 n2 n3 n4): 3 must be up, 1 may fail". */
export const inWords = ({ mayFail, quorum, voters }: Standing): string =>
  `${voters.length} ${voters.length === 1 ? "voter" : "voters"} (${
    voters.join(" ")
  }): ${quorum} must be up, ${mayFail} may fail`

export const compared = (before: Standing, after: Standing): string =>
  Table.format([
    ["", "BEFORE", "AFTER"],
    ["VOTERS", listed(before.voters), listed(after.voters)],
    ["LEARNERS", listed(before.learners), listed(after.learners)],
    ["MUST BE UP", String(before.quorum), String(after.quorum)],
    ["MAY FAIL", String(before.mayFail), String(after.mayFail)]
  ])

/** Prints what `changes` would lead to, `voting` counted as voters; fails with the refusal. */
export const preview = (flags: Client.Flags, changes: ReadonlyArray<Change>, voting: ReadonlyArray<string> = []) =>
  Effect.gen(function*() {
    const next = yield* insist(flags, (client) => client.previewReconfigure(changes), "soon")
    const before = standingOf(yield* leader(flags))
    const becoming = [...next.joining, ...voting.filter((id) => !next.voters.includes(id))]
    const after = standing(
      [...new Set([...next.voters, ...becoming])],
      next.learners.filter((id) => !becoming.includes(id))
    )
    yield* Client.print(flags, { dryRun: true, before, after }, compared(before, after))
  })

/** How many entries of the leader's log a member lacks, as the leader knows it. */
export const behind = (status: ServerStatus, id: string): number | undefined => {
  if (status.id === id) return 0
  const follower = status.followers.find((one) => one.id === id)
  return follower === undefined ? undefined : Math.max(0, status.lastLogIndex - follower.matchIndex)
}

/** How long ago, in milliseconds, a member answered the leader; the leader itself: just now. */
export const contactAgeMs = (status: ServerStatus, id: string): number | undefined =>
  status.id === id ? 0 : status.followers.find((one) => one.id === id)?.contactAgeMs ?? undefined

/** When that was. Example: "12 ms ago". */
export const heard = (status: ServerStatus, id: string): string => {
  const ageMs = contactAgeMs(status, id)
  if (ageMs === undefined) return "not yet"
  return status.id === id ? "-" : `${ageMs} ms ago`
}
