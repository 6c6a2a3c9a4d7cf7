/**
 * Messages as they travel between servers: the headers as Schema, the entries of an AppendEntries as the one block of
 * `Codec.encodeEntries`, encoded once for the disk and every peer, the bytes of a snapshot as they lie on disk.
 *
 * The schemas fix shapes only. What the numbers mean is checked by `fromWire`, message by message, so that one bad
 * message is dropped by itself and its neighbours pass.
 */
// @effect-diagnostics schemaNumber:off
import * as Schema from "effect/Schema"
import type { Entry, EntryId, Term } from "../domain/Entry.ts"
import * as Entries from "../domain/Entry.ts"
import type { AppendEntries, AppendEntriesResponse } from "../domain/Message.ts"
import type { PeerMessage } from "../services/Transport.ts"
import { BlockError, decodeEntries, encodeEntries } from "./Codec.ts"
import * as ConfigurationCodec from "./ConfigurationCodec.ts"

/** A term, an index, a round or a size. Any number at all passes here: `fromWire` refuses the wrong ones by name. */
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
    Schema.TaggedStruct("NeedsSnapshot", { prevIndex: Counter }),
    Schema.TaggedStruct("Stale", {})
  ])
})

const WireRequestReadIndexResponse = Schema.TaggedStruct("RequestReadIndexResponse", {
  term: Counter,
  ask: Counter,
  readIndex: Schema.optionalKey(Counter)
})

const WireInstallSnapshot = Schema.TaggedStruct("InstallSnapshot", {
  term: Counter,
  snapshot: Schema.Struct({
    last: WireEntryId,
    configuration: ConfigurationCodec.ConfigurationData,
    sizeBytes: Counter
  }),
  offset: Counter,
  bytes: Schema.Uint8Array
})

const WireInstallSnapshotResponse = Schema.TaggedStruct("InstallSnapshotResponse", {
  term: Counter,
  last: WireEntryId,
  result: Schema.Union([
    Schema.TaggedStruct("Expects", { offset: Counter }),
    Schema.TaggedStruct("Received", {}),
    Schema.TaggedStruct("Damaged", {})
  ])
})

/** One message on the wire. */
export const WireMessage = Schema.Union([
  Schema.TaggedStruct("RequestVote", { term: Counter, last: WireEntryId, isTransfer: Schema.Boolean }),
  Schema.TaggedStruct("RequestVoteResponse", { term: Counter, voteGranted: Schema.Boolean }),
  Schema.TaggedStruct("RequestPreVote", { term: Counter, last: WireEntryId }),
  Schema.TaggedStruct("RequestPreVoteResponse", { term: Counter, voteGranted: Schema.Boolean }),
  WireAppendEntries,
  WireAppendEntriesResponse,
  Schema.TaggedStruct("RequestReadIndex", { term: Counter, ask: Counter }),
  WireRequestReadIndexResponse,
  WireInstallSnapshot,
  WireInstallSnapshotResponse,
  Schema.TaggedStruct("TimeoutNow", { term: Counter })
])
export type WireMessage = typeof WireMessage.Type

const noBytes = new Uint8Array(0)

const toWireResponse = (message: AppendEntriesResponse): typeof WireAppendEntriesResponse.Type => {
  const { result } = message
  if (result._tag !== "Rejected") return { ...message, result }
  const { index, term } = result.conflict
  return { ...message, result: { ...result, conflict: term === undefined ? { index } : { term, index } } }
}

export const toWire = (message: PeerMessage): WireMessage => {
  switch (message._tag) {
    case "AppendEntries":
      return { ...message, entries: message.entries.length === 0 ? noBytes : encodeEntries(message.entries) }
    case "AppendEntriesResponse":
      return toWireResponse(message)
    case "RequestReadIndexResponse": {
      const { _tag, ask, readIndex, term } = message
      return readIndex === undefined ? { _tag, term, ask } : { _tag, term, ask, readIndex }
    }
    case "InstallSnapshot": {
      const { configuration } = message.snapshot
      return { ...message, snapshot: { ...message.snapshot, configuration: ConfigurationCodec.toData(configuration) } }
    }
    default:
      return message
  }
}

/** What a message's header is taken to cost on the wire, with room to spare. */
const headerBytes = 256

/** An upper bound of the bytes that `message` takes on the wire. */
export const sizeBytes = (message: PeerMessage): number => {
  switch (message._tag) {
    case "AppendEntries": {
      let size = headerBytes
      for (const entry of message.entries) size += Entries.sizeBytes(entry)
      return size
    }
    case "InstallSnapshot": {
      return headerBytes + Entries.configurationBytes(message.snapshot.configuration) + message.bytes.length
    }
    default:
      return headerBytes
  }
}

/** Terms and indexes are stored in six bytes; see `Codec.ts`. */
const counterMax = 2 ** 48 - 1

const isCounter = (value: number): boolean => Number.isSafeInteger(value) && value >= 0 && value <= counterMax

const isId = (id: EntryId): boolean => isCounter(id.term) && isCounter(id.index) && (id.term === 0) === (id.index === 0)

