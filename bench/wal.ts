/**
 * What the write-ahead log makes of the disk: records appended one after the other, each with a sync, as one of a driver's groups is; beside it
 * the same bytes by bare `write` and `fdatasync`, into a file that is filled with zeros before. They take turns.
 */
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { randomBytes } from "node:crypto"
import { closeSync, fdatasync, fsyncSync, openSync, write, writeSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { ofVoters } from "../src/domain/Configuration.ts"
import { command, type Entry } from "../src/domain/Entry.ts"
import * as StorageFile from "../src/layers/StorageFile.ts"
import { Storage } from "../src/services/Storage.ts"
import * as Directory from "./directory.ts"

const valueBytes = 256
const batches = [1, 16, 64, 256, 1024]
const fileBytes = 64 << 20

interface Reading {
  readonly syncsPerSecond: number
  readonly entriesPerSecond: number
  readonly mebibytesPerSecond: number
}

const reading = (syncs: number, batch: number, ms: number): Reading => ({
  syncsPerSecond: 1000 * syncs / ms,
  entriesPerSecond: 1000 * syncs * batch / ms,
  mebibytesPerSecond: 1000 * syncs * batch * valueBytes / ms / (1 << 20)
})

const [asyncWrite, asyncSync] = [promisify(write), promisify(fdatasync)]

/** The bytes of `batch` values, written and synced again and again. */
const bare = (directory: string, batch: number, seconds: number): Effect.Effect<Reading> =>
  Effect.promise(async () => {
    const fd = openSync(join(directory, `bare-${batch}`), "w")
    const zeros = Buffer.alloc(1 << 20)
    for (let at = 0; at < fileBytes; at += zeros.length) writeSync(fd, zeros, 0, zeros.length, at)
    fsyncSync(fd)
    const bytes = randomBytes(batch * valueBytes)
    const startMs = performance.now()
    let syncs = 0
    for (let at = 0; performance.now() - startMs < seconds * 1000; syncs++) {
      if (at + bytes.length > fileBytes) at = 0
      await asyncWrite(fd, bytes, 0, bytes.length, at)
      await asyncSync(fd)
      at += bytes.length
    }
    const taken = reading(syncs, batch, performance.now() - startMs)
    closeSync(fd)
    return taken
  })

const log = Effect.fnUntraced(function*(directory: string, batch: number, seconds: number) {
  const layer = StorageFile.layer({ directory: join(directory, `log-${batch}`), clusterId: "bench", nodeId: "n1" })
  const storage = Context.get(yield* Layer.build(layer), Storage)
  yield* storage.recover(ofVoters(["n1"]))
  const values = Array.from({ length: batch }, () => command(new Uint8Array(randomBytes(valueBytes))))
  const startMs = performance.now()
  let index = 0
  let syncs = 0
  for (; performance.now() - startMs < seconds * 1000; syncs++) {
    const entries: Array<Entry> = values.map((payload) => ({ term: 1, index: ++index, payload }))
    yield* storage.persist({ hardState: undefined, install: undefined, entries })
  }
  return reading(syncs, batch, performance.now() - startMs)
}, Effect.scoped)

const cells = ({ entriesPerSecond, mebibytesPerSecond, syncsPerSecond }: Reading): string =>
  [syncsPerSecond, entriesPerSecond, mebibytesPerSecond]
    .map((value) => Math.round(value).toLocaleString("en").padStart(10)).join("")

export const bench = Effect.fnUntraced(function*({ seconds }: { readonly seconds: number }) {
  const directory = yield* Directory.make
  yield* Console.log(`one record of so many ${valueBytes}-byte entries, one sync; ${seconds} s a row`)
  yield* Console.log("entries  log:  syncs/s entries/s     MiB/s   bare: syncs/s entries/s     MiB/s   ratio")
  const rows: Array<{ readonly batch: number; readonly log: Reading; readonly bare: Reading }> = []
  for (const batch of batches) {
    const row = { batch, log: yield* log(directory, batch, seconds), bare: yield* bare(directory, batch, seconds) }
    rows.push(row)
    const ratio = (row.log.syncsPerSecond / row.bare.syncsPerSecond).toFixed(2)
    yield* Console.log(`${String(batch).padStart(7)}  ${cells(row.log)}     ${cells(row.bare)}   ${ratio.padStart(5)}`)
  }
  return { valueBytes, seconds, rows }
})
