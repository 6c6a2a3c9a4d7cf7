/**
 * A record of the write-ahead log: what one `persist` makes durable, all of it or nothing.
 *
 * ```
 * record        = header · body · zeros up to a multiple of 8 bytes                     (integers are big-endian)
 * header        = mark 8 bytes · sequence u48 · parts u16 · body length u32 · CRC of body u32 · CRC of header u32
 * body          = [hard state] [configuration] [start] [block]   those whose bit is set in parts: 1, 2, 8, 4
 * hard state    = term u48 · length u16 (0xffff: no vote) · votedFor, UTF-8
 * configuration = length u32 · JSON of `ConfigurationCodec.ts`   in force where the log begins
 * start         = kind u8 (0 keeps the log, 1 resets it) · prev: term u48, index u48 · last: term u48, index u48
 * block         = what `Codec.encodeEntries` made, unchanged, up to the end of the body
 * ```
 *
 * `mark` is eight random bytes, the same in all records of a segment and in no other segment, so that neither zeros,
 * nor a copy of another segment, nor bytes that a client wrote as a value are ever taken for a record. `sequence`
 * counts records: 1, 2, 3, … through all segments. A block whose first index is not past the last entry so far cuts
 * the log there. A record without parts says only that all before it is durable: the mark of a clean stop.
 *
 * A start says where the log begins: after `prev`, because a snapshot stands for all up to there. Of the log before the record, which ends at
 * `last`, kind 0 keeps what is past `prev`, and kind 1 nothing. The entries of the same record come after that. It always comes with a
 * configuration; of several the last one counts. Records without a start, as the first programs wrote them, are of the same version 1: nothing
 * that writes or reads only those was ever released.
 *
 * ## A torn tail, and damage
 *
 * A record is written only after the one before it was synced, and nothing is written after a write or sync failed.
 * So:
 *
 * **A header of record n + 1 anywhere on disk proves that record n was durable.**
 *
 * What a crash leaves of an unsynced record is any mixture of its sectors and of the zeros that were there, later
 * ones without earlier ones included. Where record n is expected and is not whole, the rest of the segment is
 * searched for the mark with a header that is valid and has a higher sequence, and later segments (made only once n
 * was durable) are looked for:
 *
 * - one is found: n had been durable, so this is damage, and starting would forget what was acknowledged. Refused.
 * - none is found: n was never acknowledged, a torn tail. It is zeroed and synced before anything is written there,
 *   so no byte of it can later pass for a record. A crash while it is being zeroed leaves another torn tail.
 *
 * The limits of this: damage to the very last record cannot be told from a torn tail, unless the server was stopped
 * cleanly (then a mark follows it). A sector is assumed to hold its old or its new bytes after power is lost, never
 * others: the tail of a record and the head of the next one may lie in one sector.
 */
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import { crc32 } from "node:zlib"
import type { HardState } from "../../domain/Command.ts"
import { type Configuration, isSame, unknown } from "../../domain/Configuration.ts"
import type { Entry, EntryId } from "../../domain/Entry.ts"
import { BlockError, decodeEntries, encodeEntries } from "../Codec.ts"
import * as ConfigurationCodec from "../ConfigurationCodec.ts"

export const markBytes = 8
const headerBytes = 28
const alignment = 8
/** Larger bodies are never written, and refused when read: 1 GiB. */
const bodyBytesMax = 0x40000000

const partHardState = 1
const partConfiguration = 2
const partBlock = 4
const partStart = 8

const startBytes = 25

const noVote = 0xffff

/** Where the log begins. */
export interface Start {
  readonly prev: EntryId
  /** Where the log ended before this record. */
  readonly last: EntryId
  /** Whether entries past `prev` stay. */
  readonly keepsLog: boolean
}

/** What a record says. Absent parts leave things as they are; no `entries` at all is an empty array. */
export interface Parts {
  readonly hardState: HardState | undefined
  readonly configuration: Configuration | undefined
  readonly start: Start | undefined
  readonly entries: ReadonlyArray<Entry>
}

/** A record in its own words: everything but where it will lie. */
export interface Unplaced {
  readonly parts: number
  readonly hardState: HardState | undefined
  readonly votedFor: Buffer | undefined
  readonly configuration: Buffer | undefined
  readonly start: Start | undefined
  readonly block: Uint8Array | undefined
  readonly bodyBytes: number
  /** What the record takes of its segment. */
  readonly bytes: number
}