/** A number that is never stored in six bytes: a size, or the count of a server's questions. */
const isWhole = (value: number): boolean => Number.isSafeInteger(value) && value >= 0

const answerProblem = ({ result, round }: typeof WireAppendEntriesResponse.Type): string | undefined => {
  const numbers = result._tag === "Matched"
    ? [result.matchIndex]
    : result._tag === "Rejected"
    ? [result.prevIndex, result.conflict.index, result.conflict.term ?? 0]
    : result._tag === "NeedsSnapshot"
    ? [result.prevIndex]
    : []
  const isSound = isCounter(round) && numbers.every(isCounter)
  return isSound ? undefined : `its round is ${round} and its result ${JSON.stringify(result)}`
}

/** What a snapshot that travels stands for: some entries, of terms not later than that of the leader who sends it. */
const lastIncludedProblem = (last: EntryId, term: Term): string | undefined => {
  if (!isId(last)) return `the last entry of its snapshot is ${JSON.stringify(last)}`
  if (last.index === 0) return "its snapshot stands for nothing"
  return last.term > term ? `its snapshot is of term ${last.term}, later than its own, ${term}` : undefined
}

const chunkProblem = ({ bytes, offset, snapshot, term }: typeof WireInstallSnapshot.Type): string | undefined => {
  const included = lastIncludedProblem(snapshot.last, term)
  if (included !== undefined) return included
  const problem = ConfigurationCodec.problem(snapshot.configuration)
  if (problem !== undefined) return `its configuration is none: ${problem}`
  if (!isWhole(snapshot.sizeBytes)) return `the size of its snapshot is ${snapshot.sizeBytes}`
  if (!isWhole(offset)) return `its offset is ${offset}`
  const end = offset + bytes.length
  return end <= snapshot.sizeBytes ? undefined : `its bytes end at ${end}, and its snapshot at ${snapshot.sizeBytes}`
}

const chunkAnswerProblem = (wire: typeof WireInstallSnapshotResponse.Type): string | undefined => {
  const { last, result, term } = wire
  const isSound = result._tag !== "Expects" || isWhole(result.offset)
  return lastIncludedProblem(last, term) ?? (isSound ? undefined : `its result is ${JSON.stringify(result)}`)
}

/** What is wrong with `wire`, its entries aside. */
const headerProblem = (wire: WireMessage): string | undefined => {
  if (!isCounter(wire.term)) return `its term is ${wire.term}`
  switch (wire._tag) {
    case "RequestVote":
    case "RequestPreVote":
      return isId(wire.last) ? undefined : `its last entry is ${JSON.stringify(wire.last)}`
    case "RequestVoteResponse":
    case "RequestPreVoteResponse":
    case "TimeoutNow":
      return undefined
    case "AppendEntries":
      if (!isId(wire.prev)) return `its previous entry is ${JSON.stringify(wire.prev)}`
      if (!isCounter(wire.leaderCommit)) return `its commit index is ${wire.leaderCommit}`
      return isCounter(wire.round) ? undefined : `its round is ${wire.round}`
    case "AppendEntriesResponse":
      return answerProblem(wire)
    case "RequestReadIndex":
      return isWhole(wire.ask) ? undefined : `its ask is ${wire.ask}`
    case "RequestReadIndexResponse":
      if (!isWhole(wire.ask)) return `its ask is ${wire.ask}`
      return isCounter(wire.readIndex ?? 0) ? undefined : `its read index is ${wire.readIndex}`
    case "InstallSnapshot":
      return chunkProblem(wire)
    case "InstallSnapshotResponse":
      return chunkAnswerProblem(wire)
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
export type Decoded = { readonly message: PeerMessage } | { readonly problem: string }

const fromWireAppendEntries = (wire: typeof WireAppendEntries.Type): Decoded => {
  const entries = decodeBlock(wire.entries)
  if (typeof entries === "string") return { problem: entries }
  const { leaderCommit, prev, round, term } = wire
  const message: AppendEntries = { _tag: "AppendEntries", term, prev, entries, leaderCommit, round }
  const problem = entriesProblem(message)
  return problem === undefined ? { message } : { problem }
}

const fromWireResponse = (wire: typeof WireAppendEntriesResponse.Type): AppendEntriesResponse => {
  const { result } = wire
  if (result._tag !== "Rejected") return { ...wire, result }
  const { index, term } = result.conflict
  return { ...wire, result: { ...result, conflict: { term, index } } }
}

/** Decodes and checks one message; the payloads of entries are views on their block. */
export const fromWire = (wire: WireMessage): Decoded => {
  const problem = headerProblem(wire)
  if (problem !== undefined) return { problem }
  switch (wire._tag) {
    case "AppendEntries":
      return fromWireAppendEntries(wire)
    case "AppendEntriesResponse":
      return { message: fromWireResponse(wire) }
    case "RequestReadIndexResponse":
      return { message: { ...wire, readIndex: wire.readIndex } }
    case "InstallSnapshot": {
      const configuration = ConfigurationCodec.fromData(wire.snapshot.configuration)
      return { message: { ...wire, snapshot: { ...wire.snapshot, configuration } } }
    }
    default:
      return { message: wire }
  }
}
