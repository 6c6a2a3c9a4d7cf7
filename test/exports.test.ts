/**
 * What users import is there, in `dist` as in `src`, and nothing else can be reached.
 */
import { assert, describe, it } from "@effect/vitest"
import { existsSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"

const root = resolve(import.meta.dirname, "..")
const manifest: {
  readonly exports: Readonly<Record<string, string | Readonly<Record<string, string>>>>
  readonly bin: Readonly<Record<string, string>>
} = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))

const paths = Object.entries(manifest.exports).filter(([path]) => path !== "./package.json")

describe("package.json", () => {
  it("exports modules that exist, built and as source", () => {
    assert.isAbove(paths.length, 15)
    const files = paths.flatMap(([, target]) => typeof target === "string" ? [target] : Object.values(target))
    assert.deepStrictEqual([...files, manifest.bin["titan"] ?? ""].filter((file) => !existsSync(join(root, file))), [])
  })

  it("lets every public module be imported by its path, and no other", async () => {
    for (const [path] of paths) {
      const module: object = await import(/* @vite-ignore */ `titan-raft${path.slice(1)}`)
      assert.isNotEmpty(Object.keys(module), path)
    }
    const outcome = await import(/* @vite-ignore */ `titan-raft/${"Requests"}`).catch((error: unknown) => String(error))
    assert.match(String(outcome), /Requests/)
  })
})
