import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Protocol from "../../src/layers/kv/Protocol.ts"
import * as Store from "../../src/layers/kv/Store.ts"
import * as StateMachine from "../../src/services/StateMachine.ts"

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const text = (value: Uint8Array): string => new TextDecoder().decode(value)

/** A store whose commands get the indices 1, 2, 3, … */
const numbered = () => {
  const store = Store.make()
  let index = 0
  return {
    apply: (command: Protocol.Command) => store.apply(command, { index: ++index, term: 1 }),
    put: (key: string, value: string, ifRevision?: number) =>
      store.apply(
        { _tag: "Put", key, value: bytes(value), ...(ifRevision === undefined ? {} : { ifRevision }) },
        { index: ++index, term: 1 }
      ),
    remove: (key: string, ifRevision?: number) =>
      store.apply(
        { _tag: "Delete", key, ...(ifRevision === undefined ? {} : { ifRevision }) },
        { index: ++index, term: 1 }
      ),
    get: (key: string) => store.respond({ _tag: "Get", key }),
    list: (prefix: string, limit = 100, after?: string) => {
      const listed = store.respond({ _tag: "List", prefix, limit, ...(after === undefined ? {} : { after }) })
      assert.strictEqual(listed._tag, "Listed")
      return listed as Extract<Protocol.Answer, { readonly _tag: "Listed" }>
    }
  }
}

describe("one key", () => {
  it("a write answers the index of its command as the revision, and the value reads back with revision and version 1", () => {
    const store = numbered()
    store.put("other", "x")
    assert.deepStrictEqual(store.put("k", "v"), { _tag: "Written", revision: 2 })
    assert.deepStrictEqual(store.get("k"), { _tag: "Found", value: bytes("v"), revision: 2, version: 1 })
  })

  it("the version counts the writes of a key since it was created, and starts again after a delete", () => {
    const store = numbered()
    store.put("k", "a")
    store.put("k", "b")
    const second = store.get("k")
    assert.deepStrictEqual(second, { _tag: "Found", value: bytes("b"), revision: 2, version: 2 })
    store.remove("k")
    store.put("k", "c")
    assert.deepStrictEqual(store.get("k"), { _tag: "Found", value: bytes("c"), revision: 4, version: 1 })
  })

  it("a delete says whether there was something to delete, and always has a revision", () => {
    const store = numbered()
    store.put("k", "a")
    assert.deepStrictEqual(store.remove("k"), { _tag: "Deleted", revision: 2, deleted: true })
    assert.deepStrictEqual(store.remove("k"), { _tag: "Deleted", revision: 3, deleted: false })
    assert.deepStrictEqual(store.get("k"), { _tag: "Missing", revision: 3 })
  })

  it("an empty value is a value", () => {
    const store = numbered()
    store.put("k", "")
    assert.deepStrictEqual(store.get("k"), { _tag: "Found", value: bytes(""), revision: 1, version: 1 })
  })

  it("a stored value does not change with, nor keep alive, the bytes it came in", () => {
    const store = Store.make()
    const block = new Uint8Array(1 << 16).fill(7)
    store.apply({ _tag: "Put", key: "k", value: block.subarray(10, 12) }, { index: 1, term: 1 })
    block.fill(0)
    const found = store.respond({ _tag: "Get", key: "k" })
    assert.strictEqual(found._tag, "Found")
    if (found._tag !== "Found") return
    assert.deepStrictEqual(found.value, Uint8Array.of(7, 7))
    assert.strictEqual(found.value.buffer.byteLength, 2)
  })
})

