/**
 * A server's disk, which keeps what was written and may hold writes back. Whatever waits for a write leaves after
 * it, in order.
 */
import { type Command, type HardState, mergeWrites, type Write } from "../../src/domain/Command.ts"
import type { Entry } from "../../src/domain/Entry.ts"

/** What may happen only once a write, and all earlier ones, are durable. */
export type Released = Extract<Command, { readonly _tag: "Send" | "Apply" }>

interface Job {
  readonly write: Write
  readonly then: ReadonlyArray<Released>
}

/** Leaves in `disk` what `write` says. */
export const applyWrite = (disk: { hardState: HardState; entries: Array<Entry> }, write: Write): void => {
  if (write.hardState !== undefined) disk.hardState = write.hardState
  const first = write.entries[0]
  if (first === undefined) return
  if (first.index > disk.entries.length + 1) throw new Error(`a gap on disk before ${first.index}`)
  disk.entries.length = first.index - 1
  for (const entry of write.entries) {
    if (entry.index !== disk.entries.length + 1) throw new Error(`entry ${entry.index} is out of place on disk`)
    disk.entries.push(entry)
  }
}

export class Disk {
  hardState: HardState = { term: 0, votedFor: undefined }
  entries: Array<Entry> = []
  /** True while writes wait for `flush`. */
  held = false
  waiting: Array<Job> = []

  submit(write: Write, then: ReadonlyArray<Released>): void {
    this.waiting.push({ write, then })
  }

  /** Makes the `count` oldest writes durable, as one, and says what they release. */
  flush(count = this.waiting.length): ReadonlyArray<Released> {
    const jobs = this.waiting.splice(0, count)
    applyWrite(this, mergeWrites(jobs.map((job) => job.write)))
    return jobs.flatMap((job) => job.then)
  }

  /** Power is lost: what was not durable is gone. */
  lose(): void {
    this.waiting = []
  }
}
