/**
 * Entries as bytes: one block, the same in the write-ahead log, on the wire and in every follower's write-ahead log.
 *
 * ```
 * block = firstIndex u48 · count u32 · entry × count          (big-endian)
 * entry = kind u8 · term u48 · length u32 · length bytes:
 *   0 no-op            nothing
 *   1 command          the command
 *   2 configuration    JSON of `ConfigurationCodec.ts`
 *   3 open session     timeMs u48 · sessionsMax u48 · timeoutMs u48
 *   4 session command  timeMs u48 · session u48 · sequence u48 · firstUnanswered u48 · the command
 * ```
 *
 * A block is encoded once: the array it was made from, or decoded into, remembers it. Decoded payloads are views on the block, so the
 * block lives as long as any of its entries.
 */
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import type { Configuration } from "../domain/Configuration.ts"
import { command, type Entry, noop, type Payload, sessionOverheadBytes } from "../domain/Entry.ts"
import { bufferOf, readU32, readU48 } from "./Bytes.ts"
import * as ConfigurationCodec from "./ConfigurationCodec.ts"

const blockHeaderBytes = 10
const entryHeaderBytes = 11

const kinds = { Noop: 0, Command: 1, Configuration: 2, OpenSession: 3, SessionCommand: 4 } as const

const openingBytes = 18

/** Of the numbers that a payload holds. */
const numberMax = 2 ** 48 - 1

/**
 * Payloads that no other server, nor this one when it starts again, would read. It throws rather than writes one: a log that holds such an entry is
 * lost, a server that stops is not.
 */
const unwritable = (problem: string): never => {
  throw new RangeError(`an entry cannot be written: ${problem}`)
}

/** An entry is sized before it is written, and a configuration is in the logs of a whole cluster. */
const configurations = new WeakMap<Configuration, Buffer>()

const configurationBytes = (configuration: Configuration): Buffer => {
  const known = configurations.get(configuration)
  if (known !== undefined) return known
  const problem = ConfigurationCodec.problem(ConfigurationCodec.toData(configuration))
  const json = problem === undefined ? ConfigurationCodec.encode(configuration) : unwritable(problem)
  configurations.set(configuration, json)
  return json
}

const lengthOf = (payload: Payload): number => {
  switch (payload._tag) {
    case "Noop":
      return 0
    case "Command":
      return payload.bytes.length
    case "Configuration":
      return configurationBytes(payload.configuration).length
    case "OpenSession":
      return openingBytes
    case "SessionCommand":
      return sessionOverheadBytes + payload.bytes.length
    default:
      return payload satisfies never
  }
}

const writeNumber = (block: Buffer, at: number, name: string, value: number, min: number): void => {
  if (!Number.isSafeInteger(value) || value < min || value > numberMax) unwritable(`${name} is ${value}`)
  block.writeUIntBE(value, at, 6)
}

const write = (payload: Payload, block: Buffer, at: number): void => {
  switch (payload._tag) {
    case "Noop":
      return
    case "Command":
      return block.set(payload.bytes, at)
    case "Configuration":
      return block.set(configurationBytes(payload.configuration), at)
    case "OpenSession":
      writeNumber(block, at, "timeMs", payload.timeMs, 0)
      writeNumber(block, at + 6, "sessionsMax", payload.sessionsMax, 1)
      return writeNumber(block, at + 12, "timeoutMs", payload.timeoutMs, 0)
    case "SessionCommand": {
      const { firstUnanswered, sequence, session } = payload.sequenced
      writeNumber(block, at, "timeMs", payload.timeMs, 0)
      writeNumber(block, at + 6, "session", session, 1)
      writeNumber(block, at + 12, "sequence", sequence, 1)
      writeNumber(block, at + 18, "firstUnanswered", firstUnanswered, 1)
      return block.set(payload.bytes, at + sessionOverheadBytes)
    }
    default:
      return payload satisfies never
  }
}

/** The bytes are no block of entries. Its message says what is wrong with them. */
export class BlockError extends Error {
  override readonly name = "BlockError"
}

const blocks = new WeakMap<ReadonlyArray<Entry>, Uint8Array>()

const encodedBytes = (entries: ReadonlyArray<Entry>): number => {
  let size = blockHeaderBytes
  for (const { payload } of entries) size += entryHeaderBytes + lengthOf(payload)
  return size
}