describe("conditions", () => {
  it("ifRevision 0 writes only a key that does not exist", () => {
    const store = numbered()
    assert.deepStrictEqual(store.put("k", "a", 0), { _tag: "Written", revision: 1 })
    assert.deepStrictEqual(store.put("k", "b", 0), { _tag: "RevisionMismatch", revision: 1 })
    assert.deepStrictEqual(store.get("k"), { _tag: "Found", value: bytes("a"), revision: 1, version: 1 })
  })

  it("a write with another revision than the key's changes nothing and answers the key's revision, or 0 without a key", () => {
    const store = numbered()
    store.put("k", "a")
    assert.deepStrictEqual(store.put("k", "b", 7), { _tag: "RevisionMismatch", revision: 1 })
    assert.deepStrictEqual(store.put("none", "b", 7), { _tag: "RevisionMismatch", revision: 0 })
    assert.deepStrictEqual(store.list("").items.map((item) => item.key), ["k"])
    assert.strictEqual(store.list("").revision, 1)
  })

  it("a delete with the key's revision deletes, with another one it changes nothing", () => {
    const store = numbered()
    store.put("k", "a")
    assert.deepStrictEqual(store.remove("k", 2), { _tag: "RevisionMismatch", revision: 1 })
    assert.deepStrictEqual(store.remove("k", 1), { _tag: "Deleted", revision: 3, deleted: true })
    assert.deepStrictEqual(store.remove("k", 0), { _tag: "Deleted", revision: 4, deleted: false })
  })
})

describe("lists", () => {
  it("a list has the keys with the prefix in order, and the revision of the store's last mutation", () => {
    const store = numbered()
    for (const key of ["b/2", "a", "b/1", "b", "c", "b/10"]) store.put(key, key)
    store.remove("gone")
    const listed = store.list("b/")
    assert.deepStrictEqual(listed.items.map((item) => [item.key, text(item.value), item.revision]), [
      ["b/1", "b/1", 3],
      ["b/10", "b/10", 6],
      ["b/2", "b/2", 1]
    ])
    assert.strictEqual(listed.revision, 7)
    assert.isFalse(listed.more)
  })

  it("pages of `limit` joined by `after` hold every key once", () => {
    const store = numbered()
    const keys = Array.from({ length: 25 }, (_, i) => `k${String(i).padStart(2, "0")}`)
    for (const key of keys) store.put(key, "")
    const seen: Array<string> = []
    let page = store.list("k", 10)
    for (;;) {
      seen.push(...page.items.map((item) => item.key))
      if (!page.more) break
      page = store.list("k", 10, seen.at(-1))
    }
    assert.deepStrictEqual(seen, keys)
  })

  it("`more` is false when the last page is exactly full", () => {
    const store = numbered()
    store.put("a", "")
    store.put("b", "")
    assert.isFalse(store.list("", 2).more)
    assert.isTrue(store.list("", 1).more)
  })

  it("`after` before the prefix starts at the prefix, and past it ends the list", () => {
    const store = numbered()
    store.put("b", "")
    store.put("m1", "")
    store.put("m2", "")
    assert.deepStrictEqual(store.list("m", 10, "a").items.map((item) => item.key), ["m1", "m2"])
    assert.deepStrictEqual(store.list("m", 10, "z").items, [])
  })

  it("a list ends before 4 MiB of keys and values and says that more follow; a larger first value is there alone", () => {
    const store = numbered()
    const megabyte = "x".repeat(1 << 20)
    for (const key of ["a", "b", "c", "d", "e"]) store.put(key, megabyte)
    const listed = store.list("")
    assert.deepStrictEqual(listed.items.map((item) => item.key), ["a", "b", "c"])
    assert.isTrue(listed.more)
    store.put("big", "x".repeat(5 << 20))
    const alone = store.list("big")
    assert.strictEqual(alone.items.length, 1)
    assert.isFalse(alone.more)
  })

  it("a list has at most 1000 items, whatever the query asks for", () => {
    const store = numbered()
    for (let i = 0; i < 1100; i++) store.put(`k${i}`, "")
    assert.strictEqual(store.list("k", 5000).items.length, 1000)
    assert.strictEqual(store.list("k", -1).items.length, 1)
  })
})

