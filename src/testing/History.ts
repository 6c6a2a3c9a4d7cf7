/**
 * What the clients of a key-value store asked and were told, as records and as JSON lines: one request a line, written by whoever ran
 * the workload and read by `KeyValueModel.check` or by another program.
 *
 * ```ts
 * const text = History.toJsonLines([{
 *   client: 1, op: "put", key: "a", value: "x", expected: null,
 *   ok: true, output: { _tag: "Written", revision: 7 }, call: 1_000, return: 2_000
 * }])
 * const history = Result.getOrThrow(History.parseJsonLines(text))
 * ```
 *
 * A client is one that waits for each answer before it asks again; one that gave up on a request goes on under another number.
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { Revision } from "../layers/kv/Protocol.ts"

/** The answers of the store (`kv/Protocol.ts`), values as text. A refusal (`Invalid`) changes nothing: it is `ok: false`. */
export const Output = Schema.TaggedUnion({
  Written: { revision: Revision },
  Deleted: { revision: Revision, deleted: Schema.Boolean },
  RevisionMismatch: { revision: Revision },
  Found: { value: Schema.String, revision: Revision, version: Schema.Int },
  Missing: { revision: Revision }
})
export type Output = typeof Output.Type

const answersOf = {
  put: ["Written", "RevisionMismatch"],
  delete: ["Deleted", "RevisionMismatch"],
  get: ["Found", "Missing"]
} as const

interface Fields {
  readonly op: keyof typeof answersOf
  readonly value: string | null
  readonly expected: number | null
  readonly ok: boolean | null
  readonly output: Output | null
  readonly call: number
  readonly return: number | null
}

/** What contradicts itself in a record whose fields are well-formed, each alone. */
const problemOf = (record: Fields): string | undefined => {
  const { expected, ok, op, output, value } = record
  const answers: ReadonlyArray<string> = answersOf[op]
  if (op === "put" && value === null) return "a put has a value"
  if (op !== "put" && value !== null) return `a ${op} has no value`
  if (op === "get" && expected !== null) return "a get has no condition"
  if (ok !== true && output !== null) return "only a request that is ok has an output"
  if (ok === true && (output === null || record.return === null)) {
    return "a request that is ok has an output and a return"
  }
  if (output !== null && !answers.includes(output._tag)) return `a ${op} is answered ${answers.join(" or ")}`
  if (output?._tag === "RevisionMismatch" && expected === null) {
    return "without a condition there is no RevisionMismatch"
  }
  if (record.return !== null && record.return < record.call) return "a request returns after its call"
  return undefined
}

/** One request. Times are whole nanoseconds on one clock. */
export const Recorded = Schema.Struct({
  client: Schema.Int,
  op: Schema.Literals(["put", "delete", "get"]),
  key: Schema.String,
  /** The text that a put writes. */
  value: Schema.NullOr(Schema.String),
  /** The `ifRevision` of a conditional put or delete. */
  expected: Schema.NullOr(Revision),
  /** true: answered; false: surely not applied; null: nobody knows. */
  ok: Schema.NullOr(Schema.Boolean),
  output: Schema.NullOr(Output),
  call: Schema.Int,
  return: Schema.NullOr(Schema.Int)
}).check(Schema.makeFilter(problemOf))
export type Recorded = typeof Recorded.Type

/** A line is no record. `line` counts from 1. */
export class BadLine extends Schema.TaggedError<BadLine>()("BadLine", {
  line: Schema.Int,
  message: Schema.String
}) {}

const decode = Schema.decodeUnknownResult(Schema.fromJsonString(Recorded))

/** One line for each record, each with its end, and the fields always in the same order. */
export const toJsonLines = (history: Iterable<Recorded>): string => {
  let text = ""
  for (const { call, client, expected, key, ok, op, output, return: end, value } of history) {
    text += JSON.stringify({ client, op, key, value, expected, ok, output, call, return: end }) + "\n"
  }
  return text
}

/** The records of a text, or its first line that is none. Empty lines are passed over; a field too many is an error. */
export const parseJsonLines = (text: string): Result.Result<ReadonlyArray<Recorded>, BadLine> => {
  const history: Array<Recorded> = []
  for (const [i, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue
    const decoded = decode(line, { onExcessProperty: "error" })
    if (Result.isFailure(decoded)) {
      return Result.fail(new BadLine({ line: i + 1, message: `line ${i + 1}: ${decoded.failure.message}` }))
    }
    history.push(decoded.success)
  }
  return Result.succeed(history)
}

/** The records that say anything, by key: without what was surely not applied, and without reads that were not answered. */
export const byKey = (history: Iterable<Recorded>): ReadonlyMap<string, ReadonlyArray<Recorded>> => {
  const keys = new Map<string, Array<Recorded>>()
  for (const record of history) {
    if (record.ok === false || (record.ok === null && record.op === "get")) continue
    const records = keys.get(record.key)
    if (records === undefined) keys.set(record.key, [record])
    else records.push(record)
  }
  return keys
}
