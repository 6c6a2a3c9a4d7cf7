/**
 * A map from pairs of whole numbers to whole numbers from 0 on, in typed arrays: millions of pairs without an object each.
 */
export class PairMap {
  private firsts = new Int32Array(1 << 12)
  private seconds = new Int32Array(1 << 12)
  /** One more than the value; 0 is free. */
  private values = new Int32Array(1 << 12)
  private size = 0

  /** -1 when there is none. */
  get(first: number, second: number): number {
    return (this.values[this.slot(first, second)] ?? 0) - 1
  }

  set(first: number, second: number, value: number): void {
    if (this.size * 2 > this.values.length) this.grow()
    const at = this.slot(first, second)
    if (this.values[at] === 0) this.size++
    this.firsts[at] = first
    this.seconds[at] = second
    this.values[at] = value + 1
  }

  private slot(first: number, second: number): number {
    const mask = this.values.length - 1
    let hash = Math.imul(first, 0x9e3779b1) ^ Math.imul(second, 0x85ebca6b)
    hash ^= hash >>> 15
    let at = Math.imul(hash, 0x2c1b3c6d) >>> 7 & mask
    while (this.values[at] !== 0 && (this.firsts[at] !== first || this.seconds[at] !== second)) at = (at + 1) & mask
    return at
  }

  private grow(): void {
    const { firsts, seconds, values } = this
    const length = values.length * 2
    this.firsts = new Int32Array(length)
    this.seconds = new Int32Array(length)
    this.values = new Int32Array(length)
    this.size = 0
    for (let i = 0; i < values.length; i++) {
      const value = values[i] ?? 0
      if (value > 0) this.set(firsts[i] ?? 0, seconds[i] ?? 0, value - 1)
    }
  }
}
