/** `titan delete KEY`: deletes a key. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Client from "./Client.ts"

export const command = Command.make("delete", {
  key: Argument.String("KEY"),
  ifRevision: Client.ifRevision,
  ...Client.flags
}, (flags) =>
  Effect.gen(function*() {
    const key = yield* Client.validKey(flags.key)
    const condition = yield* Client.condition(flags.ifRevision)
    const result = yield* Client.write(flags, (store) => store.delete(key, condition))
    if (!result.deleted) return yield* Client.notFound(key)
    yield* Client.print(flags, { revision: result.revision, deleted: true }, `deleted at revision ${result.revision}`)
  })).pipe(Command.withDescription("Delete a key. Exit code 3: no such key"))
