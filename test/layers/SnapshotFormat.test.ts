import { assert, describe, it } from "@effect/vitest"
import { crc32 } from "node:zlib"
import { type Configuration, make, unknown } from "../../src/domain/Configuration.ts"
import * as SnapshotFormat from "../../src/layers/SnapshotFormat.ts"
import { idOf, sent } from "../contracts/sentSnapshots.ts"
import { entriesOf } from "../contracts/storage.ts"
import { Draw, widest } from "./draw.ts"

const configuration = make({
  voters: ["n1", "n2"],
  learners: ["__proto__", "n4"],
  joining: ["n4"],
  outgoing: ["n5"],
  addresses: new Map([["__proto__", "http://ñ4"], ["n5", ""]])
})
const { bytes, snapshot } = sent(idOf(3, 77), "the state of the machine", configuration)

const check = (given: Buffer, pieceBytes = given.length, sizeBytes = given.length): SnapshotFormat.Checked => {
  const checker = SnapshotFormat.checker(sizeBytes)
  for (let at = 0; at < given.length; at += pieceBytes) checker.add(given.subarray(at, at + pieceBytes))
  return checker.end()
}

const flipped = (at: number): Buffer => {
  const copy = Buffer.from(bytes)
  copy.writeUInt8(copy.readUInt8(at) ^ 1, at)
  return copy
}

/** The head with other JSON or another version, and what follows as it was, with checksums that fit. */
const withHead = (change: (json: Record<string, unknown>) => unknown, version = 1): Buffer => {
  const end = 20 + bytes.readUInt32BE(16)
  const json = Buffer.from(JSON.stringify(change(JSON.parse(bytes.toString("utf8", 20, end)))))
  const head = Buffer.concat([bytes.subarray(0, 20), json])
  head.writeUInt32BE(version, 8)
  head.writeUInt32BE(json.length, 16)
  head.writeUInt32BE(crc32(head.subarray(16), crc32(head.subarray(0, 12))), 12)
  const whole = Buffer.concat([head, bytes.subarray(end)])
  whole.writeUInt32BE(crc32(whole.subarray(0, -4)), whole.length - 4)
  return whole
}

describe("the bytes of a snapshot", () => {
  it("say what it stands for and where its content is, whatever the pieces they come in", () => {
    for (let pieceBytes = 1; pieceBytes <= bytes.length; pieceBytes++) {
      const checked = check(bytes, pieceBytes)
      if (checked._tag !== "Whole") return assert.fail(`pieces of ${pieceBytes}: ${JSON.stringify(checked)}`)
      assert.deepStrictEqual(checked.snapshot, snapshot)
      assert.deepStrictEqual(checked.head, { clusterId: "c1", takenBy: "n2", last: idOf(3, 77), configuration })
      const content = bytes.toString("utf8", checked.contentAt, checked.contentAt + checked.contentBytes)
      assert.strictEqual(content, "the state of the machine")
    }
  })

  it("are not accepted with any byte changed, missing or added", () => {
    for (let at = 0; at < bytes.length; at++) {
      assert.strictEqual(check(flipped(at))._tag, "Damaged", `byte ${at} flipped`)
      assert.strictEqual(check(flipped(at), 3)._tag, "Damaged", `byte ${at} flipped, in pieces`)
      assert.strictEqual(check(bytes.subarray(0, at))._tag, "Damaged", `${at} bytes`)
      assert.strictEqual(check(bytes.subarray(0, at), 5, bytes.length)._tag, "Damaged", `${at} bytes of all`)
    }
    assert.strictEqual(check(Buffer.concat([bytes, Buffer.alloc(1)]))._tag, "Damaged")
    assert.strictEqual(check(Buffer.concat([bytes, bytes]), 11, bytes.length)._tag, "Damaged")
    assert.strictEqual(check(Buffer.alloc(4096))._tag, "Damaged")
  })

  it("of a later version are told from damage, even where the rest is not understood", () => {
    assert.deepStrictEqual(check(withHead(() => ["unknown"], 2)), { _tag: "Unsupported", version: 2 })
    const changed = withHead(() => ["unknown"], 2)
    changed.writeUInt8(7, 25)
    assert.strictEqual(check(changed)._tag, "Damaged")
  })

  it("may say more than this program knows, but not less", () => {
    const checked = check(withHead((json) => ({ ...json, sessions: { count: 3 } })))
    assert.strictEqual(checked._tag === "Whole" ? checked.snapshot.last.index : undefined, 77)
    for (const key of ["clusterId", "takenBy", "last", "configuration"]) {
      const without = check(
        withHead((json) => Object.fromEntries(Object.entries(json).filter(([name]) => name !== key)))
      )
      assert.strictEqual(without._tag, "Damaged", key)
    }
    assert.strictEqual(check(withHead((json) => ({ ...json, last: { term: 1, index: -1 } })))._tag, "Damaged")
  })

  it("hold any configuration of a cluster", () => {
    const all = [widest, ...Array.from({ length: 500 }, (_, seed) => new Draw(seed).configuration())]
    for (const [seed, drawn] of all.entries()) {
      const checked = check(sent(idOf(3, 77), "state", drawn).bytes)
      assert.deepStrictEqual(checked._tag === "Whole" && checked.head.configuration, drawn, `number ${seed}`)
    }
  })

  it("may hold a configuration without the fields that came later", () => {
    const checked = check(withHead((json) => ({ ...json, configuration: { voters: ["n1"], learners: ["n2"] } })))
    const expected = make({ voters: ["n1"], learners: ["n2"] })
    assert.deepStrictEqual(checked._tag === "Whole" && checked.snapshot.configuration, expected)
  })

  const nonsense: ReadonlyArray<readonly [configuration: object, problem: string]> = [
    [{ voters: [], learners: [] }, "its configuration is none: a cluster needs at least one voter"],
    [{ voters: ["n1", "n1"], learners: [] }, "its configuration is none: a server is named twice: n1, n1"],
    [{ voters: ["n1"], learners: [], addresses: [["n1", "a"], ["n1", "b"]] }, "it has two addresses of one server"],
    [{ voters: ["n1"], learners: [], addresses: { n1: "a" } }, "its head is intact but makes no sense"],
    [{ voters: ["n1"] }, "its head is intact but makes no sense"]
  ]
  for (const [given, problem] of nonsense) {
    it(`are not accepted with the configuration ${JSON.stringify(given)}`, () => {
      const checked = check(withHead((json) => ({ ...json, configuration: given })))
      assert.include(checked._tag === "Damaged" ? checked.problem : checked._tag, problem)
    })
  }

  it("are not accepted of a server that belongs to no cluster", () => {
    const checked = check(sent(idOf(3, 77), "state", unknown).bytes)
    assert.include(checked._tag === "Damaged" ? checked.problem : "", "a cluster needs at least one voter")
  })

  it("whose content is not as long as the trailer says are not accepted", () => {
    const longer = Buffer.from(bytes)
    longer.writeUIntBE(5, bytes.length - 10, 6)
    longer.writeUInt32BE(crc32(longer.subarray(0, -4)), bytes.length - 4)
    assert.strictEqual(check(longer)._tag, "Damaged")
  })
})

