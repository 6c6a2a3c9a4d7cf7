/**
 * A segment: one file of the write-ahead log, `<sequence of its first record, 15 digits>.wal`.
 *
 * ```
 * segment = header, 4096 bytes · records · zeros up to its size                         (integers are big-endian)
 * header  = magic "TITANWAL" · version u32 = 2 · CRC u32 of the header's other bytes
 *         · size of the file u48 · first sequence u48 · mark 8 bytes
 *         · length u16, cluster id · length u16, node id · length u16, disk id (UTF-8) · zeros
 * ```
 *
 * The disk id is made with the first segment of a directory, and is that of all later ones: who finds another one under a server's name knows
 * that the first directory is lost.
 *
 * The file is filled with zeros to its full size before it gets a record: a write into it then changes no metadata,
 * which makes a sync cost half. Magic, version and CRC lie at the same place in every version, so that an unknown
 * version can be told from damage.
 *
 * The first record of each segment says the hard state, the configuration and the start of the log again, and where the log ended in the
 * segment before. So a segment needs none before it but for entries, and old ones, all of whose entries a snapshot stands for, are deleted
 * whole: oldest first, each deletion durable before the next, and a segment's own only once the first record of the next one is durable. The
 * first segment that is left need not be the first that was; what it says about the end of those before it proves that all they held is past
 * need.
 *
 * A segment is made as `<n>.tmp`: zeros, synced; then, when it is needed, its header, synced; then renamed and the
 * directory synced; then written to. So a crash leaves
 *
 * - a `.tmp` file, whatever is in it: never used, deleted at the next start;
 * - a `.wal` file with a whole header and at most one record that was not synced, which `Record.ts` deals with.
 *
 * Any other header, and a file whose size is not what its header says, is damage.
 */
import * as Effect from "effect/Effect"
import { Buffer } from "node:buffer"
import { randomBytes } from "node:crypto"
import * as Path from "node:path"
import { crc32 } from "node:zlib"
import { type Identity, StorageError } from "../../services/Storage.ts"
import * as File from "./File.ts"
import { markBytes } from "./Record.ts"

export const headerBytes = 4096
const magic = "TITANWAL"
const version = 2
/** A file that says it is larger was not written here: 1.5 GiB. Bounds what is allocated for reading it. */
const sizeBytesMax = 0x60000000
const nameBytesMax = 1024
const fillBytes = 1 << 18

/** What the header of a segment says. */
export interface Header {
  readonly identity: Identity
  readonly firstSequence: number
  readonly sizeBytes: number
  readonly mark: Buffer
}

/** A segment that is open for writing. */
export interface Segment {
  readonly path: string
  readonly fd: File.SynchronousFd
  readonly header: Header
}

/** A file full of zeros that will be a segment. */
export interface Blank {
  readonly path: string
  readonly fd: File.SynchronousFd
  readonly sizeBytes: number
}

const isSegmentName = (name: string): boolean => /^\d{15}\.wal$/.test(name)
const isBlankName = (name: string): boolean => /^\d+\.tmp$/.test(name)

const pathOf = (directory: string, firstSequence: number): string =>
  Path.join(directory, `${String(firstSequence).padStart(15, "0")}.wal`)

/** The segments in a directory, oldest first, and what was begun and never used. */
export const list = (directory: string) =>
  Effect.map(File.list(directory), (names) => ({
    segments: names.filter(isSegmentName).map((name) => Path.join(directory, name)),
    blanks: names.filter(isBlankName).map((name) => Path.join(directory, name))
  }))

const damaged = (path: string, problem: string): StorageError => corrupt(path, 0, problem)

/** Data that was durable is not what it was. Says where, what, and what to do. */
export const corrupt = (path: string, at: number, problem: string): StorageError =>
  new StorageError({
    reason: "Corrupt",
    path,
    message:
      `${path} is damaged at byte ${at}: ${problem}. Nothing was changed. Starting with part of the log could lose `
      + `what this server has acknowledged. If a copy of this directory exists that is not older than its last stop, `
      + `restore it; otherwise leave this server out, and never start it again under its id with an empty directory: `
      + `a majority of the others goes on without it`
  })

const crcOf = (bytes: Buffer): number => crc32(bytes.subarray(16), crc32(bytes.subarray(0, 12)))

const encodeHeader = ({ firstSequence, identity, mark, sizeBytes }: Header): Buffer => {
  const bytes = Buffer.alloc(headerBytes)
  bytes.write(magic, 0, "latin1")
  bytes.writeUInt32BE(version, 8)
  bytes.writeUIntBE(sizeBytes, 16, 6)
  bytes.writeUIntBE(firstSequence, 22, 6)
  mark.copy(bytes, 28)
  let at = 28 + markBytes
  for (const name of [identity.clusterId, identity.nodeId, identity.diskId]) {
    const length = bytes.write(name, at + 2, "utf8")
    bytes.writeUInt16BE(length, at)
    at += 2 + length
  }
  bytes.writeUInt32BE(crcOf(bytes), 12)
  return bytes
}

