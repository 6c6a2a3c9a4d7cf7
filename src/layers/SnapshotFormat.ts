/**
 * A snapshot as bytes: the same in memory, in a file and on the wire.
 *
 * ```
 * snapshot = head · content · trailer                                                  (integers are big-endian)
 * head     = magic "TITANSNP" · version u32 = 1 · CRC u32 of the head's other bytes · length u32 · JSON of `Head`, UTF-8
 * content  = what the state machine wrote
 * trailer  = length of the content u48 · CRC u32 of every byte before this one
 * ```
 *
 * How long the content gets is known only when it ends, hence the trailer. Magic, version, CRC and length of the head lie at the same place
 * in every version, so that an unknown version can be told from damage. The JSON may get more fields, as long as they are optional: a
 * program that does not know one reads past it.
 *
 * A snapshot is whole or it is not one: the last four bytes are a checksum over all others, so that a file that was not written to its
 * end, or was changed anywhere, is never taken for a snapshot. Both directions work piece by piece and hold none of the content.
 */
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import { crc32 } from "node:zlib"
import { type Configuration, isSame } from "../domain/Configuration.ts"
import type { Entry, EntryId } from "../domain/Entry.ts"
import type { NodeId } from "../domain/NodeId.ts"
import type { Snapshot } from "../domain/Snapshot.ts"
import { ConfigurationData, fromData, problem as configurationProblem, toData } from "./ConfigurationCodec.ts"

const magic = "TITANSNP"
const version = 1
const fixedBytes = 20
/** More than any head has; bounds what is kept of a file that may be anything. */
const jsonBytesMax = 1 << 20
const crcBytes = 4
export const trailerBytes = 6 + crcBytes

/** What a snapshot says about itself. */
export interface Head {
  readonly clusterId: string
  /** The server whose state machine wrote it. */
  readonly takenBy: NodeId
  readonly last: EntryId
  readonly configuration: Configuration
}

const Count = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))
const HeadJson = Schema.fromJsonString(Schema.Struct({
  clusterId: Schema.String,
  takenBy: Schema.String,
  last: Schema.Struct({ term: Count, index: Count }),
  configuration: ConfigurationData
}))
const encodeJson = Schema.encodeSync(HeadJson)
const decodeJson = Schema.decodeUnknownSync(HeadJson)

const headCrc = (head: Buffer): number => crc32(head.subarray(16), crc32(head.subarray(0, 12)))

const encodeHead = ({ clusterId, configuration, last, takenBy }: Head): Buffer => {
  const json = Buffer.from(encodeJson({ clusterId, takenBy, last, configuration: toData(configuration) }))
  const head = Buffer.alloc(fixedBytes + json.length)
  head.write(magic, 0, "latin1")
  head.writeUInt32BE(version, 8)
  head.writeUInt32BE(json.length, 16)
  json.copy(head, fixedBytes)
  head.writeUInt32BE(headCrc(head), 12)
  return head
}

/** Makes what goes around the content of one snapshot. */
export interface Encoder {
  /** Goes before the content. */
  readonly head: Uint8Array
  /** Takes note of the next bytes of the content. */
  readonly add: (content: Uint8Array) => void
  /** Goes after the content, once all of it was added. */
  readonly trailer: () => Uint8Array
}

export const encoder = (of: Head): Encoder => {
  const head = encodeHead(of)
  let crc = crc32(head)
  let contentBytes = 0
  return {
    head,
    add: (content) => {
      crc = crc32(content, crc)
      contentBytes += content.length
    },
    trailer: () => {
      const trailer = Buffer.alloc(trailerBytes)
      trailer.writeUIntBE(contentBytes, 0, 6)
      trailer.writeUInt32BE(crc32(trailer.subarray(0, 6), crc), 6)
      return trailer
    }
  }
}

/** What bytes turned out to be. */
export type Checked =
  | {
    readonly _tag: "Whole"
    readonly head: Head
    readonly snapshot: Snapshot
    /** Where the content begins. */
    readonly contentAt: number
    readonly contentBytes: number
  }
  /** Not a whole snapshot: `problem` says what is wrong, near byte `at`. */
  | { readonly _tag: "Damaged"; readonly at: number; readonly problem: string }
  /** Written by a later program. */
  | { readonly _tag: "Unsupported"; readonly version: number }

type Opening =
  | { readonly _tag: "Head"; readonly head: Head; readonly bytes: number }
  | Exclude<
    Checked,
    { readonly _tag: "Whole" }
  >

const damaged = (at: number, problem: string) => ({ _tag: "Damaged", at, problem }) as const

