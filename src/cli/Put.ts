/** `titan put KEY VALUE`: writes a value. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import { valueBytesMax, valueProblem } from "../layers/kv/Protocol.ts"
import * as Client from "./Client.ts"
import { usageError } from "./Outcome.ts"

const stdinBytes = Effect.gen(function*() {
  const { stdin } = yield* Stdio.Stdio
  let size = 0
  // One chunk past what any server takes is enough to refuse the value; the rest stays unread.
  const chunks = yield* stdin.pipe(
    Stream.takeUntil((chunk) => (size += chunk.length) > valueBytesMax),
    Stream.runCollect,
    Effect.orDie
  )
  return new Uint8Array(Buffer.concat([...chunks]))
})

export const command = Command.make("put", {
  key: Argument.String("KEY"),
  value: Argument.String("VALUE").pipe(Argument.withDescription("The value's text; - reads its bytes from stdin")),
  ifRevision: Client.ifRevision,
  ...Client.flags
}, (flags) =>
  Effect.gen(function*() {
    const key = yield* Client.validKey(flags.key)
    const condition = yield* Client.condition(flags.ifRevision)
    const value = flags.value === "-" ? yield* stdinBytes : new TextEncoder().encode(flags.value)
    const problem = valueProblem(value)
    if (problem !== undefined) return yield* usageError(problem)
    const { revision } = yield* Client.write(flags, (store) => store.put(key, value, condition))
    yield* Client.print(flags, { revision }, `revision ${revision}`)
  })).pipe(
    Command.withDescription("Write a value; prints its revision"),
    Command.withExamples([
      { command: "titan put greeting hello", description: "Write text" },
      { command: "titan put photo - < photo.jpg", description: "Write the bytes of a file" },
      {
        command: "titan put lock me --if-revision 0",
        description: "Only if the key does not exist: exit code 3 if it does"
      }
    ])
  )
