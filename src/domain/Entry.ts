/**
 * Log entries (Raft paper §5.3): a payload for the state machine, the term when a leader received it, and its index.
 */

/** A term: 0 before the first election, then 1, 2, … (paper §5.1). */
export type Term = number

/** A position in the log. The first entry has index 1; 0 means "before the log". */
export type LogIndex = number

/** What identifies an entry for good: two logs that hold the same `EntryId` agree on everything up to it (Log Matching). */
export interface EntryId {
  readonly term: Term
  readonly index: LogIndex
}

/** What an entry carries. `Noop` starts a leadership (paper §8); `Command` is opaque bytes for the state machine. */
export type Payload =
  | { readonly _tag: "Noop" }
  | { readonly _tag: "Command"; readonly bytes: Uint8Array }

export interface Entry {
  readonly term: Term
  readonly index: LogIndex
  readonly payload: Payload
}

export const noop: Payload = { _tag: "Noop" }

export const command = (bytes: Uint8Array): Payload => ({ _tag: "Command", bytes })

/** Bytes that every entry costs beyond its payload, in memory limits and on the wire alike. */
export const entryOverheadBytes = 24

/** What an entry counts for against every limit in bytes. */
export const sizeBytes = (entry: Entry): number =>
  entryOverheadBytes + (entry.payload._tag === "Command" ? entry.payload.bytes.length : 0)

/** "At least as up-to-date" (paper §5.4.1): the later last term wins; with equal terms, the longer log. */
export const isUpToDate = (candidate: EntryId, voter: EntryId): boolean =>
  candidate.term > voter.term || (candidate.term === voter.term && candidate.index >= voter.index)

/** The `EntryId` before every log. */
export const origin: EntryId = { term: 0, index: 0 }
