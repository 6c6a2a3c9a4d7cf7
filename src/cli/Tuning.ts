/**
 * The flags that become a server's `Settings`: of `serve`, and of `dev`, which passes them on to each of its servers.
 */
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Settings from "../domain/Settings.ts"
import { parseElectionTimeout } from "./Cluster.ts"
import { type CommandFailed, usageError } from "./Outcome.ts"
import * as Sources from "./Sources.ts"

type NumberSetting = { [K in keyof Settings.Settings]: Settings.Settings[K] extends number ? K : never }[
  keyof Settings.Settings
]

/** Each flag with a whole number: the setting it is, and what it does. */
const numbers: ReadonlyArray<readonly [flag: string, setting: NumberSetting, text: string]> = [
  ["heartbeat-ms", "heartbeatIntervalMs", "How often an idle leader speaks"],
  ["snapshot-entries", "snapshotEntries", "Take a snapshot once this many entries were applied since the last one"],
  [
    "snapshot-bytes",
    "snapshotBytes",
    "Take a snapshot once this many bytes of entries were applied since the last one"
  ],
  [
    "snapshot-growth-percent",
    "snapshotGrowthPercent",
    "…and once those bytes are this part of the last snapshot; 0: whatever it has"
  ],
  ["log-tail-entries", "logTailEntriesMax", "Most entries to keep in the log though a snapshot stands for them"],
  ["snapshot-chunk-bytes", "snapshotChunkBytes", "Most bytes of a snapshot in one message"],
  ["snapshot-bytes-per-second", "snapshotBytesPerSecondMax", "About how many bytes of a snapshot a follower is sent"],
  [
    "clock-drift-percent",
    "clockDriftPercentMax",
    "How far two servers' clocks may run apart; leases are that much shorter"
  ],
  [
    "promotion-lag-entries",
    "promotionLagEntriesMax",
    "A learner has caught up when it is at most this many entries behind"
  ],
  ["sessions", "sessionsMax", "Most sessions to keep; to open another one, the least recently used one expires"],
  ["session-timeout-ms", "sessionTimeoutMs", "A session that is not used for this long expires"]
]

const variable = (flag: string): string => `TITAN_${flag.toUpperCase().replaceAll("-", "_")}`

export const flags = {
  electionTimeoutMs: Sources.text("election-timeout-ms").pipe(
    Flag.optional,
    Flag.withDescription(
      "MIN-MAX: an election starts after that long without a leader; default 150-300 (TITAN_ELECTION_TIMEOUT_MS)"
    )
  ),
  numbers: numbers.map(([flag, setting, text]) =>
    Sources.int(flag).pipe(
      Flag.optional,
      Flag.withDescription(`${text}; default ${Settings.defaults[setting]} (${variable(flag)})`)
    )
  ),
  leaseReads: Sources.boolean("lease-reads").pipe(
    Flag.optional,
    Flag.withDescription(
      "While its lease lasts, let the leader answer reads with lease consistency without asking the others; relies on clocks, see docs/OPERATING.md (TITAN_LEASE_READS)"
    )
  )
}

/** What the flags give; `numbers` in the order of the flags. */
export interface Given {
  readonly electionTimeoutMs: Option.Option<string>
  readonly numbers: ReadonlyArray<Option.Option<number>>
  readonly leaseReads: Option.Option<boolean>
}

/** All defaults. */
export const none: Given = { electionTimeoutMs: Option.none(), numbers: [], leaseReads: Option.none() }

/** What settings are called where the user gave them. */
const flagNames: ReadonlyMap<string, string> = new Map([
  ["electionTimeoutMsMin", "the shortest of --election-timeout-ms"],
  ["electionTimeoutMsMax", "the longest of --election-timeout-ms"],
  ["leaseReads", "--lease-reads"],
  ...numbers.map(([flag, setting]): readonly [string, string] => [setting, `--${flag}`])
])

/** A message about settings, with the flags in their place. */
export const inFlags = (message: string): string => message.replace(/\w+/g, (word) => flagNames.get(word) ?? word)

const electionOf = (text: string): Effect.Effect<Partial<Settings.Settings>, CommandFailed> => {
  const parsed = parseElectionTimeout(text)
  return "problem" in parsed
    ? Effect.fail(usageError(parsed.problem))
    : Effect.succeed({ electionTimeoutMsMin: parsed.value.min, electionTimeoutMsMax: parsed.value.max })
}

/** The settings that the flags override, where these can work. */
export const settingsOf = Effect.fnUntraced(function*(given: Given) {
  const election = Option.isNone(given.electionTimeoutMs) ? {} : yield* electionOf(given.electionTimeoutMs.value)
  const overrides: Partial<Settings.Settings> = {
    ...election,
    ...Object.fromEntries(numbers.flatMap(([, setting], i) => {
      const value = Option.getOrUndefined(given.numbers[i] ?? Option.none())
      return value === undefined ? [] : [[setting, value]]
    })),
    ...Option.match(given.leaseReads, { onNone: () => ({}), onSome: (leaseReads) => ({ leaseReads }) })
  }
  const made = Settings.make(overrides)
  return "problems" in made ? yield* usageError(inFlags(made.problems.join("; "))) : overrides
})

const argOf = (flag: string, value: Option.Option<string | number>): ReadonlyArray<string> =>
  Option.isNone(value) ? [] : [`--${flag}`, String(value.value)]

/** The command line that gives the same. */
export const argsOf = (given: Given): ReadonlyArray<string> => [
  ...argOf("election-timeout-ms", given.electionTimeoutMs),
  ...numbers.flatMap(([flag], i) => argOf(flag, given.numbers[i] ?? Option.none())),
  ...Option.match(given.leaseReads, {
    onNone: () => [],
    onSome: (isOn) => [isOn ? "--lease-reads" : "--no-lease-reads"]
  })
]
