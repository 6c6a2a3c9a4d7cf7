/**
 * What a snapshot stands for (paper §7): the entries up to its last included one, and the configuration in force there (rule M2). Its bytes
 * never enter the core.
 */
import type { Configuration } from "./Configuration.ts"
import { type EntryId, origin } from "./Entry.ts"

export interface Snapshot {
  /** The last entry it stands for (paper: lastIncludedIndex, lastIncludedTerm). */
  readonly last: EntryId
  /** In force at `last`. */
  readonly configuration: Configuration
  /** What it takes as a file, and on the wire. */
  readonly sizeBytes: number
}

/** The snapshot before the first one: it stands for nothing. */
export const none = (configuration: Configuration): Snapshot => ({ last: origin, configuration, sizeBytes: 0 })
