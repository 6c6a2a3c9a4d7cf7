/** `titan recover`: the way out of a lost quorum. Works on the directory of a server that does not run; `layers/LostQuorum.ts` has the how. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Configuration from "../domain/Configuration.ts"
import * as LostQuorum from "../layers/LostQuorum.ts"
import { CommandFailed, failed, usageError } from "./Outcome.ts"
import * as Sources from "./Sources.ts"

interface Flags {
  readonly directory: string
  readonly asSingleNode: boolean
  readonly yes: boolean
  readonly json: boolean
}

const entryId = ({ index, term }: { readonly index: number; readonly term: number }) => ({ index, term })

/** What is known to have been committed: what a snapshot stands for, or the log gave up. */
const committedOf = ({ prev, snapshot }: LostQuorum.Held): number => Math.max(snapshot?.last.index ?? 0, prev.index)

const roleOf = ({ configuration, identity: { nodeId } }: LostQuorum.Held): string =>
  Configuration.isVoter(configuration, nodeId)
    ? "voter"
    : Configuration.isMember(configuration, nodeId)
    ? "learner"
    : "not a member any more"

const toJson = (found: LostQuorum.Found, isDone: boolean, clusterId: string | undefined) => {
  const { directory, held } = found
  return {
    done: isDone,
    state: found._tag,
    id: held.identity.nodeId,
    directory,
    backup: "backup" in found ? found.backup : null,
    clusterId: held.identity.clusterId,
    newClusterId: clusterId ?? null,
    role: roleOf(held),
    voters: held.configuration.voters,
    term: held.hardState.term,
    last: entryId(LostQuorum.lastOf(held)),
    snapshot: held.snapshot === undefined ? null : entryId(held.snapshot.last),
    committedAtLeast: committedOf(held)
  }
}

const name = ({ index, term }: { readonly index: number; readonly term: number }) => `entry ${index} of term ${term}`

const known = (held: LostQuorum.Held): string => {
  const committed = committedOf(held)
  const last = LostQuorum.lastOf(held)
  const rest = last.index === committed
    ? "all of that was committed"
    : `up to entry ${committed} it was committed for certain, and whether the rest was is not known here: all of it counts as committed from now on`
  return `Its log ends at ${name(last)}; its term is ${held.hardState.term}; ${rest}.`
}

const mayBeLost =
  "MAY BE LOST: writes that were acknowledged and that only the other servers have. Nobody can tell from this directory whether there are any. Where " +
  "the directory of another server can still be read, run this command there as well, without --yes: recover only the one whose last entry has " +
  "the highest term and, where terms are equal, the highest index."

const neverBoth = (held: LostQuorum.Held): string =>
  `NEVER recover another server of cluster ${held.identity.clusterId} as well: two clusters would go on from the same data in different ways, and ` +
  "clients could not tell which is right. The new cluster has a new id: old servers are refused by it, and refuse it. Leave them stopped."

const planOf = (found: Exclude<LostQuorum.Found, { readonly _tag: "Alone" }>): string => {
  const { backup, directory, held } = found
  const { clusterId, nodeId } = held.identity
  if (found._tag === "Interrupted") {
    return [
      `A recovery of ${directory} was interrupted when all but the last step was done: ${nodeId} is alone in the new cluster ${clusterId}.`,
      known(held),
      `What was there before is in ${backup}. The new directory would be put in its place.`
    ].join("\n")
  }
  const voters = held.configuration.voters.join(" ")
  return [
    `${nodeId} (${
      roleOf(held)
    }), in ${directory}, would be the only server of a new cluster. Its present one is ${clusterId}, with the voters ${voters}.`,
    known(held),
    "",
    mayBeLost,
    "",
    neverBoth(held),
    "",
    `The directory as it is now would be kept as ${backup}.`
  ].join("\n")
}

const doneOf = (found: Exclude<LostQuorum.Found, { readonly _tag: "Alone" }>, now: LostQuorum.Held): string => {
  const { backup, directory, held } = found
  const { clusterId, nodeId } = now.identity
  const url = now.configuration.addresses.get(nodeId) ?? "http://HOST:PORT"
  return [
    `${nodeId} is the only server of the new cluster ${clusterId}, with all that its log had, up to ${
      name(LostQuorum.lastOf(now))
    }.`,
    `What was in ${directory} is in ${backup}: keep it until all is well.`,
    "",
    mayBeLost,
    "",
    ...(found._tag === "Member" ? [neverBoth(held), ""] : []),
    "Next:",
    `  1. Start it: titan serve --id ${nodeId} --peer ${nodeId}=${url} --data-dir ${directory}`,
    `  2. Add others, under new ids and with empty directories: titan serve --id NEW --listen HOST:PORT --data-dir DIR --join ${url}`
  ].join("\n")
}

const print = (flags: Flags, json: unknown, text: string) =>
  Console.log(flags.json ? JSON.stringify(json, null, 2) : text)

const recover = Effect.fnUntraced(function*(flags: Flags) {
  if (!flags.asSingleNode) {
    return yield* usageError("--as-single-node is needed: it says what the server becomes, and there is no other way")
  }
  const found = yield* LostQuorum.examine(flags.directory)
  if (found._tag === "Alone") {
    const { clusterId, nodeId } = found.held.identity
    const text =
      `${nodeId}, in ${found.directory}, is the only server of its cluster ${clusterId} already: nothing is to be done`
    return yield* print(flags, toJson(found, true, clusterId), text)
  }
  if (!flags.yes) {
    yield* print(flags, toJson(found, false, undefined), planOf(found))
    return yield* usageError("nothing was done: to do it, add --yes")
  }
  if (!flags.json) yield* Console.error(`${planOf(found)}\n`)
  const now = yield* LostQuorum.recover(found)
  yield* print(flags, toJson(found, true, now.identity.clusterId), doneOf(found, now))
}, Effect.scoped)

export const command = Command.make(
  "recover",
  {
    directory: Sources.text("data-dir").pipe(
      Flag.withDescription("The directory of the server, which must not run (TITAN_DATA_DIR)")
    ),
    asSingleNode: Flag.Boolean("as-single-node").pipe(
      Flag.withDefault(false),
      Flag.withDescription("Make the server the only one of a new cluster, with all that its log has")
    ),
    yes: Flag.Boolean("yes").pipe(
      Flag.withDefault(false),
      Flag.withDescription("Do it; without this it only says what would be, and ends with 2")
    ),
    json: Flag.Boolean("json").pipe(Flag.withDefault(false), Flag.withDescription("Print JSON; errors too, on stderr"))
  },
  (flags) =>
    Effect.catchTag(
      recover(flags),
      "StorageError",
      (error) => Effect.fail(new CommandFailed({ exitCode: failed, message: error.message, tag: error._tag }))
    )
).pipe(
  Command.withDescription(
    "The way out when a majority of the servers is lost for good: makes one that is left the only server of a new cluster. Acknowledged writes may " +
      "be lost; without --yes it says which, and changes nothing"
  ),
  Command.withExamples([{
    command: "titan recover --data-dir /var/lib/titan --as-single-node",
    description: "Says what would be done, and what may be lost"
  }, {
    command: "titan recover --data-dir /var/lib/titan --as-single-node --yes",
    description: "Does it; the directory as it was is kept beside the new one"
  }])
)
