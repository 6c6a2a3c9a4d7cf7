/**
 * Of all the states that differ only in the servers' names, the one that stands for them. Servers are sorted by a number that does not depend on
 * names, within each kind that they are of at first; where that leaves a choice, the least state is taken. Numbers never change once given, so the
 * choice is always the same.
 */
import { historyLength, leadersAt } from "./History.ts"
import { inverse } from "./Symmetry.ts"
import type { Tables } from "./Tables.ts"

const renameLeaders = (code: number, permutation: ReadonlyArray<number>): number => {
  let renamed = 0
  for (let at = 0; code >>> at !== 0 && at < 28; at += 4) {
    const leader = (code >>> at) & 15
    if (leader !== 0) renamed |= ((permutation[leader - 1] ?? 0) + 1) << at
  }
  return renamed
}

export class Canonical {
  /** The permutation that made the last state canonical. */
  permutation = 0
  private readonly tables: Tables
  private readonly kinds: ReadonlyArray<unknown>
  private readonly nodes: number
  private readonly stride: number
  private readonly inverses: ReadonlyArray<ReadonlyArray<number>>
  private readonly trial: Int32Array
  private readonly orbits: Array<number> = []

  /** Servers next to each other are interchangeable where their kind is the same. */
  constructor(tables: Tables, kinds: ReadonlyArray<unknown>, stride: number) {
    this.tables = tables
    this.kinds = kinds
    this.nodes = kinds.length
    this.stride = stride
    this.inverses = tables.permutations.map(inverse)
    this.trial = new Int32Array(stride)
  }

  /** Writes to `into` the state that stands for `state`, whose `packets` are in any order. */
  write(state: Int32Array, packets: Int32Array, count: number, into: Int32Array): void {
    const { inverses, nodes, orbits, tables } = this
    if (inverses.length === 1) {
      this.rename(0, state, packets, count, into)
      this.permutation = 0
      return
    }
    for (let node = 0; node < nodes; node++) orbits[node] = tables.orbit(state[node] ?? 0)
    let found = false
    for (let p = 0; p < inverses.length; p++) {
      if (!this.isSorted(inverses[p] ?? [])) continue
      if (!found) {
        this.rename(p, state, packets, count, into)
        this.permutation = p
        found = true
        continue
      }
      this.rename(p, state, packets, count, this.trial)
      if (!this.isLess(this.trial, into)) continue
      into.set(this.trial)
      this.permutation = p
    }
  }

  private isSorted(order: ReadonlyArray<number>): boolean {
    for (let at = 1; at < order.length; at++) {
      if (this.kinds[at - 1] !== this.kinds[at]) continue
      if ((this.orbits[order[at - 1] ?? 0] ?? 0) > (this.orbits[order[at] ?? 0] ?? 0)) return false
    }
    return true
  }

  private isLess(a: Int32Array, b: Int32Array): boolean {
    for (let i = 0; i < this.stride; i++) {
      const difference = (a[i] ?? 0) - (b[i] ?? 0)
      if (difference !== 0) return difference < 0
    }
    return false
  }

  private rename(p: number, state: Int32Array, packets: Int32Array, count: number, into: Int32Array): void {
    const { nodes, tables } = this
    const permutation = tables.permutations[p] ?? []
    for (let node = 0; node < nodes; node++) into[permutation[node] ?? node] = tables.renamedServer(p, state[node] ?? 0)
    for (let i = nodes; i < nodes + historyLength; i++) into[i] = state[i] ?? 0
    const leaders = nodes + leadersAt
    if (p !== 0) into[leaders] = renameLeaders(state[leaders] ?? 0, permutation)
    const first = nodes + historyLength
    for (let i = 0; i < count; i++) {
      const packet = tables.renamedPacket(p, packets[i] ?? 0)
      let at = first + i
      while (at > first && (into[at - 1] ?? 0) > packet) {
        into[at] = into[at - 1] ?? 0
        at--
      }
      into[at] = packet
    }
    into.fill(-1, first + count, this.stride)
  }
}
