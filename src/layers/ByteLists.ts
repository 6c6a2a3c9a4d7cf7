/**
 * Many byte strings, or many numbers, as one.
 *
 * ```
 * strings = (length u32 · bytes) × as many as there are          (big-endian)
 * numbers = u48 × as many as there are
 * ```
 *
 * What travels in batches travels like this: Schema's arrays look at each item several times (`bench/README.md`).
 */
import { Buffer } from "node:buffer"
import { readU32, readU48 } from "./Bytes.ts"

export const encode = (list: ReadonlyArray<Uint8Array>): Uint8Array => {
  let size = 0
  for (const { length } of list) size += 4 + length
  const bytes = Buffer.allocUnsafe(size)
  let at = 0
  for (const item of list) {
    bytes.writeUInt32BE(item.length, at)
    bytes.set(item, at + 4)
    at += 4 + item.length
  }
  return bytes
}

/** Views on `bytes`. Throws `RangeError` for what is no list, or has more than `max` items. */
export const decode = (bytes: Uint8Array, max: number): Array<Uint8Array> => {
  const list: Array<Uint8Array> = []
  for (let at = 0; at < bytes.length;) {
    if (list.length === max) throw new RangeError(`a list has at most ${max} items here`)
    const from = at + 4
    at = from + readU32(bytes, at)
    if (at > bytes.length) throw new RangeError(`item ${list.length + 1} of a list is longer than the list`)
    list.push(bytes.subarray(from, at))
  }
  return list
}

export const encodeNumbers = (numbers: ReadonlyArray<number>): Uint8Array => {
  const bytes = Buffer.allocUnsafe(6 * numbers.length)
  for (let i = 0; i < numbers.length; i++) bytes.writeUIntBE(numbers[i] ?? 0, 6 * i, 6)
  return bytes
}

/** The first `count` of them. Throws `RangeError` where there are fewer. */
export const decodeNumbers = (bytes: Uint8Array, count: number): ReadonlyArray<number> => {
  const numbers: Array<number> = []
  for (let i = 0; i < count; i++) numbers.push(readU48(bytes, 6 * i))
  return numbers
}
