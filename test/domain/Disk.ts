/**
 * A server's disk, which keeps what was written and may hold writes back. Whatever waits for a write leaves after
 * it, in order.
 */
import { type Command, type HardState, mergeWrites, type Start, type Write } from "../../src/domain/Command.ts"
import { type Configuration, unknown } from "../../src/domain/Configuration.ts"
import { type Entry, type EntryId, type LogIndex, origin } from "../../src/domain/Entry.ts"
import { none, type Snapshot } from "../../src/domain/Snapshot.ts"

/** What may happen only once a write, and all earlier ones, are durable. */
export type Released = Extract<Command, { readonly _tag: "Send" | "Apply" | "Restore" }>

interface Job {
  readonly write: Write
  readonly then: ReadonlyArray<Released>
}

/** What is durable. */
export interface Kept {
  hardState: HardState
  snapshot: Snapshot
  /** The entry before the first of `entries`. */
  prev: EntryId
  /** In force at `prev`. */
  configuration: Configuration
  entries: Array<Entry>
}

/** Leaves in `disk` what `write` says. */
export const applyWrite = (disk: Kept, write: Write): void => {
  if (write.hardState !== undefined) disk.hardState = write.hardState
  if (write.install !== undefined) {
    if (write.install.snapshot.last.index > disk.snapshot.last.index) disk.snapshot = write.install.snapshot
    if (!write.install.keepsLog) {
      disk.prev = write.install.snapshot.last
      disk.configuration = write.install.snapshot.configuration
      disk.entries = []
    }
  }
  const first = write.entries[0]
  if (first === undefined) return
  const { index } = disk.prev
  if (first.index > index + disk.entries.length + 1 || first.index <= index) {
    throw new Error(`a gap on disk before ${first.index}`)
  }
  disk.entries.length = first.index - 1 - index
  for (const entry of write.entries) {
    if (entry.index !== index + disk.entries.length + 1) throw new Error(`entry ${entry.index} is out of place on disk`)
    disk.entries.push(entry)
  }
}

export class Disk implements Kept {
  hardState: HardState = { term: 0, votedFor: undefined }
  snapshot: Snapshot = none(unknown)
  prev: EntryId = origin
  configuration: Configuration
  entries: Array<Entry> = []
  /** What leaders sent and is whole, by its last index: installed, discarded, or lost with the power. */
  readonly received = new Map<LogIndex, Snapshot>()
  /** True while writes wait for `flush`. */
  held = false
  waiting: Array<Job> = []

  constructor(configuration: Configuration) {
    this.configuration = configuration
  }

  submit(write: Write, then: ReadonlyArray<Released>): void {
    this.waiting.push({ write, then })
  }

  /** Makes the `count` oldest writes durable, and says what they release: as one, but for those that install a snapshot. */
  flush(count = this.waiting.length): ReadonlyArray<Released> {
    const jobs = this.waiting.splice(0, count)
    for (let from = 0; from < jobs.length;) {
      const next = jobs.findIndex((job, i) => i > from && job.write.install !== undefined)
      const to = next < 0 ? jobs.length : next
      const write = mergeWrites(jobs.slice(from, to).map((job) => job.write))
      const { install } = write
      if (install !== undefined && !this.received.delete(install.snapshot.last.index)) {
        throw new Error(`no snapshot of ${install.snapshot.last.index} was received`)
      }
      applyWrite(this, write)
      from = to
    }
    return jobs.flatMap((job) => job.then)
  }

  /** Gives up what lies before and at `prev`, which it must hold, and its snapshot stand for. */
  compact({ configuration, prev }: Start): void {
    if (prev.index <= this.prev.index) return
    const held = this.entries[prev.index - this.prev.index - 1]
    if (held?.term !== prev.term || this.snapshot.last.index < prev.index) {
      throw new Error(`nothing durable stands for the entries up to ${prev.index}`)
    }
    this.entries = this.entries.filter((entry) => entry.index > prev.index)
    this.prev = prev
    this.configuration = configuration
  }

  /** Power is lost: what was not durable is gone. */
  lose(): void {
    this.waiting = []
    this.received.clear()
  }
}
