/** Settings refuse what cannot work, and name both values that clash. */
import { assert, describe, it } from "@effect/vitest"
import * as Settings from "../../src/domain/Settings.ts"

const problemsOf = (overrides: Partial<Settings.Settings>): ReadonlyArray<string> => {
  const made = Settings.make(overrides)
  return "problems" in made ? made.problems : []
}

describe("Settings", () => {
  it("the defaults work", () => {
    assert.deepEqual(Settings.make(), { settings: Settings.defaults })
  })

  const relations: ReadonlyArray<readonly [Partial<Settings.Settings>, ReadonlyArray<string>]> = [
    [{ heartbeatIntervalMs: 76 }, ["heartbeatIntervalMs (76)", "electionTimeoutMsMin (150)"]],
    [{ electionTimeoutMsMax: 299 }, ["electionTimeoutMsMax (299)", "electionTimeoutMsMin (150)"]],
    [{ inflightBytesMax: 1000 }, ["appendBytesMax (1048576)", "inflightBytesMax (1000)"]],
    [{ uncommittedBytesMax: 1000 }, ["appendBytesMax (1048576)", "uncommittedBytesMax (1000)"]],
    [{ snapshotChunkBytes: Settings.messageBytesMax / 2 + 1 }, ["snapshotChunkBytes (8388609)", "(16777216)"]],
    [{ leaseReads: true, leaderStickiness: false }, ["leaseReads", "leaderStickiness"]],
    [{ clockDriftPercentMax: 100 }, ["clockDriftPercentMax (100)", "below 100"]]
  ]
  for (const [overrides, named] of relations) {
    it(`${named.join(" against ")} is refused with both values named`, () => {
      const problems = problemsOf(overrides)
      assert.lengthOf(problems, 1)
      for (const value of named) assert.include(problems[0], value)
    })
  }

  it("each relation holds at its very limit", () => {
    assert.deepEqual(problemsOf({ heartbeatIntervalMs: 75, electionTimeoutMsMax: 300 }), [])
    assert.deepEqual(problemsOf({ appendBytesMax: 500, inflightBytesMax: 500, uncommittedBytesMax: 500 }), [])
    assert.deepEqual(problemsOf({ snapshotChunkBytes: Settings.messageBytesMax / 2 }), [])
  })

  it("a number that is no whole number above 0 is refused by name", () => {
    for (const value of [0, -1, 1.5, Number.NaN, Infinity]) {
      assert.include(
        problemsOf({ inflightMessagesMax: value })[0],
        `inflightMessagesMax must be a whole number above 0, but is ${value}`
      )
    }
  })

  it("a number that may be 0 is refused by name where it is less, or not whole", () => {
    for (const name of ["snapshotGrowthPercent", "logTailEntriesMax", "clockDriftPercentMax"] as const) {
      assert.deepEqual(problemsOf({ [name]: 0 }), [])
      for (const value of [-1, 0.5, Number.NaN]) {
        assert.deepEqual(problemsOf({ [name]: value }), [`${name} must be a whole number from 0, but is ${value}`])
      }
    }
    for (const name of ["snapshotEntries", "snapshotBytes", "snapshotBytesPerSecondMax"] as const) {
      assert.deepEqual(problemsOf({ [name]: 1 }), [])
      assert.deepEqual(problemsOf({ [name]: 0 }), [`${name} must be a whole number above 0, but is 0`])
    }
  })

  it("rule R3: leases are off by default, and may be switched on where servers promise loyalty", () => {
    assert.isFalse(Settings.defaults.leaseReads)
    assert.deepEqual(problemsOf({ leaseReads: true }), [])
    assert.deepEqual(problemsOf({ leaseReads: true, clockDriftPercentMax: 99 }), [])
    assert.deepEqual(problemsOf({ leaderStickiness: false }), [])
  })

  it("every problem is told, not only the first", () => {
    assert.lengthOf(problemsOf({ heartbeatIntervalMs: 200, electionTimeoutMsMax: 200, appendEntriesMax: 0 }), 3)
  })
})
