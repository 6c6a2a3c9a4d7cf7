/**
 * Every scenario beside this file prints what it says. `UPDATE_SCENARIOS=1` writes down what it prints now, to be
 * read as a diff.
 */
import { assert, describe, it } from "@effect/vitest"
import { readdirSync, readFileSync, writeFileSync } from "node:fs"
import { replay } from "./interpreter.ts"

const folder = new URL("./", import.meta.url)
const files = readdirSync(folder).filter((name) => name.endsWith(".txt")).toSorted()

describe("scenarios", () => {
  for (const name of files) {
    const file = new URL(name, folder)
    const text = readFileSync(file, "utf8")
    it(`${name}: ${text.split("\n")[0]?.replace(/^# /, "")}`, () => {
      const printed = replay(text)
      if (process.env["UPDATE_SCENARIOS"] === "1") writeFileSync(file, printed)
      else assert.strictEqual(printed, text)
    })
  }

  it("a scenario that does something else than it says is noticed", () => {
    const script = "# One server elects itself.\n> cluster n1\n> start\n> timeout n1\n"
    assert.include(replay(script), "n1  leader")
    assert.notStrictEqual(replay(script), replay(script.replace("timeout n1", "wait 10")))
    assert.throws(() => replay("> frobnicate"), "unknown command")
  })

  it("rule M1 is all that the two scenarios of it differ in: what it refuses ends with two committed entries at one index", () => {
    const read = (name: string) => readFileSync(new URL(`m1-${name}.txt`, folder), "utf8")
    const [barrier, removed] = [read("barrier"), read("barrier-removed")]
    const commandsOf = (text: string) =>
      text.split("\n").filter((line) => line.startsWith(">") && !line.startsWith("> break"))
    assert.deepEqual(commandsOf(barrier), commandsOf(removed))
    assert.include(barrier, "refuses #2: NotReady")
    assert.notInclude(barrier, "!!")
    // By index, what the servers have committed there in the end.
    const committed = (text: string) => {
      const found = new Map<string, Set<string>>()
      const last = text.slice(text.lastIndexOf("> committed")).replaceAll(/^.*has committed/gm, "")
      for (const [, id = "", index = ""] of last.matchAll(/ (\d+\.(\d+))(?= |$)/gm)) {
        found.set(index, (found.get(index) ?? new Set()).add(id))
      }
      return [...found.values()].map((ids) => [...ids].toSorted().join(" and "))
    }
    assert.deepEqual(committed(barrier).filter((ids) => ids.includes("and")), [])
    assert.deepEqual(committed(removed).filter((ids) => ids.includes("and")), ["1.2 and 2.2", "2.3 and 3.3"])
  })
})
