/**
 * The states seen so far, each as a fingerprint of 64 bits, and how each was first reached. Two states with one fingerprint would be taken
 * for one: for n states the odds are about n² / 2⁶⁵.
 */
export const collisionOdds = (states: number): number => states * states / 2 ** 65

export class Visited {
  size = 0
  /** Where the last `add` looked: two halves of a fingerprint in each slot, 0 and 0 where it is free. */
  private slots = new Int32Array(1 << 16)
  private parents = new Uint32Array(1 << 14)
  private ordinals = new Uint16Array(1 << 14)

  /** Adds `state`, first reached from state number `parent` by its action number `ordinal`. False when it is not new. */
  add(state: Int32Array, parent: number, ordinal: number): boolean {
    let a = 0x2545f491
    let b = 0x6c8e9cf5
    for (let i = 0; i < state.length; i++) {
      const word = state[i] ?? 0
      a = Math.imul(a ^ word, 0x85ebca6b)
      a ^= a >>> 13
      b = Math.imul(b + word, 0xc2b2ae35)
      b = (b << 15) ^ (b >>> 11) ^ a
    }
    a = Math.imul(a ^ (a >>> 16), 0x7feb352d)
    a ^= a >>> 15
    b = Math.imul(b ^ (b >>> 15), 0x846ca68b)
    b ^= b >>> 16
    if (a === 0 && b === 0) b = 1
    if (!this.insert(a, b)) return false
    if (this.size === this.parents.length) this.growParents()
    this.parents[this.size] = parent
    this.ordinals[this.size] = ordinal
    this.size++
    if (this.size * 16 > this.slots.length * 5) this.growSlots()
    return true
  }

  parentOf(number: number): { readonly parent: number; readonly ordinal: number } {
    return { parent: this.parents[number] ?? 0, ordinal: this.ordinals[number] ?? 0 }
  }

  private insert(a: number, b: number): boolean {
    const { slots } = this
    const mask = slots.length - 1
    let at = (a << 1) & mask
    while (slots[at] !== 0 || slots[at + 1] !== 0) {
      if (slots[at] === a && slots[at + 1] === b) return false
      at = (at + 2) & mask
    }
    slots[at] = a
    slots[at + 1] = b
    return true
  }

  private growSlots(): void {
    const old = this.slots
    this.slots = new Int32Array(old.length * 2)
    for (let i = 0; i < old.length; i += 2) {
      if (old[i] !== 0 || old[i + 1] !== 0) this.insert(old[i] ?? 0, old[i + 1] ?? 0)
    }
  }

  private growParents(): void {
    const { ordinals, parents } = this
    this.parents = new Uint32Array(parents.length * 2)
    this.parents.set(parents)
    this.ordinals = new Uint16Array(ordinals.length * 2)
    this.ordinals.set(ordinals)
  }
}