/**
 * Encodes the parts, so that their size is known before a segment is chosen. `undefined`: too large for any record.
 */
export const make = ({ configuration, entries, hardState, start }: Parts): Unplaced | undefined => {
  const votedFor = hardState?.votedFor === undefined ? undefined : Buffer.from(hardState.votedFor)
  const json = configuration === undefined ? undefined : ConfigurationCodec.encode(configuration)
  const block = entries.length === 0 ? undefined : encodeEntries(entries)
  const bodyBytes = (hardState === undefined ? 0 : 8 + (votedFor?.length ?? 0))
    + (json === undefined ? 0 : 4 + json.length)
    + (start === undefined ? 0 : startBytes)
    + (block?.length ?? 0)
  if (bodyBytes > bodyBytesMax || (votedFor?.length ?? 0) >= noVote) return undefined
  return {
    parts: (hardState === undefined ? 0 : partHardState)
      | (json === undefined ? 0 : partConfiguration)
      | (start === undefined ? 0 : partStart)
      | (block === undefined ? 0 : partBlock),
    hardState,
    votedFor,
    configuration: json,
    start,
    block,
    bodyBytes,
    bytes: align(headerBytes + bodyBytes)
  }
}

const align = (bytes: number): number => Math.ceil(bytes / alignment) * alignment

const encodeStart = ({ keepsLog, last, prev }: Start, bytes: Buffer, at: number): void => {
  bytes[at] = keepsLog ? 0 : 1
  bytes.writeUIntBE(prev.term, at + 1, 6)
  bytes.writeUIntBE(prev.index, at + 7, 6)
  bytes.writeUIntBE(last.term, at + 13, 6)
  bytes.writeUIntBE(last.index, at + 19, 6)
}

/** The bytes of the record, in the first `record.bytes` of `into`. */
export const encode = (record: Unplaced, mark: Uint8Array, sequence: number, into: Buffer): Buffer => {
  const bytes = into.subarray(0, record.bytes)
  let at = headerBytes
  if (record.hardState !== undefined) {
    bytes.writeUIntBE(record.hardState.term, at, 6)
    bytes.writeUInt16BE(record.votedFor?.length ?? noVote, at + 6)
    if (record.votedFor !== undefined) bytes.set(record.votedFor, at + 8)
    at += 8 + (record.votedFor?.length ?? 0)
  }
  if (record.configuration !== undefined) {
    bytes.writeUInt32BE(record.configuration.length, at)
    bytes.set(record.configuration, at + 4)
    at += 4 + record.configuration.length
  }
  if (record.start !== undefined) {
    encodeStart(record.start, bytes, at)
    at += startBytes
  }
  if (record.block !== undefined) bytes.set(record.block, at)
  bytes.fill(0, headerBytes + record.bodyBytes)
  bytes.set(mark, 0)
  bytes.writeUIntBE(sequence, 8, 6)
  bytes.writeUInt16BE(record.parts, 14)
  bytes.writeUInt32BE(record.bodyBytes, 16)
  bytes.writeUInt32BE(crc32(bytes.subarray(headerBytes, headerBytes + record.bodyBytes)), 20)
  bytes.writeUInt32BE(crc32(bytes.subarray(0, 24)), 24)
  return bytes
}

/** What lies at a place where a record may begin. */
export type Found =
  | { readonly _tag: "Whole"; readonly sequence: number; readonly parts: Parts; readonly end: number }
  /** Intact, as its CRC proves, yet nothing that this version writes: no crash leaves this. */
  | { readonly _tag: "Nonsense"; readonly problem: string }
  /** No record, or not all of one. */
  | { readonly _tag: "Broken"; readonly problem: string }

const broken = (problem: string): Found => ({ _tag: "Broken", problem })
const nonsense = (problem: string): Found => ({ _tag: "Nonsense", problem })

const isHeader = (segment: Buffer, at: number, mark: Uint8Array): boolean =>
  at + headerBytes <= segment.length
  && segment.subarray(at, at + markBytes).equals(mark)
  && crc32(segment.subarray(at, at + 24)) === segment.readUInt32BE(at + 24)

