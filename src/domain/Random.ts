/**
 * A seeded generator as a value: the state is one unsigned 32-bit integer (mulberry32, public domain). The core draws
 * election timeouts from it, so a node's behaviour is a function of its state alone.
 */
export type RandomState = number

/** A whole number in [min, max), and the state to draw the next one from. */
export const nextInt = (
  state: RandomState,
  range: { readonly min: number; readonly max: number }
): { readonly value: number; readonly state: RandomState } => {
  const next = (state + 0x6d2b79f5) >>> 0
  let t = next
  t = Math.imul(t ^ (t >>> 15), t | 1)
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
  const unit = ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  return { value: range.min + Math.floor(unit * (range.max - range.min)), state: next }
}