describe("limits", () => {
  it("a key has 1 to 4096 bytes of UTF-8", () => {
    assert.isDefined(Protocol.keyProblem(""))
    assert.isUndefined(Protocol.keyProblem("a".repeat(4096)))
    assert.isDefined(Protocol.keyProblem("a".repeat(4097)))
    assert.isUndefined(Protocol.keyProblem("é".repeat(2048)))
    assert.isDefined(Protocol.keyProblem("é".repeat(2049)))
    assert.isDefined(Protocol.keyProblem("a\uD800"))
    assert.isUndefined(Protocol.keyProblem("😀"))
  })

  it("a command that breaks a limit changes nothing", () => {
    const store = numbered()
    assert.strictEqual(store.put("", "v")._tag, "Invalid")
    assert.strictEqual(store.put("x".repeat(4097), "v")._tag, "Invalid")
    assert.strictEqual(store.remove("")._tag, "Invalid")
    const huge: Protocol.Command = { _tag: "Put", key: "k", value: new Uint8Array(Protocol.valueBytesMax + 1) }
    assert.strictEqual(store.apply(huge)._tag, "Invalid")
    assert.deepStrictEqual(store.list("").items, [])
    assert.strictEqual(store.list("").revision, 0)
  })
})

describe("over the wire", () => {
  const machine = () => {
    const served = Protocol.wire.serve(Store.make())
    let index = 0
    return {
      served,
      target: {
        propose: (command: Uint8Array) =>
          Effect.map(served.apply([{ index: ++index, term: 1, command }]), ([result]) => result ?? new Uint8Array()),
        read: served.query
      }
    }
  }

  it.effect("commands and queries mean the same as bytes", () =>
    Effect.gen(function*() {
      const store = Protocol.wire.on(machine().target)
      const key = "ключ/😀"
      assert.deepStrictEqual(yield* store.propose({ _tag: "Put", key, value: bytes("v") }), {
        _tag: "Written",
        revision: 1
      })
      assert.deepStrictEqual(yield* store.read({ _tag: "Get", key }), {
        _tag: "Found",
        value: bytes("v"),
        revision: 1,
        version: 1
      })
      assert.deepStrictEqual(yield* store.read({ _tag: "List", prefix: "", limit: 5 }), {
        _tag: "Listed",
        items: [{ key, value: bytes("v"), revision: 1, version: 1 }],
        revision: 1,
        more: false
      })
    }))

  it.effect("bytes that are no command change nothing, and answer the same on every server", () =>
    Effect.gen(function*() {
      const hostile = [new Uint8Array(), Uint8Array.of(1, 2, 3), new Uint8Array(300).fill(0xff)]
      const commands = hostile.map((command, i) => ({ index: i + 1, term: 1, command }))
      const one = machine()
      const results = yield* one.served.apply(commands)
      assert.deepStrictEqual(results, yield* machine().served.apply(commands))
      const listed = yield* Protocol.wire.on(one.target).read({ _tag: "List", prefix: "", limit: 5 })
      assert.deepStrictEqual(listed, { _tag: "Listed", items: [], revision: 0, more: false })
    }))

  it.effect("two stores that applied the same commands answer alike", () =>
    Effect.gen(function*() {
      const a = yield* StateMachine.StateMachine.pipe(Effect.provide(Store.layer, { local: true }))
      const b = yield* StateMachine.StateMachine.pipe(Effect.provide(Store.layer, { local: true }))
      const bytesOf: Array<Uint8Array> = []
      const recorder = Protocol.wire.on({
        propose: (command) => Effect.andThen(Effect.sync(() => bytesOf.push(command)), Effect.fail("recorded")),
        read: () => Effect.fail("recorded")
      })
      for (let i = 0; i < 200; i++) {
        const key = `k${i * 7 % 13}`
        yield* Effect.ignore(
          i % 3 === 0
            ? recorder.propose({ _tag: "Delete", key })
            : recorder.propose({ _tag: "Put", key, value: bytes(`v${i}`), ...(i % 5 === 0 ? { ifRevision: i } : {}) })
        )
      }
      const commands = bytesOf.map((command, i) => ({ index: i + 1, term: 1, command }))
      const together = yield* a.apply(commands)
      const apart = []
      for (const command of commands) apart.push(...(yield* b.apply([command])))
      assert.deepStrictEqual(together, apart)
      const list = (machine: StateMachine.StateMachine["Service"]) =>
        Protocol.wire.on({ propose: () => Effect.fail("unused"), read: machine.query })
          .read({ _tag: "List", prefix: "", limit: 100 })
      assert.deepStrictEqual(yield* list(a), yield* list(b))
    }))
})
