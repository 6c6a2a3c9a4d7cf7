/**
 * The terms of a log's entries as one number: four bits each, the first entry lowest; at most seven. A snapshot is one too: it stands for the
 * entries from the first one on.
 */
import type { Entry, EntryId, LogIndex, Term } from "../../src/domain/Entry.ts"

export type LogCode = number

export const logCode = (terms: ReadonlyArray<Term>): LogCode =>
  terms.reduce((code, term, i) => code | (term << (4 * i)), 0)

export const nibble = (code: number, i: number): number => (code >>> (4 * i)) & 15

export const lengthOf = (code: LogCode): number => code === 0 ? 0 : ((31 - Math.clz32(code)) >> 2) + 1

const maskOf = (length: number): number => (2 ** (4 * length)) - 1

/** The first `length` entries. */
export const beginning = (code: LogCode, length: number): LogCode => code & maskOf(length)

/** Whether `log` starts with everything in `first`. */
export const startsWith = (log: LogCode, first: LogCode): boolean => beginning(log, lengthOf(first)) === first

/** The whole log that goes on with `entries` after `prev`, where `before` is what a snapshot stands for. */
export const joined = (before: LogCode, prev: EntryId, entries: ReadonlyArray<Pick<Entry, "term">>): LogCode =>
  entries.reduce((code, { term }, i) => code | (term << (4 * (prev.index + i))), beginning(before, prev.index))

/** The last of its entries. */
export const lastOf = (code: LogCode): EntryId => idAt(code, lengthOf(code))

export const idAt = (code: LogCode, index: LogIndex): EntryId => ({
  term: index === 0 ? 0 : nibble(code, index - 1),
  index
})

/** Log Matching: past the first entry in which two logs differ, they have none in common. */
export const areMatching = (a: LogCode, b: LogCode): boolean => {
  const difference = a ^ b
  if (difference === 0) return true
  const first = (31 - Math.clz32(difference & -difference)) >> 2
  for (let i = first + 1; i < 7; i++) {
    const term = nibble(a, i)
    if (term !== 0 && term === nibble(b, i)) return false
  }
  return true
}

export const shown = (code: number): string =>
  Array.from({ length: lengthOf(code) }, (_, i) => nibble(code, i)).join(" ") || "nothing"
