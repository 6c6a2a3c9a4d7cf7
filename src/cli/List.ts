/** `titan list [PREFIX]`: prints keys and values in key order. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { listLimitDefault, listLimitMax } from "../layers/kv/Protocol.ts"
import * as Client from "./Client.ts"
import { CommandFailed, failed, usageError } from "./Outcome.ts"
import * as Table from "./Table.ts"

const shownMax = 60

/** Text as it is where a terminal can show it on one line, else a word on what there is. */
const shown = (value: Uint8Array): string => {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(value)
    if (!/\p{Cc}/u.test(text)) return text.length <= shownMax ? text : `${text.slice(0, shownMax)}…`
  } catch {
    // Not text: described below.
  }
  return `(${value.length} bytes)`
}

export const command = Command.make("list", {
  prefix: Argument.String("PREFIX").pipe(Argument.withDefault("")),
  limit: Flag.Int("limit").pipe(
    Flag.withDefault(listLimitDefault),
    Flag.withDescription(
      `Most keys to print, 1 to ${listLimitMax}, and at most 4 MiB of them; default ${listLimitDefault}`
    )
  ),
  after: Flag.String("after").pipe(Flag.optional, Flag.withDescription("Start with the first key past this one")),
  ...Client.reading,
  ...Client.flags
}, (flags) =>
  Effect.gen(function*() {
    const { limit, prefix } = flags
    if (limit < 1 || limit > listLimitMax) return yield* usageError(`--limit ${limit}: expected 1 to ${listLimitMax}`)
    const after = Option.isSome(flags.after) ? { after: flags.after.value } : {}
    const { answer: listed, staleness } = yield* Client.read(flags, { _tag: "List", prefix, limit, ...after })
    if (listed._tag !== "Listed") {
      return yield* new CommandFailed({ exitCode: failed, message: "the answer is no list" })
    }
    const { items, more, revision } = listed
    const rows = items.map(({ key, value, ...item }) => [key, `${item.revision}`, `${item.version}`, shown(value)])
    yield* Client.print(
      flags,
      { items: items.map((item) => ({ ...item, value: Client.base64(item.value) })), revision, more, ...staleness },
      Table.format([["KEY", "REVISION", "VERSION", "VALUE"], ...rows])
    )
    if (more && !flags.json) yield* Console.error(`there is more: --after ${JSON.stringify(items.at(-1)?.key)}`)
  })).pipe(Command.withDescription("List the keys that start with PREFIX, in order, with their values"))
