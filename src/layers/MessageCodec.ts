/**
 * Messages as they travel between servers: the headers as Schema, the entries of an AppendEntries as the one block of
 * `Codec.encodeEntries`, encoded once for the disk and every peer.
 *
 * The schemas fix shapes only. What the numbers mean is checked by `fromWire`, message by message, so that one bad
 * message is dropped by itself and its neighbours pass.
 */
// @effect-diagnostics schemaNumber:off
import * as Schema from "effect/Schema"
import type { Entry, EntryId } from "../domain/Entry.ts"
import * as Entries from "../domain/Entry.ts"
import type { AppendEntries, AppendEntriesResponse, Message } from "../domain/Message.ts"
import { BlockError, decodeEntries, encodeEntries } from "./Codec.ts"

/** A term, an index or a round. Any number at all passes here: `fromWire` refuses the wrong ones by name. */
const Counter = Schema.Number

const WireEntryId = Schema.Struct({ term: Counter, index: Counter })

const WireAppendEntries = Schema.TaggedStruct("AppendEntries", {
  term: Counter,
  prev: WireEntryId,
  /** A block of `Codec.ts`; no bytes at all for a heartbeat. */
  entries: Schema.Uint8Array,
  leaderCommit: Counter,
  round: Counter
})

const WireAppendEntriesResponse = Schema.TaggedStruct("AppendEntriesResponse", {
  term: Counter,
  round: Counter,
  result: Schema.Union([
    Schema.TaggedStruct("Matched", { matchIndex: Counter }),
    Schema.TaggedStruct("Rejected", {
      prevIndex: Counter,
      conflict: Schema.Struct({ term: Schema.optionalKey(Counter), index: Counter })
    }),
    Schema.TaggedStruct("Stale", {})
  ])
})

/** One message on the wire. */
export const WireMessage = Schema.Union([
  Schema.TaggedStruct("RequestVote", { term: Counter, last: WireEntryId }),
  Schema.TaggedStruct("RequestVoteResponse", { term: Counter, voteGranted: Schema.Boolean }),
  Schema.TaggedStruct("RequestPreVote", { term: Counter, last: WireEntryId }),
  Schema.TaggedStruct("RequestPreVoteResponse", { term: Counter, voteGranted: Schema.Boolean }),
  WireAppendEntries,
  WireAppendEntriesResponse
])
export type WireMessage = typeof WireMessage.Type

const noBytes = new Uint8Array(0)

const toWireResponse = (message: AppendEntriesResponse): typeof WireAppendEntriesResponse.Type => {
  const { result } = message
  if (result._tag !== "Rejected") return { ...message, result }
  const { index, term } = result.conflict
  return { ...message, result: { ...result, conflict: term === undefined ? { index } : { term, index } } }
}

export const toWire = (message: Message): WireMessage => {
  switch (message._tag) {
    case "AppendEntries":
      return { ...message, entries: message.entries.length === 0 ? noBytes : encodeEntries(message.entries) }
    case "AppendEntriesResponse":
      return toWireResponse(message)
    default:
      return message
  }
}

/** What a message's header is taken to cost on the wire, with room to spare. */
const headerBytes = 256

/** An upper bound of the bytes that `message` takes on the wire. */
export const sizeBytes = (message: Message): number => {
  if (message._tag !== "AppendEntries") return headerBytes
  let size = headerBytes
  for (const entry of message.entries) size += Entries.sizeBytes(entry)
  return size
}

/** Terms and indexes are stored in six bytes; see `Codec.ts`. */
const counterMax = 2 ** 48 - 1

const isCounter = (value: number): boolean => Number.isSafeInteger(value) && value >= 0 && value <= counterMax

const isId = (id: EntryId): boolean => isCounter(id.term) && isCounter(id.index) && (id.term === 0) === (id.index === 0)

const headerProblem = (wire: WireMessage): string | undefined => {
  if (!isCounter(wire.term)) return `its term is ${wire.term}`
  switch (wire._tag) {
    case "RequestVote":
    case "RequestPreVote":
      return isId(wire.last) ? undefined : `its last entry is ${JSON.stringify(wire.last)}`
    case "RequestVoteResponse":
    case "RequestPreVoteResponse":
      return undefined
    case "AppendEntries":
      if (!isId(wire.prev)) return `its previous entry is ${JSON.stringify(wire.prev)}`
      if (!isCounter(wire.leaderCommit)) return `its commit index is ${wire.leaderCommit}`
      return isCounter(wire.round) ? undefined : `its round is ${wire.round}`
    case "AppendEntriesResponse": {
      const { result } = wire
      const numbers = result._tag === "Matched"
        ? [result.matchIndex]
        : result._tag === "Rejected"
        ? [result.prevIndex, result.conflict.index, result.conflict.term ?? 0]
        : []
      const isSound = isCounter(wire.round) && numbers.every(isCounter)
      return isSound ? undefined : `its round is ${wire.round} and its result ${JSON.stringify(result)}`
    }
    default:
      return wire satisfies never
  }
}

/**
 * Rule L5, and no entry from a term later than its leader's. The block itself is contiguous and its terms never fall.
 */
const entriesProblem = (message: AppendEntries): string | undefined => {
  const { entries, prev, term } = message
  const first = entries[0]
  if (prev.term > term) return `the term of its previous entry is ${prev.term}, later than its own, ${term}`
  if (first === undefined) return undefined
  if (first.index !== prev.index + 1) return `its entries start at ${first.index} and follow ${prev.index}`
  if (first.term < prev.term) return `the term falls from ${prev.term} to ${first.term} at index ${first.index}`
  const lastTerm = entries.at(-1)?.term ?? 0
  return lastTerm > term ? `its last entry is of term ${lastTerm}, later than its own, ${term}` : undefined
}

const decodeBlock = (block: Uint8Array): ReadonlyArray<Entry> | string => {
  try {
    return block.length === 0 ? [] : decodeEntries(block)
  } catch (error) {
    if (error instanceof BlockError) return error.message
    throw error
  }
}

/** A message that came in, or why it is none. */
export type Decoded = { readonly message: Message } | { readonly problem: string }

const fromWireAppendEntries = (wire: typeof WireAppendEntries.Type): Decoded => {
  const entries = decodeBlock(wire.entries)
  if (typeof entries === "string") return { problem: entries }
  const { leaderCommit, prev, round, term } = wire
  const message: AppendEntries = { _tag: "AppendEntries", term, prev, entries, leaderCommit, round }
  const problem = entriesProblem(message)
  return problem === undefined ? { message } : { problem }
}

const fromWireResponse = (wire: typeof WireAppendEntriesResponse.Type): Message => {
  const { result } = wire
  if (result._tag !== "Rejected") return { ...wire, result }
  const { index, term } = result.conflict
  return { ...wire, result: { ...result, conflict: { term, index } } }
}

/** Decodes and checks one message; the entries' payloads are views on its block. */
export const fromWire = (wire: WireMessage): Decoded => {
  const problem = headerProblem(wire)
  if (problem !== undefined) return { problem }
  switch (wire._tag) {
    case "AppendEntries":
      return fromWireAppendEntries(wire)
    case "AppendEntriesResponse":
      return { message: fromWireResponse(wire) }
    default:
      return { message: wire }
  }
}
