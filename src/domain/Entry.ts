/**
 * Log entries (Raft paper §5.3): a payload for the state machine, the term when a leader received it, and its index.
 */

import type { Configuration } from "./Configuration.ts"

/** A term: 0 before the first election, then 1, 2, … (paper §5.1). */
export type Term = number

/** A position in the log. The first entry has index 1; 0 means "before the log". */
export type LogIndex = number

/** What identifies an entry for good: two logs that hold the same `EntryId` agree on everything up to it (Log Matching). */
export interface EntryId {
  readonly term: Term
  readonly index: LogIndex
}

/** Names a session: the index of the entry that opened it (thesis §6.3). */
export type SessionId = LogIndex

/** Which command of which session, and what the client has seen (thesis §6.3; `Session.ts` has the rules). */
export interface Sequenced {
  readonly session: SessionId
  /** 1, 2, 3, … within the session; the same in every retry. */
  readonly sequence: number
  /** The client has the answers to all commands below this one, and never sends those again. */
  readonly firstUnanswered: number
}

/**
 * What an entry carries. `Noop` starts a leadership (paper §8); `Command` is opaque bytes for the state machine; a `SessionCommand` is one that is
 * applied once, however often it is retried. `timeMs` is the log's own time, as the leader stamps it; the limits of `OpenSession` are the
 * leader's, in the log so that all servers have the same (rule R5).
 */
export type Payload =
  | { readonly _tag: "Noop" }
  | { readonly _tag: "Command"; readonly bytes: Uint8Array }
  | { readonly _tag: "Configuration"; readonly configuration: Configuration }
  | {
    readonly _tag: "OpenSession"
    readonly timeMs: number
    readonly sessionsMax: number
    readonly timeoutMs: number
  }
  | {
    readonly _tag: "SessionCommand"
    readonly timeMs: number
    readonly sequenced: Sequenced
    readonly bytes: Uint8Array
  }

export interface Entry {
  readonly term: Term
  readonly index: LogIndex
  readonly payload: Payload
}

export const noop: Payload = { _tag: "Noop" }

export const command = (bytes: Uint8Array): Payload => ({ _tag: "Command", bytes })

/** Bytes that every entry costs beyond its payload, in memory limits and on the wire alike. */
export const entryOverheadBytes = 24

/** What a session adds to a command. */
export const sessionOverheadBytes = 24

/** What one name in a configuration is taken to cost, its quotes and such included, and an address beyond its length. */
const nameBytes = 80

/** What a configuration takes at most, as bytes. */
export const configurationBytes = ({ addresses, joining, learners, outgoing, voters }: Configuration): number => {
  let bytes = 128 + nameBytes * (voters.length + learners.length + joining.length + outgoing.length + addresses.size)
  // An address may have characters of several bytes each, or escaped ones.
  for (const address of addresses.values()) bytes += 6 * address.length
  return bytes
}

/** What a payload takes at most, as bytes. */
const payloadBytes = (payload: Payload): number => {
  switch (payload._tag) {
    case "Noop":
      return 0
    case "Command":
      return payload.bytes.length
    case "SessionCommand":
      return sessionOverheadBytes + payload.bytes.length
    case "OpenSession":
      return sessionOverheadBytes
    case "Configuration":
      return configurationBytes(payload.configuration)
    default:
      return payload satisfies never
  }
}

/** What an entry counts for against every limit in bytes. */
export const sizeBytes = (entry: Entry): number => entryOverheadBytes + payloadBytes(entry.payload)

/** "At least as up-to-date" (paper §5.4.1): the later last term wins; with equal terms, the longer log. */
export const isUpToDate = (candidate: EntryId, voter: EntryId): boolean =>
  candidate.term > voter.term || (candidate.term === voter.term && candidate.index >= voter.index)

/** The `EntryId` before every log. */
export const origin: EntryId = { term: 0, index: 0 }
