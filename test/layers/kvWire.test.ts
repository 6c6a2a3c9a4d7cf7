import { assert, describe, it } from "@effect/vitest"
import * as Protocol from "../../src/layers/kv/Protocol.ts"
import { codecs } from "../../src/layers/kv/Wire.ts"
import type { Codec } from "../../src/services/StateMachine.ts"

const { answer, command, query, result } = codecs({
  command: Protocol.Command,
  result: Protocol.Result,
  query: Protocol.Query,
  answer: Protocol.Answer
})

const value = Uint8Array.of(1, 2, 255)

const commands: ReadonlyArray<Protocol.Command> = [
  { _tag: "Put", key: "ключ/😀", value },
  { _tag: "Put", key: "", value: new Uint8Array() },
  { _tag: "Put", key: "k", value, ifRevision: 0 },
  { _tag: "Put", key: "k".repeat(70_000), value },
  { _tag: "Delete", key: "k" }
]

const results: ReadonlyArray<Protocol.Result> = [
  { _tag: "Written", revision: 2 ** 53 - 1 },
  { _tag: "Deleted", revision: 3, deleted: true },
  { _tag: "RevisionMismatch", revision: 0 },
  { _tag: "Invalid", message: "why" }
]

const queries: ReadonlyArray<Protocol.Query> = [
  { _tag: "Get", key: "ключ" },
  { _tag: "Get", key: "" },
  { _tag: "List", prefix: "a", limit: 3, after: "b" }
]

const answers: ReadonlyArray<Protocol.Answer> = [
  { _tag: "Found", value, revision: 7, version: 2 },
  { _tag: "Missing", revision: 0 },
  { _tag: "Listed", items: [{ key: "k", value, revision: 1, version: 1 }], revision: 1, more: false }
]

const travels = <T>(codec: Codec<T>, values: ReadonlyArray<T>): void => {
  for (const each of values) assert.deepStrictEqual(codec.decode(new Uint8Array(codec.encode(each))), each)
}

describe("the store's bytes", () => {
  it("say what was meant, in their own way or in Schema's", () => {
    travels(command, commands)
    travels(result, results)
    travels(query, queries)
    travels(answer, answers)
  })

  it("are few: a put is its key and value, and five bytes or so", () => {
    assert.strictEqual(command.encode({ _tag: "Put", key: "key", value }).length, 9)
    assert.strictEqual(result.encode({ _tag: "Written", revision: 7 }).length, 9)
  })

  it("are refused by a throw when they are cut, or of a kind that nobody knows; never by anything else", () => {
    const all: ReadonlyArray<readonly [Codec<never>, ReadonlyArray<unknown>]> = [
      [command, commands],
      [result, results],
      [query, queries],
      [answer, answers]
    ] as never
    for (const [codec, values] of all) {
      for (const each of values) {
        const bytes = codec.encode(each as never)
        for (let end = 0; end < Math.min(bytes.length, 200); end++) {
          try {
            codec.decode(bytes.subarray(0, end))
          } catch (error) {
            assert.instanceOf(error, Error)
          }
        }
      }
      assert.throws(() => codec.decode(new Uint8Array()))
      assert.throws(() => codec.decode(Uint8Array.of(9, 0, 0, 0, 0, 0, 0, 0, 0, 0)), /kind 9/)
    }
  })

  it("have no place for what is no value: Schema says what is wrong with it", () => {
    for (const odd of [{ _tag: "Put", key: "\ud800", value }, { _tag: "Put", key: "k", value: "text" }]) {
      try {
        const decoded = command.decode(command.encode(odd as Protocol.Command))
        // Half a character reaches the servers, which refuse the key.
        assert.isDefined(Protocol.keyProblem(decoded.key) ?? undefined)
      } catch (error) {
        assert.instanceOf(error, Error)
      }
    }
  })
})
