/**
 * Where settings come from besides flags: the environment, `TITAN_…`, then the file of `--config`, TOML or JSON. Names are those of the
 * flags: `--data-dir` is `TITAN_DATA_DIR` and `data-dir = "…"`. Flags that may be repeated are plural there: `TITAN_PEERS` and
 * `TITAN_ENDPOINTS`, separated by commas, and arrays in a file.
 */
import * as CliError from "effect/cli/CliError"
import * as Flag from "effect/cli/Flag"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Toml from "effect/encoding/Toml"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { readFileSync } from "node:fs"
import { type CommandFailed, usageError } from "./Outcome.ts"

/** Every name that may stand in a file: a misspelt setting is an error, not a default. */
const names: ReadonlySet<string> = new Set([
  "id",
  "listen",
  "peers",
  "join",
  "learner",
  "data-dir",
  "cluster",
  "election-timeout-ms",
  "heartbeat-ms",
  "snapshot-entries",
  "snapshot-bytes",
  "snapshot-growth-percent",
  "log-tail-entries",
  "snapshot-chunk-bytes",
  "snapshot-bytes-per-second",
  "lease-reads",
  "clock-drift-percent",
  "promotion-lag-entries",
  "sessions",
  "session-timeout-ms",
  "value-bytes-max",
  "peer-protocol",
  "log-format",
  "endpoints",
  "timeout-ms"
])

const parse = (path: string, text: string): Record<string, unknown> => {
  const parsed: unknown = path.endsWith(".json") ? JSON.parse(text) : Result.getOrThrow(Toml.parse(text))
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw new Error("expected a table of settings")
  }
  return { ...parsed }
}

const readFile = (path: string): Effect.Effect<ConfigProvider.ConfigProvider, CommandFailed> =>
  Effect.try({
    try: () => {
      const settings = parse(path, readFileSync(path, "utf8"))
      const unknown = Object.keys(settings).filter((name) => !names.has(name))
      if (unknown.length > 0) {
        throw new Error(`no such setting: ${unknown.join(", ")}; there are ${[...names].join(", ")}`)
      }
      return ConfigProvider.fromUnknown(settings)
    },
    catch: (error) => usageError(`--config ${path}: ${error instanceof Error ? error.message : String(error)}`)
  })

/** The file must be known before the flags are read, since they fall back to it. */
const fileOf = (args: ReadonlyArray<string>): string | undefined => {
  for (const [i, arg] of args.entries()) {
    if (arg === "--") break
    if (arg === "--config") return args[i + 1]
    if (arg.startsWith("--config=")) return arg.slice("--config=".length)
  }
  return process.env["TITAN_CONFIG"]
}

/** The provider that flags fall back to, for the given command line. */
export const provider = (
  args: ReadonlyArray<string>
): Effect.Effect<ConfigProvider.ConfigProvider, CommandFailed> =>
  Effect.gen(function*() {
    const environment = ConfigProvider.fromEnv().pipe(ConfigProvider.constantCase, ConfigProvider.nested("TITAN"))
    const file = fileOf(args)
    return file === undefined ? environment : ConfigProvider.orElse(environment, yield* readFile(file))
  })

const trimmed = (items: ReadonlyArray<string>): ReadonlyArray<string> =>
  items.map((item) => item.trim()).filter((item) => item !== "")

/** A flag that may be repeated, with its plural name in the other sources. Empty when it is nowhere. */
export const list = (flag: string, plural: string): Flag.Flag<ReadonlyArray<string>> =>
  Flag.String(flag).pipe(
    Flag.atLeast(0),
    Flag.mapEffect((given) =>
      given.length > 0
        ? Effect.succeed(given)
        : Config.Array(Schema.String, plural).pipe(
          Config.withDefault([]),
          Effect.mapBoth({
            onSuccess: trimmed,
            onFailure: (error) =>
              new CliError.InvalidValue({
                option: flag,
                value: plural,
                expected: `an array of text for ${plural}: ${error.message}`,
                kind: "flag"
              })
          })
        )
    )
  )

/** A text flag with a fallback in the other sources. */
export const text = (name: string): Flag.Flag<string> =>
  Flag.String(name).pipe(Flag.withFallbackConfig(Config.String(name)))

/** A flag for whole numbers with a fallback in the other sources. */
export const int = (name: string): Flag.Flag<number> =>
  text(name).pipe(
    Flag.withMetavar("integer"),
    Flag.mapEffect((value) =>
      /^-?\d{1,15}$/.test(value)
        ? Effect.succeed(Number(value))
        : Effect.fail(new CliError.InvalidValue({ option: name, value, expected: "a whole number", kind: "flag" }))
    )
  )

/** A flag that is on or off, with a fallback in the other sources: `true` or `false` there. */
export const boolean = (name: string): Flag.Flag<boolean> =>
  Flag.Boolean(name).pipe(
    Flag.withFallbackConfig(Config.String(name)),
    Flag.mapEffect((value) =>
      typeof value === "boolean"
        ? Effect.succeed(value)
        : value === "true" || value === "false"
        ? Effect.succeed(value === "true")
        : Effect.fail(new CliError.InvalidValue({ option: name, value, expected: "true or false", kind: "flag" }))
    )
  )

/** A flag for one of a few words, with a fallback in the other sources, and the first of them as default. */
export const word = <const W extends readonly [string, ...ReadonlyArray<string>]>(
  name: string,
  words: W
): Flag.Flag<W[number]> =>
  text(name).pipe(
    Flag.withMetavar(words.join("|")),
    Flag.withDefault(words[0]),
    Flag.mapEffect((value) => {
      const found = words.find((one) => one === value)
      const expected = `one of ${words.join(", ")}`
      return found === undefined
        ? Effect.fail(new CliError.InvalidValue({ option: name, value, expected, kind: "flag" }))
        : Effect.succeed(found)
    })
  )
