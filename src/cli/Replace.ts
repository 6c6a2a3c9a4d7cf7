/**
 * `titan member replace`: another server takes the place of one that is gone. Each step leaves a cluster that works, and the command may be run again
 * after any of them:
 *
 * ```
 *   NEW is added as a learner ──► it has caught up ──► NEW votes and OLD is removed, both at once (paper §6)
 * ```
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import type { Change } from "../domain/Configuration.ts"
import type { RaftClient } from "../services/RaftClient.ts"
import type { ServerStatus } from "../services/ServerStatus.ts"
import * as Administer from "./Administer.ts"
import * as Client from "./Client.ts"
import { type CommandFailed, notMet, usageError } from "./Outcome.ts"

interface Flags extends Client.Flags {
  readonly old: string
  readonly new: string
  readonly dryRun: boolean
}

interface Successor {
  readonly id: string
  readonly address: string | undefined
}

const valid = Effect.fnUntraced(function*({ new: text, old }: Flags): Effect.fn.Return<Successor, CommandFailed> {
  const at = text.indexOf("=")
  yield* Administer.validId(old)
  const id = yield* Administer.validId(at === -1 ? text : text.slice(0, at))
  if (id === old) {
    return yield* usageError(
      `${old} cannot take its own place: a server without its data needs a new id, or it would forget what it promised`
    )
  }
  return { id, address: at === -1 ? undefined : yield* Administer.validUrl(text.slice(at + 1)) }
})

const roleOf = ({ members }: ServerStatus, id: string): string | undefined =>
  members.find((member) => member.id === id)?.role

/** Longer than any election: a server that was not heard for so long is gone. */
const goneMs = 3000

const isUp = (status: ServerStatus, id: string): boolean => (Administer.contactAgeMs(status, id) ?? Infinity) < goneMs

/** Why this is no replacement, if it is none: OLD is there to be replaced, or was before, and NEW takes its place. */
const problemOf = (status: ServerStatus, old: string, { address, id }: Successor): string | undefined => {
  const known = status.members.find((member) => member.id === id)
  const isThere = roleOf(status, old) !== undefined
  if (!isThere && known?.role !== "voter") {
    return `${old} is no member: there is nothing to replace, and titan member add lets ${id} join; titan member list shows who there is`
  }
  if (known?.url && address !== undefined && known.url !== address) {
    return `${id} is a member already, at ${known.url}: give its id alone, or another id for another server`
  }
  return isThere && known?.role === "voter" && isUp(status, old)
    ? `${id} votes already and ${old} is up: this would only remove ${old}, which titan member remove does`
    : undefined
}

/** NEW is a member, or can be made one. One that was started a moment ago joins by itself. */
const arrived = (flags: Flags, { address, id }: Successor): Effect.Effect<ServerStatus, CommandFailed, RaftClient> =>
  Effect.gen(function*() {
    const status = yield* Administer.awaited(
      flags,
      (leader) => roleOf(leader, id) !== undefined || address !== undefined ? leader : undefined
    )
    return status ?? (yield* Administer.refused(
      `${id} is no member, and nobody knows where it is: start it with --join, or give ${id}=URL`
    ))
  })

const adding = ({ address, id }: Successor): ReadonlyArray<Change> =>
  address === undefined ? [] : [{ _tag: "Add", id, address, becomes: "Learner" }]

const swap = (old: string, { id }: Successor): ReadonlyArray<Change> => [
  { _tag: "Promote", id },
  { _tag: "Remove", id: old }
]

/** Refused as things stand, perhaps only until the new server has what it needs. */
const notYet = ({ old }: Flags, { id }: Successor) => (error: CommandFailed): CommandFailed =>
  error.exitCode === notMet
    ? Administer.refused(
      `${error.message}. ${old} was not removed: see that ${id} runs, and run this again; --timeout-ms gives it more time`
    )
    : error

const replace = Effect.fnUntraced(function*(flags: Flags, successor: Successor) {
  const before = yield* Administer.leader(flags)
  const problem = problemOf(before, flags.old, successor)
  if (problem !== undefined) return yield* Administer.refused(problem)
  const status = yield* arrived(flags, successor)
  if (flags.dryRun) {
    const changes: ReadonlyArray<Change> = [...adding(successor), { _tag: "Remove", id: flags.old }]
    return yield* Administer.preview(flags, changes, [successor.id])
  }
  if (roleOf(status, successor.id) === undefined) yield* Administer.change(flags, adding(successor))
  const made = yield* Administer.change(flags, swap(flags.old, successor), "any").pipe(
    Effect.mapError(notYet(flags, successor))
  )
  // From the change itself: the servers that were asked may have been removed by it.
  const standing = Administer.standingIn(made)
  yield* Client.print(
    flags,
    { replaced: flags.old, by: successor.id, ...standing },
    `${successor.id} is a voter and ${flags.old} is no member; ${Administer.inWords(standing)}`
  )
})

export const command = Command.make("replace", {
  old: Argument.String("OLD").pipe(Argument.withDescription("The server that is gone")),
  new: Argument.String("NEW").pipe(
    Argument.withDescription("The id of the server that takes its place, started with --join; or NEW=URL")
  ),
  dryRun: Administer.dryRun,
  ...Client.flags
}, (flags) => Effect.flatMap(valid(flags), (successor) => Client.withClient(flags, replace(flags, successor)))).pipe(
  Command.withDescription(
    "Let a new server take the place of one that is gone: waits until it has caught up, then changes both at once; may be run again after " +
      "any interruption"
  ),
  Command.withExamples([{
    command: "titan member replace n3 n4=http://127.0.0.1:7104",
    description: "n4 was started with --join, or will be: then this waits for it"
  }])
)
