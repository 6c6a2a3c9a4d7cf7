/** How often a server's log was written: what a write-ahead log says of itself, read from its files. */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { headerBytes } from "../src/layers/wal/Segment.ts"

const markAt = 28
const markBytes = 8
const recordHeaderBytes = 28

/** The number of the last record below `dataDir`: each is one write, made durable by one sync. */
export const count = (dataDir: string): number => {
  const newest = readdirSync(dataDir).filter((name) => name.endsWith(".wal")).toSorted().at(-1)
  if (newest === undefined) return 0
  const bytes = readFileSync(join(dataDir, newest))
  const mark = bytes.subarray(markAt, markAt + markBytes)
  let sequence = Number.parseInt(newest, 10) - 1
  for (let at = headerBytes; at + recordHeaderBytes <= bytes.length;) {
    if (!bytes.subarray(at, at + markBytes).equals(mark)) break
    sequence = bytes.readUIntBE(at + markBytes, 6)
    at += Math.ceil((recordHeaderBytes + bytes.readUInt32BE(at + 16)) / 8) * 8
  }
  return sequence
}