/** The block of contiguous `entries`. The result is shared: do not change it. */
export const encodeEntries = (entries: ReadonlyArray<Entry>): Uint8Array => {
  const known = blocks.get(entries)
  if (known !== undefined) return known
  const block = Buffer.allocUnsafeSlow(encodedBytes(entries))
  block.writeUIntBE(entries[0]?.index ?? 0, 0, 6)
  block.writeUInt32BE(entries.length, 6)
  let at = blockHeaderBytes
  for (const { payload, term } of entries) {
    const length = lengthOf(payload)
    block[at] = kinds[payload._tag]
    block.writeUIntBE(term, at + 1, 6)
    block.writeUInt32BE(length, at + 7)
    at += entryHeaderBytes
    write(payload, block, at)
    at += length
  }
  blocks.set(entries, block)
  return block
}

const decodeConfiguration = (bytes: Buffer): Payload => {
  let data: ConfigurationCodec.ConfigurationData
  try {
    data = ConfigurationCodec.decode(bytes)
  } catch (error) {
    if (!Schema.isSchemaError(error)) throw error
    throw new BlockError(`a configuration of ${bytes.length} bytes makes no sense`)
  }
  const problem = ConfigurationCodec.problem(data)
  if (problem !== undefined) throw new BlockError(`a configuration is none: ${problem}`)
  return { _tag: "Configuration", configuration: ConfigurationCodec.fromData(data) }
}

const readNumber = (block: Uint8Array, at: number, name: string, min: number): number => {
  const value = readU48(block, at)
  if (value < min) throw new BlockError(`${name} is ${value}, and should be ${min} at least`)
  return value
}

const decodeOpening = (block: Uint8Array, at: number): Payload => ({
  _tag: "OpenSession",
  timeMs: readU48(block, at),
  sessionsMax: readNumber(block, at + 6, "sessionsMax", 1),
  timeoutMs: readU48(block, at + 12)
})

const decodeSessionCommand = (block: Uint8Array, at: number, end: number): Payload => ({
  _tag: "SessionCommand",
  timeMs: readU48(block, at),
  sequenced: {
    session: readNumber(block, at + 6, "session", 1),
    sequence: readNumber(block, at + 12, "sequence", 1),
    firstUnanswered: readNumber(block, at + 18, "firstUnanswered", 1)
  },
  bytes: block.subarray(at + sessionOverheadBytes, end)
})

/** The payload at `at`, which ends at `end`. Its bytes are the only view that is made: nearly all entries are commands. */
const decodePayload = (kind: number | undefined, block: Uint8Array, at: number, end: number): Payload => {
  const length = end - at
  if (kind === kinds.Command) return command(block.subarray(at, end))
  if (kind === kinds.SessionCommand && length >= sessionOverheadBytes) return decodeSessionCommand(block, at, end)
  if (kind === kinds.Noop && length === 0) return noop
  if (kind === kinds.OpenSession && length === openingBytes) return decodeOpening(block, at)
  if (kind === kinds.Configuration) return decodeConfiguration(bufferOf(block.subarray(at, end)))
  throw new BlockError(`unknown kind of entry ${String(kind)} with ${length} bytes`)
}

/** The entries of a block: contiguous, with terms that never fall. Throws `BlockError` for anything else. */
export const decodeEntries = (bytes: Uint8Array): ReadonlyArray<Entry> => {
  if (bytes.length < blockHeaderBytes) {
    throw new BlockError(`a block of ${bytes.length} bytes has no room for its header`)
  }
  const firstIndex = readU48(bytes, 0)
  const count = readU32(bytes, 6)
  const entries: Array<Entry> = []
  let at = blockHeaderBytes
  let lastTerm = 0
  for (let i = 0; i < count; i++) {
    if (at + entryHeaderBytes > bytes.length) throw new BlockError(`the block ends before entry ${i + 1} of ${count}`)
    const term = readU48(bytes, at + 1)
    const length = readU32(bytes, at + 7)
    const end = at + entryHeaderBytes + length
    if (end > bytes.length) throw new BlockError(`entry ${i + 1} of ${count} is longer than its block`)
    if (term < lastTerm) throw new BlockError(`the term falls from ${lastTerm} to ${term} at index ${firstIndex + i}`)
    entries.push({
      term,
      index: firstIndex + i,
      payload: decodePayload(bytes[at], bytes, at + entryHeaderBytes, end)
    })
    lastTerm = term
    at = end
  }
  if (at !== bytes.length) throw new BlockError(`${bytes.length - at} bytes follow the last entry of the block`)
  if (count > 0 && (firstIndex < 1 || (entries[0]?.term ?? 0) < 1)) {
    throw new BlockError(`the first entry has index ${firstIndex} and term ${entries[0]?.term ?? 0}; both start at 1`)
  }
  blocks.set(entries, bytes)
  return entries
}