/** The head at the beginning of `bytes`; `undefined` while there are too few. */
const decodeHead = (bytes: Buffer): Opening | undefined => {
  if (bytes.length < fixedBytes) return undefined
  if (bytes.toString("latin1", 0, 8) !== magic) return damaged(0, "it does not begin as a snapshot does")
  const end = fixedBytes + bytes.readUInt32BE(16)
  if (end > fixedBytes + jsonBytesMax) return damaged(16, `its head claims ${end} bytes`)
  if (bytes.length < end) return undefined
  const head = bytes.subarray(0, end)
  if (head.readUInt32BE(12) !== headCrc(head)) return damaged(0, "its head does not match its CRC")
  if (head.readUInt32BE(8) !== version) return { _tag: "Unsupported", version: head.readUInt32BE(8) }
  try {
    const json = decodeJson(head.toString("utf8", fixedBytes))
    const problem = configurationProblem(json.configuration)
    return problem === undefined
      ? { _tag: "Head", head: { ...json, configuration: fromData(json.configuration) }, bytes: end }
      : damaged(fixedBytes, `its head is intact but its configuration is none: ${problem}`)
  } catch (error) {
    if (!Schema.isSchemaError(error)) throw error
    return damaged(fixedBytes, `its head is intact but makes no sense (${error.message})`)
  }
}

/** Looks at the bytes of a snapshot, piece by piece in order. */
export interface Checker {
  readonly add: (bytes: Uint8Array) => void
  /** What all of them are. */
  readonly end: () => Checked
}

/** Checks a snapshot that should have `sizeBytes`. */
export const checker = (sizeBytes: number): Checker => {
  const crcAt = sizeBytes - crcBytes
  const trailerAt = sizeBytes - trailerBytes
  const trailer = Buffer.alloc(trailerBytes)
  let crc = 0
  let at = 0
  let early: Buffer = Buffer.alloc(0)
  let opening: Opening | undefined

  const add = (bytes: Uint8Array): void => {
    if (opening === undefined) {
      early = Buffer.concat([early, bytes])
      opening = decodeHead(early)
      if (opening !== undefined) early = Buffer.alloc(0)
    }
    if (at < crcAt) crc = crc32(bytes.subarray(0, crcAt - at), crc)
    if (at < sizeBytes && at + bytes.length > trailerAt) {
      const from = Math.max(0, trailerAt - at)
      trailer.set(bytes.subarray(from, sizeBytes - at), Math.max(0, at - trailerAt))
    }
    at += bytes.length
  }

  const end = (): Checked => {
    if (opening !== undefined && opening._tag !== "Head") return opening
    if (at !== sizeBytes) return damaged(Math.min(at, sizeBytes), `it has ${at} bytes and should have ${sizeBytes}`)
    if (opening === undefined) return damaged(at, `its ${at} bytes have no room for its head`)
    const contentBytes = trailerAt - opening.bytes
    if (contentBytes < 0) return damaged(at, `its ${at} bytes have no room for its trailer`)
    if (trailer.readUInt32BE(6) !== crc) return damaged(crcAt, "its bytes do not match the CRC at its end")
    if (trailer.readUIntBE(0, 6) !== contentBytes) {
      return damaged(trailerAt, `it has ${contentBytes} bytes of content and says ${trailer.readUIntBE(0, 6)}`)
    }
    const { bytes: contentAt, head } = opening
    const snapshot: Snapshot = { last: head.last, configuration: head.configuration, sizeBytes }
    return { _tag: "Whole", head, snapshot, contentAt, contentBytes }
  }

  return { add, end }
}

const name = ({ index, term }: EntryId): string => `index ${index} of term ${term}`

/** Why what came in is not the snapshot that was announced to a server of the cluster `clusterId`, or `undefined`. */
export const mismatch = (checked: Checked, announced: Snapshot, clusterId: string): string | undefined => {
  if (checked._tag === "Unsupported") return `it has format version ${checked.version}; this program reads ${version}`
  if (checked._tag === "Damaged") return `it is damaged at byte ${checked.at}: ${checked.problem}`
  const { configuration, last } = checked.snapshot
  if (checked.head.clusterId !== clusterId) {
    return `it is of the cluster ${checked.head.clusterId}; this server is of ${clusterId}`
  }
  if (last.index !== announced.last.index || last.term !== announced.last.term) {
    return `it ends at ${name(last)}, not at ${name(announced.last)} as announced`
  }
  return isSame(configuration, announced.configuration) ? undefined : "its configuration is not the one announced"
}

/**
 * Whether a log that holds `entries` after `prev` agrees with a snapshot that ends at `last`. Where it does not, it ends before `last` or went
 * another way, and all of it gives way to the snapshot: a crash came between an installed snapshot and the new beginning of the log.
 */
export const isHeld = (last: EntryId, prev: EntryId, entries: ReadonlyArray<Entry>): boolean =>
  (last.index === prev.index ? prev : entries[last.index - prev.index - 1])?.term === last.term
