/** `titan member`: who belongs to the cluster, and changes of that. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { Change } from "../domain/Configuration.ts"
import { RaftClient } from "../services/RaftClient.ts"
import type { ServerStatus } from "../services/ServerStatus.ts"
import * as Administer from "./Administer.ts"
import * as Client from "./Client.ts"
import * as Replace from "./Replace.ts"
import * as Table from "./Table.ts"

const idArgument = Argument.String("ID").pipe(Argument.withDescription("A server's id, such as n4"))

const membersJson = (status: ServerStatus) => {
  const { mayFail, quorum } = Administer.standingOf(status)
  const members = status.members.map((member) => ({ ...member, behind: Administer.behind(status, member.id) ?? null }))
  return { leader: status.id, index: status.configurationIndex, members, quorum, mayFail }
}

const roles = { voter: "voter", joining: "learner, to vote", learner: "learner", leaving: "voter, leaving" } as const

const table = (status: ServerStatus): string =>
  [
    Table.format([
      ["ID", "ROLE", "URL", "BEHIND", "HEARD"],
      ...status.members.map(({ id, role, url }) => [
        id,
        id === status.id ? `${roles[role]}, leads` : roles[role],
        url ?? "-",
        String(Administer.behind(status, id) ?? "-"),
        Administer.heard(status, id)
      ])
    ]),
    Administer.inWords(Administer.standingOf(status))
  ].join("\n")

const list = Command.make("list", Client.flags, (flags) =>
  Client.withClient(
    flags,
    Effect.flatMap(Administer.leader(flags), (status) => Client.print(flags, membersJson(status), table(status)))
  )).pipe(Command.withDescription("Print a row for each member: its role, its URL and how many entries it is behind"))

interface Flags extends Client.Flags {
  readonly dryRun: boolean
}

/** Makes one change, or says what it would be; then prints how the voters stand. */
const make = (flags: Flags, asked: Change, what: string) =>
  Client.withClient(
    flags,
    Effect.gen(function*() {
      if (flags.dryRun) return yield* Administer.preview(flags, [asked])
      const configuration = yield* Administer.change(flags, [asked])
      const after = Administer.withMembers(flags, configuration)
      const found = yield* Effect.result(Client.withClient(after, Administer.leader(after)))
      const stands = Administer.standingIn(configuration)
      const json = Result.isSuccess(found) ? membersJson(found.success) : { leader: null, ...stands }
      yield* Client.print(flags, json, `${what}; ${Administer.inWords(stands)}`)
    })
  )

const single = (name: string, tag: "Promote" | "Demote" | "Remove", what: string, description: string) =>
  Command.make(
    name,
    { id: idArgument, dryRun: Administer.dryRun, ...Client.flags },
    (flags) => Effect.flatMap(Administer.validId(flags.id), (id) => make(flags, { _tag: tag, id }, `${id} ${what}`))
  ).pipe(Command.withDescription(description))

/** What became of a server that was added, as far as it can be said in time. */
const added = (flags: Flags, id: string, learner: boolean) =>
  Effect.gen(function*() {
    const isSettled = ({ members }: ServerStatus) =>
      members.some((member) => member.id === id && (learner || member.role === "voter"))
    const settled = yield* Administer.awaited(flags, (status) => isSettled(status) ? status : undefined)
    const status = settled ?? (yield* Administer.leader(flags))
    const lag = Administer.behind(status, id) ?? status.lastLogIndex
    const role = status.members.find((member) => member.id === id)?.role ?? "learner"
    const text = settled !== undefined
      ? `${id} is a ${role}; ${Administer.inWords(Administer.standingOf(status))}`
      : `${id} was added and ${
        lag === status.lastLogIndex ? "has nothing yet: see that it runs. It" : `is ${lag} entries behind. It`
      } becomes a voter by itself once it has caught up`
    yield* Client.print(flags, membersJson(status), text)
  })

/** At an address where another server answers nobody would be found. Where nobody answers yet the server may be to come. */
const isItsOwn = (flags: Flags, id: string, address: string) =>
  Effect.gen(function*() {
    const there = { ...flags, endpoints: [address], timeoutMs: Math.min(flags.timeoutMs, 1000) }
    const [one] = yield* Client.withClient(there, Effect.flatMap(RaftClient, (client) => client.status))
    if (one?._tag !== "Up" || one.status.id === id) return
    return yield* Administer.refused(`${address} is where ${one.status.id} answers: give the address of ${id}`)
  })

const add = Command.make("add", {
  id: idArgument,
  url: Argument.String("URL").pipe(Argument.withDescription("Where it is reached, such as http://127.0.0.1:7104")),
  learner: Flag.Boolean("learner").pipe(
    Flag.withDefault(false),
    Flag.withDescription("It gets the log and never votes")
  ),
  dryRun: Administer.dryRun,
  ...Client.flags
}, (flags) =>
  Effect.gen(function*() {
    const id = yield* Administer.validId(flags.id)
    const address = yield* Administer.validUrl(flags.url)
    const asked: Change = { _tag: "Add", id, address, becomes: flags.learner ? "Learner" : "Voter" }
    yield* isItsOwn(flags, id, address)
    return yield* Client.withClient(
      flags,
      flags.dryRun
        ? Administer.preview(flags, [asked])
        : Effect.andThen(Administer.change(flags, [asked]), added(flags, id, flags.learner))
    )
  })).pipe(
    Command.withDescription(
      "Add a server, which titan serve --join does by itself; waits until it votes or --timeout-ms is over, and it becomes a voter either way"
    )
  )

export const command = Command.make("member").pipe(
  Command.withDescription("The members of the cluster; exit code 3: the change was refused, with the reason"),
  Command.withSubcommands([
    list,
    add,
    single("promote", "Promote", "is a voter", "Make a voter of a learner that has caught up"),
    single("demote", "Demote", "is a learner", "Make a learner of a voter: it gets the log and never votes"),
    single("remove", "Remove", "is no member", "Remove a server; stop it afterwards"),
    Replace.command
  ])
)
