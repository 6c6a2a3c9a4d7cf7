/** The arithmetic of majorities, against its definition. */
import { assert, describe, it } from "@effect/vitest"
import * as Configuration from "../../src/domain/Configuration.ts"
import * as Quorum from "../../src/domain/Quorum.ts"
import { randomBelow } from "./Given.ts"

const votersOf = (count: number) => Array.from({ length: count }, (_, i) => `n${i}`)

describe("Quorum", () => {
  it("any two majorities of the same voters share one, and no smaller number does", () => {
    for (let size = 1; size < 100; size++) {
      assert.isAbove(2 * Quorum.majority(size), size)
      assert.isAtMost(2 * (Quorum.majority(size) - 1), size)
    }
  })

  it("reachedByQuorum is the greatest value that a majority has reached (2,000 cases against the definition)", () => {
    const below = randomBelow(7)
    for (let i = 0; i < 2000; i++) {
      const voters = votersOf(1 + below(7))
      const values = new Map(voters.map((voter) => [voter, below(5) - 1]))
      const valueOf = (id: string) => values.get(id) ?? 0
      const enough = (value: number) => voters.filter((id) => valueOf(id) >= value).length * 2 > voters.length
      const expected = [...values.values()].filter(enough).reduce((a, b) => Math.max(a, b))
      const configuration = Configuration.make({ voters, learners: ["l1", "l2"] })
      values.set("l1", 99).set("l2", 99)
      assert.strictEqual(Quorum.reachedByQuorum(configuration, valueOf), expected)
    }
  })

  it("an election is won by a majority, lost when none is left, else pending (every outcome, 1 to 6 voters)", () => {
    for (let size = 1; size <= 6; size++) {
      const voters = votersOf(size)
      for (let code = 0; code < 3 ** size; code++) {
        const said = voters.map((_, i) => Math.floor(code / 3 ** i) % 3)
        const votes = new Map(voters.flatMap((voter, i) => said[i] === 2 ? [] : [[voter, said[i] === 1] as const]))
        const yes = said.filter((vote) => vote === 1).length
        const open = said.filter((vote) => vote === 2).length
        const expected = 2 * yes > size ? "won" : 2 * (yes + open) > size ? "pending" : "lost"
        assert.strictEqual(Quorum.tally(Configuration.ofVoters(voters), votes), expected)
        for (const other of ["l1", "x1"]) votes.set(other, true)
        assert.strictEqual(Quorum.tally(Configuration.make({ voters, learners: ["l1"] }), votes), expected)
      }
    }
  })
})

describe("Configuration", () => {
  it("needs a voter, and names nobody twice", () => {
    assert.isUndefined(Configuration.problem(Configuration.make({ voters: ["a", "b"], learners: ["c"] })))
    assert.include(Configuration.problem(Configuration.make({ voters: [], learners: ["c"] })), "at least one voter")
    assert.include(Configuration.problem(Configuration.make({ voters: ["a", "b", "a"], learners: [] })), "twice")
    assert.include(Configuration.problem(Configuration.make({ voters: ["a"], learners: ["a"] })), "a, a")
  })

  it("that is joint knows where its members are, those that only still vote too, and nobody else", () => {
    const addresses = new Map(["a", "b", "c"].map((id) => [id, `http://${id}`]))
    const before = Configuration.make({ voters: ["a"], learners: ["b", "c"], addresses })
    const next = Configuration.after(before, [
      { _tag: "Promote", id: "b" },
      { _tag: "Remove", id: "a" },
      { _tag: "Remove", id: "c" }
    ])
    if (typeof next === "string") return assert.fail(next)
    const joint = Configuration.joint(before, next)
    assert.isUndefined(Configuration.problem(joint))
    assert.deepEqual([...joint.addresses.keys()], ["a", "b"])
    assert.deepEqual([...Configuration.left(joint).addresses.keys()], ["b"])
  })
})
