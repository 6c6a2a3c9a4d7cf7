/**
 * What a server remembers of the disks of its cluster (`KnownDisks`), in the file `disks` of its directory.
 *
 * ```
 * file = magic "TITANDSK" · version u32 = 1 · CRC u32 of the file's other bytes · length u32 · JSON, UTF-8   (integers are big-endian)
 * JSON = { "clusterId", "nodeId", "diskId", "isAdmitted": true, "disks": [["n2", "0f…"], …] }
 * ```
 *
 * The first three say whose it is, as the header of a segment does. Magic, version and CRC lie at the same place in every version, so that an
 * unknown version can be told from damage.
 *
 * All of it is written anew to `disks.partial`, synced, renamed, and the directory synced: a crash leaves the old file or the new one, and
 * perhaps a `disks.partial`, which the next start deletes. It is first written when the directory has a segment. So a file that is not whole
 * is damage, and one without any segment, or of another disk than the segments, is what somebody left who deleted the log: such a server has
 * lost its disk, and is not started.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import * as Path from "node:path"
import { crc32 } from "node:zlib"
import { type Identity, type KnownDisks, noKnownDisks, StorageError } from "../services/Storage.ts"
import * as File from "./wal/File.ts"

const magic = "TITANDSK"
const version = 1
const fixedBytes = 20
/** More than any cluster's take. */
const bytesMax = 4 << 20

const name = "disks"
const partialName = "disks.partial"

const Json = Schema.fromJsonString(Schema.Struct({
  clusterId: Schema.String,
  nodeId: Schema.String,
  diskId: Schema.String,
  isAdmitted: Schema.Boolean,
  disks: Schema.Array(Schema.Tuple([Schema.String, Schema.String]))
}))
const encodeJson = Schema.encodeSync(Json)
const decodeJson = Schema.decodeUnknownSync(Json)

const crcOf = (bytes: Buffer): number => crc32(bytes.subarray(16), crc32(bytes.subarray(0, 12)))

const encode = ({ clusterId, diskId, nodeId }: Identity, { disks, isAdmitted }: KnownDisks): Buffer => {
  const json = Buffer.from(encodeJson({ clusterId, nodeId, diskId, isAdmitted, disks: [...disks] }))
  const bytes = Buffer.alloc(fixedBytes + json.length)
  bytes.write(magic, 0, "latin1")
  bytes.writeUInt32BE(version, 8)
  bytes.writeUInt32BE(json.length, 16)
  json.copy(bytes, fixedBytes)
  bytes.writeUInt32BE(crcOf(bytes), 12)
  return bytes
}

const damaged = (path: string, problem: string): StorageError =>
  new StorageError({
    reason: "Corrupt",
    path,
    message:
      `${path} is damaged: ${problem}. Nothing was changed. It says which disk every other server has, so that none comes back without what `
      + `it promised. The others remember the same: unless another server of this cluster lost its disk, delete this file and start again`
  })

const unsupported = (path: string, found: number): StorageError =>
  new StorageError({
    reason: "Unsupported",
    path,
    message:
      `${path} has format version ${found}; this program reads version ${version}. Nothing was changed. Start this server `
      + `with a program that reads that version, such as the one that wrote it`
  })

const decode = Effect.fnUntraced(function*(path: string, bytes: Buffer) {
  if (bytes.length < fixedBytes) return yield* damaged(path, `it has ${bytes.length} bytes`)
  if (bytes.toString("latin1", 0, 8) !== magic) return yield* damaged(path, "it does not begin as such a file does")
  if (bytes.readUInt32BE(12) !== crcOf(bytes)) return yield* damaged(path, "its bytes do not match their CRC")
  if (bytes.readUInt32BE(8) !== version) return yield* unsupported(path, bytes.readUInt32BE(8))
  if (bytes.readUInt32BE(16) !== bytes.length - fixedBytes) {
    return yield* damaged(path, "its length is not what it says")
  }
  return yield* Effect.try({
    try: () => decodeJson(bytes.toString("utf8", fixedBytes)),
    catch: (error) => damaged(path, `it is intact but makes no sense (${(error as Error).message})`)
  })
})

const readAll = (path: string) =>
  Effect.acquireUseRelease(
    File.open(path, "r"),
    (fd) =>
      Effect.flatMap(File.sizeOf(fd, path), (size) =>
        size > bytesMax
          ? Effect.fail(damaged(path, `it has ${size} bytes`))
          : File.read(fd, path, size)),
    File.close
  )

/** What the directory of `identity` holds; `undefined` is a directory without a segment, which has no identity yet. */
export const read = Effect.fnUntraced(function*(directory: string, identity: Identity | undefined) {
  const names = yield* File.list(directory)
  if (!names.includes(name)) return noKnownDisks
  const path = Path.join(directory, name)
  const { disks, isAdmitted, ...owner } = yield* decode(path, yield* readAll(path))
  if (owner.clusterId === identity?.clusterId && owner.nodeId === identity.nodeId && owner.diskId === identity.diskId) {
    return { isAdmitted, disks: new Map(disks) } satisfies KnownDisks
  }
  return yield* new StorageError({
    reason: "Foreign",
    path,
    message:
      `${path} belongs to a log of server ${owner.nodeId} of cluster ${owner.clusterId} that is not in this directory (any more). Nothing was `
      + `changed. If that log is lost, that server may not come back under its id, because it would forget what it promised: run titan member `
      + `replace ${owner.nodeId} NEW=URL, with a new server under a new id and a directory of its own`
  })
})

/** Deletes what a crash left of a file that was being written. */
export const clean = Effect.fnUntraced(function*(directory: string) {
  const names = yield* File.list(directory)
  if (names.includes(partialName)) yield* File.unlink(Path.join(directory, partialName))
})

/** Returns once `known` is durable. A sync that failed proves nothing of what it was to sync: the next call writes all of it again. */
export const write = Effect.fnUntraced(function*(directory: string, identity: Identity, known: KnownDisks) {
  const path = Path.join(directory, partialName)
  const bytes = encode(identity, known)
  yield* Effect.acquireUseRelease(
    File.open(path, "w"),
    (fd) => Effect.andThen(File.write(fd, path, bytes, 0), File.sync(fd, path)),
    File.close
  )
  yield* File.rename(path, Path.join(directory, name))
  yield* File.syncDirectory(directory)
})
