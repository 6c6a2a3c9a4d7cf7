/**
 * A value with its revision and version, as the store keeps it: one string whose characters are bytes.
 *
 * ```
 * stored = value · revision u48 · version u48          (big-endian)
 * ```
 *
 * To the garbage collector a string is one object with nothing to look into. A `Uint8Array` is several, and a block of memory beside
 * the heap: a million of them took twice the memory, and a full collection stopped the process for half a second, which is longer than an
 * election timeout. `docs/decisions/0006-key-value-snapshots.md` has the figures.
 */
import { Buffer } from "node:buffer"
import type { LogIndex } from "../../domain/Entry.ts"

export type Stored = string

/** What `Stored` has beyond the value. */
const trailerBytes = 12

const scratch = Buffer.allocUnsafeSlow(64 << 10)

/** A copy: `value` may be a view on a block of many entries, and stays the caller's. */
export const make = (value: Uint8Array, revision: LogIndex, version: number): Stored => {
  const length = value.length + trailerBytes
  const bytes = length <= scratch.length ? scratch : Buffer.allocUnsafeSlow(length)
  bytes.set(value)
  bytes.writeUIntBE(revision, value.length, 6)
  bytes.writeUIntBE(version, value.length + 6, 6)
  return bytes.toString("latin1", 0, length)
}

const numberAt = (stored: Stored, at: number): number => {
  let number = 0
  for (let i = at; i < at + 6; i++) number = number * 256 + stored.charCodeAt(i)
  return number
}

export const valueBytes = (stored: Stored): number => stored.length - trailerBytes

export const revision = (stored: Stored): LogIndex => numberAt(stored, stored.length - 12)

export const version = (stored: Stored): number => numberAt(stored, stored.length - 6)

/** Longer values are copied as a whole, which takes a `Buffer`; to make one costs more than to copy so many bytes one by one. */
const shortBytesMax = 512

/** A new array each time, over memory of its own. */
export const value = (stored: Stored): Uint8Array => {
  const bytes = new Uint8Array(valueBytes(stored))
  if (bytes.length > shortBytesMax) Buffer.from(bytes.buffer).write(stored, 0, bytes.length, "latin1")
  else for (let i = 0; i < bytes.length; i++) bytes[i] = stored.charCodeAt(i)
  return bytes
}