/** Why no header can hold these names, or `undefined`. */
export const identityProblem = ({ clusterId, nodeId }: Omit<Identity, "diskId">): string | undefined =>
  [clusterId, nodeId].every((name) => name.length > 0 && Buffer.byteLength(name) <= nameBytesMax)
    ? undefined
    : `cluster id and node id must have 1 to ${nameBytesMax} bytes`

/** The three names behind the mark; `undefined` where they do not fit. */
const decodeIdentity = (bytes: Buffer): Identity | undefined => {
  const names: Array<string> = []
  for (let at = 28 + markBytes; names.length < 3;) {
    const end = at + 2 + (at + 2 <= headerBytes ? bytes.readUInt16BE(at) : headerBytes)
    if (end > headerBytes) return undefined
    names.push(bytes.toString("utf8", at + 2, end))
    at = end
  }
  const [clusterId = "", nodeId = "", diskId = ""] = names
  return { clusterId, nodeId, diskId }
}

const decodeHeader = Effect.fnUntraced(function*(path: string, bytes: Buffer, sizeBytes: number) {
  if (bytes.length < headerBytes) return yield* damaged(path, `its ${bytes.length} bytes have no room for a header`)
  if (bytes.toString("latin1", 0, 8) !== magic) return yield* damaged(path, "it does not begin as a segment does")
  if (bytes.readUInt32BE(12) !== crcOf(bytes)) return yield* damaged(path, "the header does not match its CRC")
  if (bytes.readUInt32BE(8) !== version) {
    return yield* new StorageError({
      reason: "Unsupported",
      path,
      message:
        `${path} has format version ${bytes.readUInt32BE(8)}; this program reads version ${version}. Nothing was `
        + `changed. Start this server with a program that reads that version, such as the one that wrote it`
    })
  }
  const stated = bytes.readUIntBE(16, 6)
  if (stated !== sizeBytes) return yield* damaged(path, `it has ${sizeBytes} bytes and was made with ${stated}`)
  if (stated > sizeBytesMax) return yield* damaged(path, `its ${sizeBytes} bytes are more than a segment may have`)
  const firstSequence = bytes.readUIntBE(22, 6)
  if (path !== pathOf(Path.dirname(path), firstSequence)) {
    return yield* damaged(path, `its first record is number ${firstSequence}, which is not its name`)
  }
  const identity = decodeIdentity(bytes)
  if (identity === undefined) return yield* damaged(path, "the names in its header do not fit")
  const mark = Buffer.from(bytes.subarray(28, 28 + markBytes))
  return { identity, firstSequence, sizeBytes, mark } satisfies Header
})

/** The checked header of the segment at `path`. */
export const readHeader = (path: string): Effect.Effect<Header, StorageError> =>
  Effect.acquireUseRelease(
    File.open(path, "r"),
    (fd) =>
      Effect.flatMap(File.read(fd, path, headerBytes), (bytes) =>
        Effect.flatMap(File.sizeOf(fd, path), (size) => decodeHeader(path, bytes, size))),
    File.close
  )

/** All bytes of a segment whose header was checked. */
export const readAll = (path: string, header: Header): Effect.Effect<Buffer, StorageError> =>
  Effect.acquireUseRelease(File.open(path, "r"), (fd) => File.read(fd, path, header.sizeBytes), File.close)

/** Deletes a blank that will not be used. */
export const discard = (blank: Blank): Effect.Effect<void> =>
  Effect.andThen(
    File.close(blank.fd),
    Effect.catch(File.unlink(blank.path), (error) => Effect.logDebug(`A blank segment stays behind: ${error.message}`))
  )

/**
 * Fills a new file with zeros, a little at a time so that other I/O gets its turn, and syncs it. `name` is a number.
 */
export const makeBlank = (directory: string, name: number, sizeBytes: number): Effect.Effect<Blank, StorageError> => {
  const path = Path.join(directory, `${name}.tmp`)
  return Effect.acquireUseRelease(
    Effect.map(File.openSynchronous(path, "new"), (fd): Blank => ({ path, fd, sizeBytes })),
    Effect.fnUntraced(function*(blank) {
      const zeros = Buffer.alloc(Math.min(fillBytes, sizeBytes))
      for (let at = 0; at < sizeBytes; at += zeros.length) {
        yield* File.writeDurably(blank.fd, path, zeros.subarray(0, Math.min(zeros.length, sizeBytes - at)), at)
      }
      yield* File.sync(blank.fd, path)
      return blank
    }),
    (blank, exit) => exit._tag === "Success" ? Effect.void : discard(blank)
  )
}

/** Makes the blank the segment that starts with `firstSequence`; when this returns, it is durable under its name. */
export const open = Effect.fnUntraced(function*(blank: Blank, identity: Identity, firstSequence: number) {
  const directory = Path.dirname(blank.path)
  const path = pathOf(directory, firstSequence)
  const header: Header = { identity, firstSequence, sizeBytes: blank.sizeBytes, mark: randomBytes(markBytes) }
  yield* File.writeDurably(blank.fd, blank.path, encodeHeader(header), 0)
  yield* File.rename(blank.path, path)
  yield* File.syncDirectory(directory)
  return { path, fd: blank.fd, header } satisfies Segment
})

/** The smallest size, in bytes, of a segment that holds a record of `recordBytes`. */
export const sizeFor = (recordBytes: number): number => headerBytes + recordBytes
