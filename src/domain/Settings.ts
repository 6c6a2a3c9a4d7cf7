/**
 * The knobs of one node, with defaults. `make` refuses relations that cannot work, naming both values.
 */
import { sequenceMax } from "./Session.ts"

export interface Settings {
  /** Election timeouts are drawn from [min, max), in milliseconds (paper §5.2, §9.3). */
  readonly electionTimeoutMsMin: number
  readonly electionTimeoutMsMax: number
  /** How often an idle leader speaks, in milliseconds. */
  readonly heartbeatIntervalMs: number
  /** Pre-vote, check-quorum and leader stickiness (thesis §9.6, §6.2, §4.2.3), together: each alone has a hole (rule V8). */
  readonly preVote: boolean
  readonly checkQuorum: boolean
  readonly leaderStickiness: boolean
  /** Most entries, and about most bytes, of one AppendEntries. A single larger entry still travels, alone. */
  readonly appendEntriesMax: number
  readonly appendBytesMax: number
  /** Most unacknowledged AppendEntries per follower, by number and by bytes. */
  readonly inflightMessagesMax: number
  readonly inflightBytesMax: number
  /** Most bytes of entries a leader holds uncommitted before it refuses proposals (rule L10). */
  readonly uncommittedBytesMax: number
  /** A snapshot is taken once this many entries, or bytes of entries, were applied since the last one (paper §7)… */
  readonly snapshotEntries: number
  readonly snapshotBytes: number
  /** …and once those bytes are this part, in percent, of the last snapshot: what takes long to write is written less often. */
  readonly snapshotGrowthPercent: number
  /** Most entries that stay in the log though a snapshot stands for them, for followers that are a little behind. */
  readonly logTailEntriesMax: number
  /** Most bytes of one InstallSnapshot, and about how many a second go to one follower. */
  readonly snapshotChunkBytes: number
  readonly snapshotBytesPerSecondMax: number
  /** Whether a leader may answer from its lease those reads that ask for it (thesis §6.4.1). It relies on clocks (rule R3). */
  readonly leaseReads: boolean
  /** How far the clocks of two servers may run apart, in percent of the time that passes. A lease is shorter by so much. */
  readonly clockDriftPercentMax: number
  /** A learner has caught up when it is at most this many entries behind for a whole round (thesis §4.2.1). */
  readonly promotionLagEntriesMax: number
  /** Most sessions that the replicated state keeps: to open another one, the least recently used one expires (thesis §6.3). */
  readonly sessionsMax: number
  /** A session that is not used for this long, in milliseconds of the log's own time, expires. */
  readonly sessionTimeoutMs: number
}

/**
 * What any transport must carry as one message, in bytes: an AppendEntries of `appendBytesMax`, or of one larger entry. A message that no
 * transport takes would be sent again for ever.
 */
export const messageBytesMax = 16 << 20

export const defaults: Settings = {
  electionTimeoutMsMin: 150,
  electionTimeoutMsMax: 300,
  heartbeatIntervalMs: 50,
  preVote: true,
  checkQuorum: true,
  leaderStickiness: true,
  appendEntriesMax: 1024,
  appendBytesMax: 1 << 20,
  inflightMessagesMax: 64,
  inflightBytesMax: 16 << 20,
  uncommittedBytesMax: 64 << 20,
  snapshotEntries: 100_000,
  snapshotBytes: 64 << 20,
  snapshotGrowthPercent: 50,
  logTailEntriesMax: 5000,
  snapshotChunkBytes: 256 << 10,
  snapshotBytesPerSecondMax: 64 << 20,
  leaseReads: false,
  clockDriftPercentMax: 10,
  promotionLagEntriesMax: 1000,
  sessionsMax: 10_000,
  sessionTimeoutMs: 3_600_000
}

const positive: ReadonlyArray<keyof Settings> = [
  "electionTimeoutMsMin",
  "electionTimeoutMsMax",
  "heartbeatIntervalMs",
  "appendEntriesMax",
  "appendBytesMax",
  "inflightMessagesMax",
  "inflightBytesMax",
  "uncommittedBytesMax",
  "snapshotEntries",
  "snapshotBytes",
  "snapshotChunkBytes",
  "snapshotBytesPerSecondMax",
  "sessionsMax",
  "sessionTimeoutMs"
]

const notNegative: ReadonlyArray<keyof Settings> = [
  "snapshotGrowthPercent",
  "logTailEntriesMax",
  "clockDriftPercentMax",
  "promotionLagEntriesMax"
]

/** Every reason why these settings cannot work; empty when they can. Each names the values that clash. */
export const problems = (settings: Settings): ReadonlyArray<string> => {
  const s = settings
  const found = positive
    .filter((name) => !Number.isSafeInteger(s[name]) || Number(s[name]) < 1)
    .map((name) => `${name} must be a whole number above 0, but is ${String(s[name])}`)
  for (const name of notNegative) {
    if (Number.isSafeInteger(s[name]) && Number(s[name]) >= 0) continue
    found.push(`${name} must be a whole number from 0, but is ${String(s[name])}`)
  }
  if (s.heartbeatIntervalMs * 2 > s.electionTimeoutMsMin) {
    found.push(
      `heartbeatIntervalMs (${s.heartbeatIntervalMs}) must be at most half of electionTimeoutMsMin (${s.electionTimeoutMsMin}): one lost heartbeat must not start an election`
    )
  }
  if (s.electionTimeoutMsMax < s.electionTimeoutMsMin * 2) {
    found.push(
      `electionTimeoutMsMax (${s.electionTimeoutMsMax}) must be at least twice electionTimeoutMsMin (${s.electionTimeoutMsMin}): a narrow range splits votes`
    )
  }
  if (s.appendBytesMax > s.inflightBytesMax) {
    found.push(`appendBytesMax (${s.appendBytesMax}) must not exceed inflightBytesMax (${s.inflightBytesMax})`)
  }
  if (s.appendBytesMax > messageBytesMax / 2) {
    found.push(
      `appendBytesMax (${s.appendBytesMax}) must be at most half of what a message may have (${messageBytesMax})`
    )
  }
  if (s.appendBytesMax > s.uncommittedBytesMax) {
    found.push(`appendBytesMax (${s.appendBytesMax}) must not exceed uncommittedBytesMax (${s.uncommittedBytesMax})`)
  }
  if (s.snapshotChunkBytes > messageBytesMax / 2) {
    found.push(
      `snapshotChunkBytes (${s.snapshotChunkBytes}) must be at most half of what a message may have (${messageBytesMax})`
    )
  }
  for (const name of ["sessionsMax", "sessionTimeoutMs"] as const) {
    if (s[name] > sequenceMax) found.push(`${name} (${s[name]}) must be at most ${sequenceMax}`)
  }
  if (s.leaseReads && !s.leaderStickiness) {
    found.push("leaseReads needs leaderStickiness: a lease is the others' promise not to help elect another leader")
  }
  if (s.clockDriftPercentMax >= 100) {
    found.push(`clockDriftPercentMax (${s.clockDriftPercentMax}) must be below 100: nothing would be left of a lease`)
  }
  return found
}

/** The defaults with `overrides`, or every reason why they cannot work. Example: `make({ heartbeatIntervalMs: 30 })`. */
export const make = (
  overrides: Partial<Settings> = {}
): { readonly settings: Settings } | { readonly problems: ReadonlyArray<string> } => {
  const settings: Settings = { ...defaults, ...overrides }
  const found = problems(settings)
  return found.length === 0 ? { settings } : { problems: found }
}