/** The record at byte `at` of a segment's bytes. What it returns owns its bytes: the segment may be dropped. */
export const decode = (segment: Buffer, at: number, mark: Uint8Array): Found => {
  if (!isHeader(segment, at, mark)) return broken("no record begins here")
  const sequence = segment.readUIntBE(at + 8, 6)
  const length = segment.readUInt32BE(at + 16)
  if (length > bodyBytesMax) return nonsense(`record ${sequence} claims a body of ${length} bytes`)
  const end = at + align(headerBytes + length)
  if (end > segment.length) return nonsense(`record ${sequence} claims to end at byte ${end}, past the end of its file`)
  const body = segment.subarray(at + headerBytes, at + headerBytes + length)
  if (crc32(body) !== segment.readUInt32BE(at + 20)) {
    return broken(`the body of record ${sequence} does not match its CRC`)
  }
  if (segment.subarray(at + headerBytes + length, end).some((byte) => byte !== 0)) {
    return broken(`the padding of record ${sequence} is not zero`)
  }
  try {
    return { _tag: "Whole", sequence, parts: decodeBody(body, segment.readUInt16BE(at + 14)), end }
  } catch (error) {
    const isKnown = error instanceof BlockError || error instanceof RangeError || Schema.isSchemaError(error)
    if (!isKnown) throw error
    return nonsense(`record ${sequence} is intact but makes no sense (${error.message})`)
  }
}

const decodeBody = (body: Buffer, parts: number): Parts => {
  let at = 0
  let hardState: HardState | undefined
  let configuration: Configuration | undefined
  let start: Start | undefined
  if (parts > (partHardState | partConfiguration | partBlock | partStart)) {
    throw new RangeError(`unknown parts ${parts}`)
  }
  if ((parts & partHardState) !== 0) {
    const length = body.readUInt16BE(6)
    const end = length === noVote ? 8 : 8 + length
    if (end > body.length) throw new RangeError("the vote is longer than the record")
    hardState = { term: body.readUIntBE(0, 6), votedFor: length === noVote ? undefined : body.toString("utf8", 8, end) }
    at = end
  }
  if ((parts & partConfiguration) !== 0) {
    const end = at + 4 + body.readUInt32BE(at)
    if (end > body.length) throw new RangeError("the configuration is longer than the record")
    configuration = decodeConfiguration(body.subarray(at + 4, end))
    at = end
  }
  if ((parts & partStart) !== 0) {
    if (configuration === undefined) throw new RangeError("it has a start without a configuration")
    start = decodeStart(body, at)
    at += startBytes
  }
  if ((parts & partBlock) === 0 && at !== body.length) {
    throw new RangeError(`${body.length - at} bytes follow its parts`)
  }
  // A copy: decoded entries are views, and a view on the segment would keep all of it in memory.
  const entries = (parts & partBlock) === 0 ? [] : decodeEntries(Uint8Array.prototype.slice.call(body, at))
  return { hardState, configuration, start, entries }
}

/** None at all is what a server has that waits to be added to a cluster. */
const decodeConfiguration = (json: Buffer): Configuration => {
  const data = ConfigurationCodec.decode(json)
  const configuration = ConfigurationCodec.fromData(data)
  if (isSame(configuration, unknown)) return configuration
  const problem = ConfigurationCodec.problem(data)
  if (problem !== undefined) throw new RangeError(`its configuration is none: ${problem}`)
  return configuration
}

const decodeStart = (body: Buffer, at: number): Start => {
  if (at + startBytes > body.length) throw new RangeError("the start is longer than the record")
  const kind = body.readUInt8(at)
  if (kind > 1) throw new RangeError(`unknown kind of start ${kind}`)
  return {
    keepsLog: kind === 0,
    prev: { term: body.readUIntBE(at + 1, 6), index: body.readUIntBE(at + 7, 6) },
    last: { term: body.readUIntBE(at + 13, 6), index: body.readUIntBE(at + 19, 6) }
  }
}

/** Where after byte `from` a header of a record later than `sequence` lies; -1 for nowhere. */
export const findLater = (segment: Buffer, from: number, mark: Uint8Array, sequence: number): number => {
  for (let at = segment.indexOf(mark, from); at !== -1; at = segment.indexOf(mark, at + 1)) {
    if (isHeader(segment, at, mark) && segment.readUIntBE(at + 8, 6) > sequence) return at
  }
  return -1
}
