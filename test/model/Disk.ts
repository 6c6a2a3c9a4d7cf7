/**
 * A server's disk as a value: what a write makes of it, what a crash leaves, and what the next start makes of that.
 *
 * Nothing here is about the size of a snapshot, so `sizeBytes` says what its file holds: the terms of the entries it stands for (`LogCode.ts`).
 */
import { type HardState, isEmptyWrite, mergeWrites, type Start, type Write } from "../../src/domain/Command.ts"
import * as Configuration from "../../src/domain/Configuration.ts"
import { type Entry, type EntryId, origin } from "../../src/domain/Entry.ts"
import { none, type Snapshot } from "../../src/domain/Snapshot.ts"
import { type Along, alongOf, codeAt, codeOf, shownCode } from "./Configurations.ts"
import { beginning, idAt, joined, type LogCode } from "./LogCode.ts"
import { demand, type Tally, Violation } from "./Properties.ts"

export interface Disk {
  readonly hardState: HardState
  readonly snapshot: Snapshot
  /** The entry before the first of `entries`. */
  readonly prev: EntryId
  /** In force there. */
  readonly configuration: Configuration.Configuration
  readonly entries: ReadonlyArray<Entry>
  /** What came before `prev`, where the snapshot that stood for it is lost. */
  readonly lost: LogCode
}

/** Nobody asks for the configuration of no snapshot. */
export const noSnapshot: Snapshot = none(Configuration.unknown)

export const newDisk = (configuration: Configuration.Configuration): Disk => ({
  hardState: { term: 0, votedFor: undefined },
  snapshot: noSnapshot,
  prev: origin,
  configuration,
  entries: [],
  lost: 0
})

/** What is before the log that begins after `prev`. */
export const contentBefore = (prev: EntryId, snapshot: Snapshot, lost: LogCode): LogCode =>
  snapshot.last.index < prev.index ? lost : snapshot.sizeBytes

/** The whole log, from its first entry on: of a disk that needs a repair, after that. */
export const logOf = (disk: Disk): LogCode => {
  const { entries, lost, prev, snapshot } = repaired(disk)
  return joined(contentBefore(prev, snapshot, lost), prev, entries)
}

/** Of a disk that needs a repair, after that. */
export const configurationsOf = (disk: Disk): Along => {
  const { configuration, entries, prev } = repaired(disk)
  return alongOf(codeOf(configuration), prev.index, entries)
}

const lastIndexOf = ({ entries, prev }: Disk): number => prev.index + entries.length

const holds = ({ entries, prev }: Disk, { index, term }: EntryId): boolean =>
  (index === prev.index ? prev : entries[index - prev.index - 1])?.term === term

/** What `write` makes of `disk`. */
export const written = (disk: Disk, write: Write): Disk => {
  if (isEmptyWrite(write)) return disk
  const { entries, hardState, install } = write
  const isLater = install !== undefined && install.snapshot.last.index > disk.snapshot.last.index
  const snapshot = isLater ? install.snapshot : disk.snapshot
  const begun: Disk = {
    hardState: hardState ?? disk.hardState,
    snapshot,
    prev: install?.keepsLog === false ? install.snapshot.last : disk.prev,
    configuration: install?.keepsLog === false ? install.snapshot.configuration : disk.configuration,
    entries: install?.keepsLog === false ? [] : disk.entries,
    lost: snapshot.last.index < disk.prev.index ? disk.lost : 0
  }
  const [first] = entries
  if (first === undefined) return begun
  const { index } = begun.prev
  if (first.index > lastIndexOf(begun) + 1 || first.index <= index) {
    throw new Violation("no promise is broken", `entries from ${first.index} on do not follow the log on disk`)
  }
  return { ...begun, entries: [...begun.entries.slice(0, first.index - 1 - index), ...entries] }
}

/** `disk` without what `start` gives up, which its snapshot must stand for. */
export const compacted = (tally: Tally, disk: Disk, { configuration, prev }: Start): Disk => {
  if (prev.index <= disk.prev.index) return disk
  const isKept = disk.snapshot.last.index >= prev.index && holds(disk, prev)
  demand(
    tally,
    "what a disk gives up its snapshot stands for",
    isKept,
    () => `the log is to begin after ${prev.term}.${prev.index}; the snapshot ends at ${disk.snapshot.last.index}`
  )
  const inForce = codeAt(configurationsOf(disk), prev.index)
  demand(
    tally,
    "the configuration in force is what the log says (rule M2)",
    codeOf(configuration) === inForce,
    () => `after ${prev.index} the log begins with ${shownCode(codeOf(configuration))}; it said ${shownCode(inForce)}`
  )
  return { ...disk, prev, configuration, entries: disk.entries.slice(prev.index - disk.prev.index) }
}

