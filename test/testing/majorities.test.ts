/** The majorities that checks count, against those that the core counts: two ways to say the same. */
import { assert, describe, it } from "@effect/vitest"
import * as Configuration from "../../src/domain/Configuration.ts"
import * as Quorum from "../../src/domain/Quorum.ts"
import * as Majorities from "../../src/testing/Majorities.ts"
import { randomBelow } from "../domain/Given.ts"

const servers = ["n1", "n2", "n3", "n4", "n5", "n6"]

describe("majorities", () => {
  const below = randomBelow(11)
  const some = () => servers.filter(() => below(2) === 0)
  const drawn = () => {
    const voters = [...new Set([...some(), "n1"])]
    const learners = servers.filter((id) => !voters.includes(id))
    return Configuration.make({ voters, learners, outgoing: below(2) === 0 ? [] : [...new Set([...some(), "n2"])] })
  }

  it("decide where the core's do, in joint configurations too, and learners nowhere (5,000 cases)", () => {
    for (let i = 0; i < 5000; i++) {
      const configuration = drawn()
      const granted = new Set(some())
      const votes = new Map(servers.map((id) => [id, granted.has(id)]))
      const decides = Majorities.decide(configuration, (id) => granted.has(id))
      assert.strictEqual(decides, Quorum.tally(configuration, votes) === "won", Majorities.votersText(configuration))
      const values = new Map(servers.map((id) => [id, below(9)]))
      const valueOf = (id: string) => values.get(id) ?? 0
      assert.strictEqual(
        Majorities.reached(configuration, valueOf),
        Quorum.reachedByQuorum(configuration, valueOf)
      )
    }
  })

  it("of an old and a new configuration need both", () => {
    const joint = Configuration.make({ voters: ["n1", "n4", "n5"], outgoing: ["n1", "n2", "n3"] })
    const decides = (...ids: ReadonlyArray<string>) => Majorities.decide(joint, (id) => ids.includes(id))
    assert.deepEqual(
      [decides("n1", "n4"), decides("n1", "n2"), decides("n2", "n3", "n4"), decides("n1", "n2", "n4")],
      [false, false, false, true]
    )
  })
})