describe("a snapshot that was announced", () => {
  const mismatch = (announced: Configuration) =>
    SnapshotFormat.mismatch(check(bytes), { ...snapshot, configuration: announced }, "c1")

  it("has the configuration that was announced, in whatever order its addresses came", () => {
    const addresses = new Map([...configuration.addresses].toReversed())
    assert.isUndefined(mismatch({ ...configuration, addresses }))
  })

  const others: Record<keyof Configuration, Configuration> = {
    voters: { ...configuration, voters: ["n1"] },
    learners: { ...configuration, learners: ["n4", "__proto__"] },
    joining: { ...configuration, joining: [] },
    outgoing: { ...configuration, outgoing: [] },
    addresses: { ...configuration, addresses: new Map([["__proto__", "http://ñ4"], ["n5", "http://n5"]]) }
  }
  for (const [field, other] of Object.entries(others)) {
    it(`is refused where its ${field} are others`, () => {
      assert.strictEqual(mismatch(other), "its configuration is not the one announced")
    })
  }

  it("is refused where it is of another cluster or ends elsewhere", () => {
    const of = (clusterId: string, last = snapshot.last) =>
      SnapshotFormat.mismatch(check(bytes), { ...snapshot, last }, clusterId)
    assert.strictEqual(of("c2"), "it is of the cluster c1; this server is of c2")
    assert.strictEqual(of("c1", idOf(3, 78)), "it ends at index 77 of term 3, not at index 78 of term 3 as announced")
  })
})

describe("a log and the snapshot beside it", () => {
  it("agree where the log holds the snapshot's last entry, or begins right behind it", () => {
    const entries = entriesOf(4, 11, 13)
    const isHeld = (term: number, index: number) => SnapshotFormat.isHeld(idOf(term, index), idOf(3, 10), entries)
    const held = [[3, 10], [4, 11], [4, 13]] as const
    const apart = [[4, 10], [3, 11], [5, 12], [4, 14], [4, 9], [3, 9]] as const
    assert.deepStrictEqual(held.map(([term, index]) => isHeld(term, index)), [true, true, true])
    assert.isTrue(apart.every(([term, index]) => !isHeld(term, index)))
  })
})
