/**
 * Entries as bytes: one block, the same in the write-ahead log, on the wire and in every follower's write-ahead log.
 *
 * ```
 * block = firstIndex u48 · count u32 · entry × count          (big-endian)
 * entry = kind u8 (0 no-op, 1 command) · term u48 · length u32 · length bytes
 * ```
 *
 * A block is encoded once: the array it was made from, or decoded into, remembers it. Decoded payloads are views on the block, so the
 * block lives as long as any of its entries.
 */
import { Buffer } from "node:buffer"
import { command, type Entry, noop, type Payload } from "../domain/Entry.ts"

const blockHeaderBytes = 10
const entryHeaderBytes = 11

const kindNoop = 0
const kindCommand = 1

/** The bytes are no block of entries. Its message says what is wrong with them. */
export class BlockError extends Error {
  override readonly name = "BlockError"
}

const blocks = new WeakMap<ReadonlyArray<Entry>, Uint8Array>()

const encodedBytes = (entries: ReadonlyArray<Entry>): number => {
  let size = blockHeaderBytes
  for (const { payload } of entries) size += entryHeaderBytes + (payload._tag === "Command" ? payload.bytes.length : 0)
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
    const length = payload._tag === "Command" ? payload.bytes.length : 0
    block[at] = payload._tag === "Command" ? kindCommand : kindNoop
    block.writeUIntBE(term, at + 1, 6)
    block.writeUInt32BE(length, at + 7)
    at += entryHeaderBytes
    if (payload._tag === "Command") block.set(payload.bytes, at)
    at += length
  }
  blocks.set(entries, block)
  return block
}

const decodePayload = (kind: number | undefined, bytes: Uint8Array): Payload => {
  if (kind === kindCommand) return command(bytes)
  if (kind === kindNoop && bytes.length === 0) return noop
  throw new BlockError(`unknown kind of entry ${String(kind)} with ${bytes.length} bytes`)
}

/** The entries of a block: contiguous, with terms that never fall. Throws `BlockError` for anything else. */
export const decodeEntries = (bytes: Uint8Array): ReadonlyArray<Entry> => {
  if (bytes.length < blockHeaderBytes) {
    throw new BlockError(`a block of ${bytes.length} bytes has no room for its header`)
  }
  const block = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  const firstIndex = block.readUIntBE(0, 6)
  const count = block.readUInt32BE(6)
  const entries: Array<Entry> = []
  let at = blockHeaderBytes
  let lastTerm = 0
  for (let i = 0; i < count; i++) {
    if (at + entryHeaderBytes > block.length) throw new BlockError(`the block ends before entry ${i + 1} of ${count}`)
    const term = block.readUIntBE(at + 1, 6)
    const length = block.readUInt32BE(at + 7)
    const end = at + entryHeaderBytes + length
    if (end > block.length) throw new BlockError(`entry ${i + 1} of ${count} is longer than its block`)
    if (term < lastTerm) throw new BlockError(`the term falls from ${lastTerm} to ${term} at index ${firstIndex + i}`)
    entries.push({
      term,
      index: firstIndex + i,
      payload: decodePayload(block[at], bytes.subarray(at + entryHeaderBytes, end))
    })
    lastTerm = term
    at = end
  }
  if (at !== block.length) throw new BlockError(`${block.length - at} bytes follow the last entry of the block`)
  if (count > 0 && (firstIndex < 1 || (entries[0]?.term ?? 0) < 1)) {
    throw new BlockError(`the first entry has index ${firstIndex} and term ${entries[0]?.term ?? 0}; both start at 1`)
  }
  blocks.set(entries, bytes)
  return entries
}
