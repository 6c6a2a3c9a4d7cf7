/**
 * Copies of short byte arrays, side by side in larger ones. An array of its own is some 200 bytes of bookkeeping outside of the heap, and
 * a log of them makes the garbage collector stall. A slab lives as long as any copy in it: it is for what is kept and dropped together,
 * as entries of a log are.
 */
const slabBytes = 1 << 16

/** Longer ones get an array of their own, so that little of a slab is wasted. */
const sharedBytesMax = 4096

/** A function that copies. Each has slabs of its own. */
export const make = (): (bytes: Uint8Array) => Uint8Array => {
  let slab = new Uint8Array(0)
  let used = 0
  return (bytes) => {
    const { length } = bytes
    if (length > sharedBytesMax) return new Uint8Array(bytes)
    if (used + length > slab.length) {
      slab = new Uint8Array(slabBytes)
      used = 0
    }
    const copy = slab.subarray(used, used + length)
    copy.set(bytes)
    used += length
    return copy
  }
}
