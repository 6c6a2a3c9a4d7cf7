/**
 * The key-value state machine's language: what clients may ask of it and what it answers, declared with Schema.
 *
 * ```ts
 * const store = Protocol.wire.on(yield* RaftNode)          // or on a RaftClient
 * const written = yield* store.propose({ _tag: "Put", key: "a", value: new Uint8Array() })
 * // { _tag: "Written", revision: 7 }
 * ```
 *
 * The revision of a mutation is the log index of its command, so revisions grow over the whole store. A command whose condition holds
 * is a mutation, even a delete that finds nothing.
 */
import * as Schema from "effect/Schema"
import * as StateMachine from "../../services/StateMachine.ts"
import { codecs } from "./Wire.ts"

/** Keys are 1 to this many bytes of UTF-8. */
export const keyBytesMax = 4096

/** No server takes a larger value, whatever its own limit: a replicated rule, so every server must have the same one. */
export const valueBytesMax = 8 << 20

/** The limit on values that a server has by default, in bytes. */
export const valueBytesMaxDefault = 1 << 20

/** Most items of one list, and how many there are when the query does not say. */
export const listLimitMax = 1000
export const listLimitDefault = 100

/** A list ends before its keys and values exceed this many bytes; its first item is always there. */
export const listBytesMax = 4 << 20

/** A revision, from 1. 0 stands for "nothing was ever written", and as a condition for "the key must not exist". */
export const Revision = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))

export const Command = Schema.TaggedUnion({
  Put: { key: Schema.String, value: Schema.Uint8Array, ifRevision: Schema.optionalKey(Revision) },
  Delete: { key: Schema.String, ifRevision: Schema.optionalKey(Revision) }
})
export type Command = typeof Command.Type

export const Result = Schema.TaggedUnion({
  Written: { revision: Revision },
  Deleted: { revision: Revision, deleted: Schema.Boolean },
  /** Nothing changed: the key's revision is `revision` (0: there is no such key), not the one asked for. */
  RevisionMismatch: { revision: Revision },
  /** Nothing changed: the command breaks a limit. */
  Invalid: { message: Schema.String }
})
export type Result = typeof Result.Type

export const Query = Schema.TaggedUnion({
  Get: { key: Schema.String },
  /** The keys that start with `prefix`, in order, from the first one past `after`; at most `limit` of them. */
  List: { prefix: Schema.String, limit: Schema.Int, after: Schema.optionalKey(Schema.String) }
})
export type Query = typeof Query.Type

/** `revision`: of the key's last write. `version`: its number of writes since it was created, from 1. */
export const Item = Schema.Struct({
  key: Schema.String,
  value: Schema.Uint8Array,
  revision: Revision,
  version: Schema.Int
})
export type Item = typeof Item.Type

export const Answer = Schema.TaggedUnion({
  Found: { value: Schema.Uint8Array, revision: Revision, version: Schema.Int },
  /** `revision`: of the store's last mutation. */
  Missing: { revision: Revision },
  /** `revision`: of the store's last mutation. `more`: whether keys follow the last item. */
  Listed: { items: Schema.Array(Item), revision: Revision, more: Schema.Boolean }
})
export type Answer = typeof Answer.Type

export const wire: StateMachine.Protocol<Command, Result, Query, Answer> = StateMachine.protocolOf(
  codecs({ command: Command, result: Result, query: Query, answer: Answer })
)

const utf8Bytes = (text: string): number => {
  if (text.length > keyBytesMax) return text.length
  return new TextEncoder().encode(text).length
}

/** Why `key` cannot name a value, or `undefined` when it can. Example: `keyProblem("")` is "a key must not be empty". */
export const keyProblem = (key: string): string | undefined => {
  if (key.length === 0) return "a key must not be empty"
  if (!key.isWellFormed()) return "a key must be valid Unicode"
  // UTF-8 has between one and three bytes for each UTF-16 code unit: only keys in between need counting.
  if (key.length * 3 <= keyBytesMax || utf8Bytes(key) <= keyBytesMax) return undefined
  return `a key has at most ${keyBytesMax} bytes of UTF-8`
}

/** Why `value` is refused under `limitBytes`, or `undefined` when it is not. */
export const valueProblem = (value: Uint8Array, limitBytes: number = valueBytesMax): string | undefined =>
  value.length <= limitBytes ? undefined : `a value has at most ${limitBytes} bytes, and this one has ${value.length}`
