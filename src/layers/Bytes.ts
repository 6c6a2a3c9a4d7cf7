/**
 * Numbers and text in byte arrays, big-endian.
 *
 * A short `Uint8Array` lives on JavaScript's heap until somebody asks for its `buffer`, as whoever makes a `Buffer` or a `DataView` of it does: then it
 * moves to memory of its own, which costs more than all that is read or written here. So numbers are taken byte by byte.
 */
import { Buffer } from "node:buffer"

/** The same bytes, not a copy, with what a `Buffer` can read and write of them. */
export const bufferOf = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)

const outside = (bytes: Uint8Array, at: number): never => {
  throw new RangeError(`${bytes.length} bytes have no number at ${at}`)
}

/** Of up to six bytes. Throws `RangeError` where they are not there, as all of these do. */
const unsigned = (bytes: Uint8Array, at: number, size: number): number => {
  if (at + size > bytes.length) outside(bytes, at)
  let number = 0
  for (let i = at; i < at + size; i++) number = number * 256 + (bytes[i] ?? 0)
  return number
}

export const readU16 = (bytes: Uint8Array, at: number): number => unsigned(bytes, at, 2)

export const readU32 = (bytes: Uint8Array, at: number): number => unsigned(bytes, at, 4)

export const readU48 = (bytes: Uint8Array, at: number): number => unsigned(bytes, at, 6)

const scratch = new Float64Array(1)
const scratchBytes = new Uint8Array(scratch.buffer)
const isLittleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1

export const readF64 = (bytes: Uint8Array, at: number): number => {
  if (at + 8 > bytes.length) outside(bytes, at)
  for (let i = 0; i < 8; i++) scratchBytes[isLittleEndian ? 7 - i : i] = bytes[at + i] ?? 0
  return scratch[0] ?? 0
}

export const writeF64 = (bytes: Uint8Array, at: number, number: number): void => {
  if (at + 8 > bytes.length) outside(bytes, at)
  scratch[0] = number
  for (let i = 0; i < 8; i++) bytes[at + i] = scratchBytes[isLittleEndian ? 7 - i : i] ?? 0
}

/** The latest memory that text was read from, which it keeps: what comes in batches has one for all. */
let latest: Buffer = Buffer.alloc(0)

/** The bytes from `from` to `to` as UTF-8. */
export const text = (bytes: Uint8Array, from: number, to: number): string => {
  if (latest.buffer !== bytes.buffer) latest = Buffer.from(bytes.buffer)
  return latest.toString("utf8", bytes.byteOffset + from, bytes.byteOffset + to)
}
