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
})
