/** `titan transfer-leader [ID]`: has another server lead. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { RaftClient } from "../services/RaftClient.ts"
import * as Administer from "./Administer.ts"
import * as Client from "./Client.ts"
import { CommandFailed, unavailable } from "./Outcome.ts"

export const command = Command.make("transfer-leader", {
  to: Argument.String("ID").pipe(
    Argument.optional,
    Argument.withDescription("Who is to lead; default: whichever voter is best suited")
  ),
  ...Client.flags
}, (flags) =>
  Effect.gen(function*() {
    const to = Option.getOrUndefined(flags.to)
    if (to !== undefined) yield* Administer.validId(to)
    return yield* Client.withClient(
      flags,
      Effect.gen(function*() {
        const before = yield* Administer.leader(flags)
        yield* Effect.mapError((yield* RaftClient).transferLeadership(to), Client.toFailed)
        const after = yield* Administer.awaited(
          flags,
          (status) =>
            (to ?? status.id) === status.id && (status.term > before.term || to === before.id) ? status : undefined
        )
        if (after === undefined) {
          return yield* new CommandFailed({
            exitCode: unavailable,
            message: `${before.id} has handed over, and ${
              to ?? "its successor"
            } was not found leading within ${flags.timeoutMs} ms`,
            tag: "NoLeader"
          })
        }
        const { id, leader, term } = after
        yield* Client.print(flags, { leader: { id, url: leader?.url ?? null }, term }, `${id} leads in term ${term}`)
      })
    )
  })).pipe(
    Command.withDescription(
      "Have another server lead, before work on the one that does; prints who. Exit code 3: nobody can take over, or another server has"
    )
  )
