/**
 * The names of what is checked. *Always* holds in every state and step; *sometimes* is reached at least once, or the search proved less
 * than it seems to.
 */
export const always = [
  "checkState",
  "checkStep",
  "Election Safety",
  "Leader Append-Only",
  "Log Matching",
  "Leader Completeness",
  "State Machine Safety",
  "no promise is broken",
  "its term is durable first (rule V1)",
  "a vote is durable first (rule V1)",
  "one vote a term (rules V1, V2)",
  "a match is durable first (rule L6)",
  "merged writes leave what the writes would",
  "a commit is on the disks of a majority (rule L6)",
  "what is committed stays on the disks of a majority",
  "what is applied is on its server's disk",
  "entries are applied in order, each once",
  "a snapshot stands for what was committed",
  "a snapshot that is sent is there",
  "a snapshot that is to be installed is kept",
  "a log that stays holds the snapshot's last entry",
  "what a disk gives up its snapshot stands for",
  "what a crash leaves can be recovered",
  "a read sees everything committed before it (rules R1, R2)",
  "an answer to an earlier life confirms no read",
  "a pre-vote changes nothing at the voter (rule V5)",
  "an election is won by the majorities of the configuration in force (rules V7, M4, M5)",
  "the configuration in force is what the log says (rule M2)",
  "one voter moves at a time, or all jointly (rules M3, M4)",
  "the configuration changes when what came before is committed (rules M1, M3)",
  "a change that is reported is committed",
  "who was removed neither leads nor stands (rule M6)",
  "a successor is told by its leader, and has its log (rule M7)",
  "nothing is proposed while leadership is handed over (rule M7)",
  "servers are alike"
] as const

export type Always = (typeof always)[number]

export const sometimes = [
  "a leader is elected",
  "two leaders of different terms at once",
  "a term's votes are split",
  "an entry is committed",
  "a commit survives the crash of its leader",
  "a follower cuts a conflicting entry",
  "an older term's entry is on a majority and not committed by counting",
  "a voter crashes between its write and its vote",
  "a vote is denied for an older log",
  "a read is served",
  "a read is refused because its leader stepped down",
  "a stale AppendEntries is answered",
  "a merged write contains a cut",
  "a rejection is repaired",
  "a write is torn and what is left of it survives",
  "a pre-vote is denied",
  "a denial's term is adopted",
  "a leader steps down for lack of a quorum",
  "a vote request is ignored because a leader is alive",
  "a snapshot is installed and the log stays",
  "a snapshot takes the place of a shorter log",
  "a snapshot takes the place of a log that went another way",
  "a snapshot is ignored because more is committed",
  "entries are appended while an install waits for the disk",
  "power is lost between an installed snapshot and its log",
  "the acknowledgement of an install is lost",
  "a follower is sent a second snapshot",
  "a server leads whose log was compacted",
  "a server gets the state back that it lost",
  "a read of a follower is served",
  "a leader that steps down answers what it was asked",
  "an answer comes to a later life of its asker",
  "a configuration is rolled back",
  "a learner is promoted",
  "a learner is promoted by a later leader",
  "a learner has what is not committed without it",
  "a change waits for an entry of its leader's term",
  "a change waits for the one before it",
  "a joint configuration is left by another leader",
  "one of two majorities has what is not committed",
  "a leader that removed itself steps down",
  "a server that removed itself stands once more",
  "a server that was removed asks for votes",
  "a server hears that it was removed",
  "a newcomer learns of its cluster",
  "an election is won by transfer",
  "a transfer is given up",
  "a proposal is refused while leadership is handed over",
  "a leader that removed itself is followed by whom it told to stand"
] as const

export type Sometimes = (typeof sometimes)[number]

/** A set of sometimes-properties as one number: there can be 53. */
export type Seen = number

const half = 2 ** 32

const places = new Map(sometimes.map((property, i) => [property, 2 ** i] as const))

export const bitOf = (property: Sometimes): Seen => places.get(property) ?? 0

export const either = (a: Seen, b: Seen): Seen => {
  if (a === 0) return b
  if (b === 0 || a === b) return a
  return (((a / half) | 0) | ((b / half) | 0)) * half + ((a | b) >>> 0)
}

/** Calls `use` with the number of each property in `seen`. */
export const eachOf = (seen: Seen, use: (i: number) => void): void => {
  let low = seen | 0
  for (; low !== 0; low &= low - 1) use(31 - Math.clz32(low & -low))
  let high = (seen / half) | 0
  for (; high !== 0; high &= high - 1) use(63 - Math.clz32(high & -high))
}

export interface Finding {
  /** Which property does not hold: one of `always`, or the finding of `checkState` or `checkStep` in its own words. */
  readonly property: string
  readonly detail: string
}

/** What a model run throws out of a step to say that something does not hold. */
export class Violation extends Error {
  override readonly name = "Violation"
  readonly finding: Finding
  constructor(property: string, detail: string) {
    super(`${property}: ${detail}`)
    this.finding = { property, detail }
  }
}

/** How often each always-property was decided. */
export type Tally = Record<Always, number>

export const emptyTally = (): Tally => {
  const counts: Partial<Tally> = {}
  for (const name of always) counts[name] = 0
  return counts as Tally
}

export const demand = (tally: Tally, property: Always, holds: boolean, detail: () => string): void => {
  tally[property]++
  if (!holds) throw new Violation(property, detail())
}
