/**
 * The key-value store's commands, results, queries and answers as bytes.
 *
 * ```
 * any       = 0 · SchemaBinary of the value                                    (big-endian)
 * Put       = 1 · length u16 · key (UTF-8) · value                             without a condition
 * Written   = 1 · revision f64
 * Get       = 1 · key (UTF-8)
 * Found     = 1 · revision f64 · version f64 · value
 * Missing   = 2 · revision f64
 * ```
 *
 * What a busy store does nearly always has bytes of its own: Schema's way looks at each value several times, on every server for every command
 * (`bench/README.md`). Everything else, and whatever has no place in those, is left to Schema, which also says what is wrong with it.
 */
import { Buffer } from "node:buffer"
import { type Codec, codec, type Codecs, type Schemas } from "../../services/StateMachine.ts"
import { readF64, readU16, text, writeF64 } from "../Bytes.ts"
import type * as Protocol from "./Protocol.ts"

type Kv = Schemas<Protocol.Command, Protocol.Result, Protocol.Query, Protocol.Answer>

const any = 0
const keyBytesMax = 0xffff

const malformed = (problem: string): never => {
  throw new RangeError(problem)
}

/** Values of which some have bytes of their own: `write` gives `undefined` for all others, `read` of one that begins with a known kind. */
const shortcut = <T>(
  others: Codec<T>,
  write: (value: T) => Uint8Array | undefined,
  read: (kind: number, bytes: Uint8Array) => T
): Codec<T> => ({
  encode: (value) => {
    const short = write(value)
    if (short !== undefined) return short
    const long = others.encode(value)
    const bytes = new Uint8Array(1 + long.length)
    bytes.set(long, 1)
    return bytes
  },
  decode: (bytes) => {
    const kind = bytes[0] ?? malformed("no bytes at all")
    return kind === any ? others.decode(bytes.subarray(1)) : read(kind, bytes)
  }
})

const isPlainKey = (key: unknown): key is string =>
  typeof key === "string" && key.length * 3 <= keyBytesMax && key.isWellFormed()

const isRevision = (revision: number): boolean => Number.isSafeInteger(revision) && revision >= 0

const revisionAt = (bytes: Uint8Array, at: number): number => {
  const revision = readF64(bytes, at)
  return isRevision(revision) ? revision : malformed(`${revision} is no revision`)
}

const command = (schema: Kv["command"]): Codec<Protocol.Command> =>
  shortcut(
    codec(schema),
    (value) => {
      if (value._tag !== "Put" || value.ifRevision !== undefined || !isPlainKey(value.key)) return undefined
      if (!(value.value instanceof Uint8Array)) return undefined
      const keyBytes = Buffer.byteLength(value.key)
      const bytes = Buffer.allocUnsafe(3 + keyBytes + value.value.length)
      bytes[0] = 1
      bytes.writeUInt16BE(keyBytes, 1)
      bytes.write(value.key, 3)
      bytes.set(value.value, 3 + keyBytes)
      return bytes
    },
    (kind, bytes) => {
      const end = kind === 1 ? 3 + readU16(bytes, 1) : malformed(`there is no kind ${kind} of command`)
      if (end > bytes.length) malformed("the key is longer than the command")
      return { _tag: "Put", key: text(bytes, 3, end), value: bytes.subarray(end) }
    }
  )

const result = (schema: Kv["result"]): Codec<Protocol.Result> =>
  shortcut(
    codec(schema),
    (value) => {
      if (value._tag !== "Written" || !isRevision(value.revision)) return undefined
      const bytes = new Uint8Array(9)
      bytes[0] = 1
      writeF64(bytes, 1, value.revision)
      return bytes
    },
    (kind, bytes) =>
      kind === 1
        ? { _tag: "Written", revision: revisionAt(bytes, 1) }
        : malformed(`there is no kind ${kind} of result`)
  )

const query = (schema: Kv["query"]): Codec<Protocol.Query> =>
  shortcut(
    codec(schema),
    (value) => {
      if (value._tag !== "Get" || !isPlainKey(value.key)) return undefined
      const bytes = Buffer.allocUnsafe(1 + Buffer.byteLength(value.key))
      bytes[0] = 1
      bytes.write(value.key, 1)
      return bytes
    },
    (kind, bytes) =>
      kind === 1
        ? { _tag: "Get", key: text(bytes, 1, bytes.length) }
        : malformed(`there is no kind ${kind} of query`)
  )

const answer = (schema: Kv["answer"]): Codec<Protocol.Answer> =>
  shortcut(
    codec(schema),
    (value) => {
      if (value._tag === "Listed" || !isRevision(value.revision)) return undefined
      const isFound = value._tag === "Found"
      // Memory of its own: the value that a caller gets is a view on it, or on the copy that `ClientRpc.unpack` makes.
      const bytes = new Uint8Array(isFound ? 17 + value.value.length : 9)
      bytes[0] = isFound ? 1 : 2
      writeF64(bytes, 1, value.revision)
      if (isFound) {
        writeF64(bytes, 9, value.version)
        bytes.set(value.value, 17)
      }
      return bytes
    },
    (kind, bytes) => {
      const revision = revisionAt(bytes, 1)
      if (kind === 2) return { _tag: "Missing", revision }
      if (kind !== 1) return malformed(`there is no kind ${kind} of answer`)
      return { _tag: "Found", revision, version: revisionAt(bytes, 9), value: bytes.subarray(17) }
    }
  )

/** What nodes and clients of the store speak. */
export const codecs = (schemas: Kv): Codecs<Protocol.Command, Protocol.Result, Protocol.Query, Protocol.Answer> => ({
  command: command(schemas.command),
  result: result(schemas.result),
  query: query(schemas.query),
  answer: answer(schemas.answer)
})
