/**
 * What a disk can hold after power was lost at any point of a run of changes: with what was not synced, without it, and with only some of it.
 */
import { applyChange, type Change, type Image } from "./storageDirectory.ts"

interface Contents {
  now: Buffer
  durable: Buffer
}

/** The files of one directory, by name, as a process sees them and as they were synced. */
class Disk {
  #names = new Map<string, Contents>()
  #durableNames = new Map<string, Contents>()
  /** Names that are gone, which a crash may bring back. */
  #deleted: Array<string> = []
  readonly #directory: string

  constructor(directory: string, image: Image) {
    this.#directory = directory
    for (const [name, bytes] of image) {
      const contents = { now: bytes, durable: bytes }
      this.#names.set(name, contents)
      this.#durableNames.set(name, contents)
    }
  }

  apply(change: Change): void {
    const contents = this.#names.get(change.name)
    switch (change._tag) {
      case "Create":
        this.#names.set(change.name, { now: Buffer.alloc(0), durable: Buffer.alloc(0) })
        return
      case "Write":
        if (contents !== undefined) contents.now = written(contents.now, change)
        return
      case "Rename":
      case "Delete":
        this.#names.delete(change.name)
        if (change._tag === "Delete") this.#deleted.push(change.name)
        if (change._tag === "Rename" && contents !== undefined) this.#names.set(change.to, contents)
        return
      case "Sync":
        if (contents !== undefined) contents.durable = contents.now
        if (change.name !== this.#directory) return
        this.#durableNames = new Map(this.#names)
        this.#deleted = []
    }
  }

  /** What may be found: names and bytes as written or as synced, and of several deletions only one. */
  *images(): Generator<Image> {
    const image = (names: ReadonlyMap<string, Contents>, bytes: keyof Contents): Image =>
      new Map([...names].map(([name, contents]) => [name, contents[bytes]]))
    const isSynced = [...this.#names.values()].every(({ durable, now }) => durable === now)
    const oneDeleted = this.#deleted.map((gone) => new Map([...this.#durableNames].filter(([name]) => name !== gone)))
    for (const names of [this.#names, this.#durableNames, ...oneDeleted]) {
      yield image(names, "now")
      if (!isSynced) yield image(names, "durable")
    }
  }
}

const written = (bytes: Buffer, change: Change & { readonly _tag: "Write" }): Buffer =>
  applyChange(new Map([[change.name, bytes]]), change).get(change.name) ?? bytes

/** Half of a write, on the disk when power is lost. */
const halfOf = (change: Change & { readonly _tag: "Write" }): Change => ({
  ...change,
  bytes: change.bytes.subarray(0, change.bytes.length >> 1)
})

/** One possible crash: what is on disk after the first `changes` of a run, the last of them perhaps in part. */
export interface PowerLoss {
  readonly image: Image
  readonly changes: number
  readonly what: string
}

/** Every crash in a run of changes of `directory`, which held `image` before. */
export const powerLosses = (
  run: ReadonlyArray<Change>,
  directory: string,
  image: Image = new Map()
): ReadonlyArray<PowerLoss> => {
  const disk = new Disk(directory, image)
  const all: Array<PowerLoss> = []
  for (const [i, change] of run.entries()) {
    const note = (kind: string) => {
      for (const [j, found] of [...disk.images()].entries()) {
        all.push({ image: found, changes: i + 1, what: `change ${i}, ${kind} ${change.name}, image ${j}` })
      }
    }
    if (change._tag === "Write") {
      disk.apply(halfOf(change))
      note("half a Write of")
    }
    disk.apply(change)
    note(change._tag)
  }
  return all
}
