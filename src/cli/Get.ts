/** `titan get KEY`: prints a value. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Client from "./Client.ts"

export const command = Command.make(
  "get",
  { key: Argument.String("KEY"), ...Client.reading, ...Client.flags },
  (flags) =>
    Effect.gen(function*() {
      const key = yield* Client.validKey(flags.key)
      const { answer, staleness } = yield* Client.read(flags, { _tag: "Get", key })
      if (answer._tag !== "Found") return yield* Client.notFound(key)
      const { revision, value, version } = answer
      if (!flags.json) return yield* Client.printBytes(value)
      yield* Client.print(flags, { key, value: Client.base64(value), revision, version, ...staleness }, "")
    })
).pipe(
  Command.withDescription(
    "Print a value as it is; with --json in base64, with its revision and version, and with how old a stale answer may be. Exit code 3: no such key"
  )
)
