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
  "an answer comes to a later life of its asker"
] as const

export type Sometimes = (typeof sometimes)[number]

/** A set of sometimes-properties as one integer: there can be 32. */
export const bitOf = (property: Sometimes): number => 1 << sometimes.indexOf(property)

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