/** A log that does not hold the snapshot's last entry gives way: a crash came between an installed snapshot and its log. */
export const repaired = (disk: Disk): Disk =>
  needsRepair(disk)
    ? { ...disk, prev: disk.snapshot.last, configuration: disk.snapshot.configuration, entries: [] }
    : disk

export const needsRepair = (disk: Disk): boolean => {
  const { last } = disk.snapshot
  return last.index > 0 && last.index >= disk.prev.index && !holds(disk, last)
}

/** What a start finds. With `damaged` the snapshot is of no use any more. */
export const recovered = (tally: Tally, disk: Disk, damaged: boolean): Disk => {
  const { entries, hardState, lost, prev, snapshot } = disk
  const isWhole = (lost !== 0 || snapshot.last.index >= prev.index) && hardState.term >= snapshot.last.term
    && hardState.term >= (entries[entries.length - 1]?.term ?? prev.term)
  demand(
    tally,
    "what a crash leaves can be recovered",
    isWhole,
    () =>
      `a term of ${hardState.term}, a snapshot that ends at ${snapshot.last.term}.${snapshot.last.index}, `
      + `and a log that begins after ${prev.term}.${prev.index}`
  )
  if (!damaged) return repaired(disk)
  return { ...disk, snapshot: noSnapshot, lost: beginning(contentBefore(prev, snapshot, lost), prev.index) }
}

const configurationIn = ({ payload }: Entry): number =>
  payload._tag === "Configuration" ? codeOf(payload.configuration) : -1

const isSameEntry = (a: Entry, b: Entry | undefined): boolean =>
  b !== undefined && a.term === b.term && configurationIn(a) === configurationIn(b)

const isSameId = (a: EntryId, b: EntryId): boolean => a.term === b.term && a.index === b.index

export const isSame = (a: Disk, b: Disk): boolean =>
  a.hardState.term === b.hardState.term && a.hardState.votedFor === b.hardState.votedFor
  && isSameId(a.snapshot.last, b.snapshot.last) && a.snapshot.sizeBytes === b.snapshot.sizeBytes
  && codeOf(a.snapshot.configuration) === codeOf(b.snapshot.configuration)
  && isSameId(a.prev, b.prev) && a.lost === b.lost && codeOf(a.configuration) === codeOf(b.configuration)
  && a.entries.length === b.entries.length && a.entries.every((entry, i) => isSameEntry(entry, b.entries[i]))

/** Whether an install that keeps the log finds the snapshot's last entry in it. */
export const keepsRightly = (disk: Disk, { install }: Write): boolean =>
  install?.keepsLog !== true || install.snapshot.last.index < disk.prev.index || holds(disk, install.snapshot.last)

/** How many of the oldest writes can be made durable as one: an install begins a group, since it comes before the entries of its write. */
export const groupMax = (writes: ReadonlyArray<Write>): number => {
  const next = writes.findIndex(({ install }, i) => i > 0 && install !== undefined)
  return next < 0 ? writes.length : next
}

/**
 * What a crash in the middle of `write` may leave of it: first the vote, then the snapshot, then the log's new beginning, which an install
 * writes one by one; and with `torn`, which a disk does, entries one by one.
 */
export const partsOf = ({ entries, hardState, install }: Write, torn: boolean): ReadonlyArray<Write> => {
  const parts: Array<Write> = []
  if (install !== undefined && hardState !== undefined) parts.push({ hardState, install: undefined, entries: [] })
  if (install?.keepsLog === false) parts.push({ hardState, install: { ...install, keepsLog: true }, entries: [] })
  if (!torn) return parts
  for (let kept = hardState === undefined && install === undefined ? 1 : 0; kept <= entries.length; kept++) {
    parts.push({ hardState, install, entries: entries.slice(0, kept) })
  }
  return parts
}

/** The disks that a crash may leave: as it is, and any part of what is being written. */
export const crashed = (disk: Disk, writes: ReadonlyArray<Write>, torn: boolean): ReadonlyArray<Disk> => {
  const disks = [disk]
  for (let count = 1; count <= groupMax(writes); count++) {
    for (const part of partsOf(mergeWrites(writes.slice(0, count)), torn)) disks.push(written(disk, part))
  }
  return disks
}

/** The term of the entry at `index` of the whole log; 0 where there is none. */
export const termAt = (disk: Disk, index: number): number => idAt(logOf(disk), index).term
