/**
 * The log as an immutable view over append-only chunks. This is the one file in `domain` that changes something it has handed out before:
 * `append` may push onto a chunk that other views also see, but only past the end of every one of them.
 *
 * ```
 *   chunks      [ 1 … 1024 ] [ 1025 … 2048 ] [ 2049 … 2060 ]        each chunk but the last is full
 *                                                       ▲   ▲
 *   older view ─────────────────────────── lastIndex 2057   │       sees nothing past its own lastIndex
 *   newer view ──────────────────────────────────── lastIndex 2060
 * ```
 *
 * Appending to the newer view pushes (32 ns an entry). Appending to the older one finds its chunk longer than itself and copies that one
 * chunk first. Truncation only shortens the view. Compaction drops whole chunks, and copies the one that it cuts in two:
 *
 * ```
 *   chunks      [ · · 403 … 1024 ] [ 1025 … 2048 ] …                prev 402, offset 402: what came before is cleared
 * ```
 */
import { type Entry, type EntryId, type LogIndex, noop, sizeBytes, type Term } from "./Entry.ts"

const chunkSize = 1024

export interface Log {
  readonly chunks: ReadonlyArray<Array<Entry>>
  /** How many places at the front of the first chunk are cleared. */
  readonly offset: number
  /** The entry before the first one held: the origin, or one that a snapshot stands for. */
  readonly prev: EntryId
  readonly lastIndex: LogIndex
  /** The first entry of each run of entries with one term, ascending. */
  readonly terms: ReadonlyArray<EntryId>
}

/** The log that holds nothing after `prev`. */
export const empty = (prev: EntryId): Log => ({ chunks: [], offset: 0, prev, lastIndex: prev.index, terms: [] })

export const firstIndex = (log: Log): LogIndex => log.prev.index + 1

/** Which run of `terms` holds `index`; -1 when it lies before the first one. */
const runAt = (log: Log, index: LogIndex): number => {
  let low = 0
  let high = log.terms.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((log.terms[middle]?.index ?? Infinity) <= index) low = middle + 1
    else high = middle
  }
  return low - 1
}

/** The term of the entry at `index`; of `prev` too; `undefined` where the log holds nothing. */
export const termAt = (log: Log, index: LogIndex): Term | undefined => {
  if (index === log.prev.index) return log.prev.term
  if (index < log.prev.index || index > log.lastIndex) return undefined
  return log.terms[runAt(log, index)]?.term
}

/** The last entry's id (paper: lastLogTerm, lastLogIndex). */
export const lastId = (log: Log): EntryId => ({
  term: log.terms[log.terms.length - 1]?.term ?? log.prev.term,
  index: log.lastIndex
})

/** Whether the log holds this very entry; then both logs agree on everything before it (Log Matching). */
export const matches = (log: Log, id: EntryId): boolean => termAt(log, id.index) === id.term

/** The first index of the run of equal terms that `index` lies in. */
export const firstIndexOfTermAt = (log: Log, index: LogIndex): LogIndex => log.terms[runAt(log, index)]?.index ?? index

/** The last index whose term is at most `term`: at worst `prev`. */
export const lastIndexUpToTerm = (log: Log, term: Term): LogIndex => {
  const next = log.terms.find((run) => run.term > term)
  return next === undefined ? log.lastIndex : next.index - 1
}

export const entryAt = (log: Log, index: LogIndex): Entry | undefined => {
  if (index <= log.prev.index || index > log.lastIndex) return undefined
  const at = index - firstIndex(log) + log.offset
  return log.chunks[Math.floor(at / chunkSize)]?.[at % chunkSize]
}

/**
 * Entries from `from` on, at most `entriesMax` of them and about `bytesMax` bytes, but at least one where there is one: a single entry over
 * the limit must still travel.
 */
export const entriesFrom = (
  log: Log,
  from: LogIndex,
  limits: { readonly entriesMax: number; readonly bytesMax: number }
): ReadonlyArray<Entry> => {
  const entries: Array<Entry> = []
  let bytes = 0
  for (let index = from; entries.length < limits.entriesMax; index++) {
    const entry = entryAt(log, index)
    if (entry === undefined) break
    bytes += sizeBytes(entry)
    if (entries.length > 0 && bytes > limits.bytesMax) break
    entries.push(entry)
  }
  return entries
}

/** The entries of the inclusive range. */
export const slice = (log: Log, range: { readonly from: LogIndex; readonly to: LogIndex }): ReadonlyArray<Entry> =>
  entriesFrom(log, range.from, { entriesMax: range.to - range.from + 1, bytesMax: Infinity })

/** The log with `entries` after its last one. They must follow it: contiguous, with terms that never fall. */
export const append = (log: Log, entries: ReadonlyArray<Entry>): Log => {
  if (entries.length === 0) return log
  const chunks = log.chunks.slice()
  let length = log.lastIndex - log.prev.index + log.offset
  let lastTerm = lastId(log).term
  const newRuns: Array<EntryId> = []
  for (const entry of entries) {
    const at = length % chunkSize
    const position = Math.floor(length / chunkSize)
    let chunk = chunks[position]
    if (chunk === undefined || chunk.length > at) {
      chunk = chunk === undefined ? [] : chunk.slice(0, at)
      chunks[position] = chunk
    }
    chunk.push(entry)
    length++
    if (entry.term !== lastTerm || log.terms.length + newRuns.length === 0) {
      newRuns.push({ term: entry.term, index: entry.index })
      lastTerm = entry.term
    }
  }
  return {
    chunks,
    offset: log.offset,
    prev: log.prev,
    lastIndex: log.prev.index + length - log.offset,
    terms: newRuns.length === 0 ? log.terms : [...log.terms, ...newRuns]
  }
}

/** The log without anything after `lastIndex`, which is at least `prev.index`. */
export const truncate = (log: Log, lastIndex: LogIndex): Log => {
  if (lastIndex >= log.lastIndex) return log
  const kept = Math.ceil((lastIndex - log.prev.index + log.offset) / chunkSize)
  return {
    chunks: log.chunks.slice(0, kept),
    offset: log.offset,
    prev: log.prev,
    lastIndex,
    terms: log.terms.filter((run) => run.index <= lastIndex)
  }
}

const cleared: Entry = { term: 0, index: 0, payload: noop }

/** The log without what comes before and at `index`, which it holds: that entry becomes `prev` (paper §7). */
export const compact = (log: Log, index: LogIndex): Log => {
  const term = termAt(log, index)
  if (term === undefined || index === log.prev.index) return log
  const prev = { term, index }
  const next = termAt(log, index + 1)
  if (next === undefined) return empty(prev)
  const dropped = index - log.prev.index + log.offset
  const chunks = log.chunks.slice(Math.floor(dropped / chunkSize))
  const offset = dropped % chunkSize
  if (offset > 0 && chunks[0] !== undefined) chunks[0] = chunks[0].map((entry, at) => at < offset ? cleared : entry)
  const terms = [{ term: next, index: index + 1 }, ...log.terms.filter((run) => run.index > index + 1)]
  return { chunks, offset, prev, lastIndex: log.lastIndex, terms }
}

/** What the entries of the inclusive range, as far as they are held, count for against limits in bytes. */
export const bytesOf = (log: Log, range: { readonly from: LogIndex; readonly to: LogIndex }): number => {
  let bytes = 0
  for (let index = Math.max(range.from, firstIndex(log)); index <= Math.min(range.to, log.lastIndex); index++) {
    const entry = entryAt(log, index)
    bytes += entry === undefined ? 0 : sizeBytes(entry)
  }
  return bytes
}
