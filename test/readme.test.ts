/**
 * The README is run, not believed.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import * as LocalCluster from "./processes/LocalCluster.ts"

const root = resolve(import.meta.dirname, "..")
const readme = readFileSync(join(root, "README.md"), "utf8")

const blocks = (language: string): ReadonlyArray<string> =>
  [...readme.matchAll(new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, "gs"))].map((match) => match[1] ?? "")

const sh = (command: string): string => execFileSync("sh", ["-c", command], { encoding: "utf8", timeout: 10_000 })

/** `titan dev` in a process group of its own, so that Ctrl-C can be sent as a terminal sends it: to all of them. */
const dev = (port: number, dataDir: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const child = spawn(
        process.execPath,
        [join(root, "dist/main.js"), "dev", "--port", String(port), "--data-dir", dataDir],
        { stdio: ["ignore", "pipe", "pipe"], detached: true }
      )
      let output = ""
      const printed = new Promise<void>((resolvePrinted, reject) => {
        child.stdout.on("data", (chunk) => {
          output += String(chunk)
          if ((output.match(/curl -L/g) ?? []).length >= 3) resolvePrinted()
        })
        child.stderr.on("data", (chunk) => void (output += String(chunk)))
        child.once("exit", (code) => reject(new Error(`dev ended with ${code}: ${output}`)))
      })
      await printed
      return { child, output }
    }),
    ({ child }) =>
      Effect.sync(() => {
        if (child.exitCode === null && child.pid !== undefined) process.kill(-child.pid, "SIGKILL")
      })
  )

describe("the README", () => {
  it("shows the examples that run", () => {
    const files = ["examples/counter.ts", "examples/client.ts", "examples/counter.test.ts"]
    const examples = files.map((file) => readFileSync(join(root, file), "utf8").trim())
    assert.deepStrictEqual(blocks("ts").map((block) => block.trim()), examples)
  })

  it("names files that exist", () => {
    const links = [...readme.matchAll(/\]\((?!https?:)([^)#]+)\)/g)].map((match) => match[1] ?? "")
    assert.isAbove(links.length, 5)
    assert.deepStrictEqual(links.filter((link) => !existsSync(join(root, link))), [])
  })

  it("names scripts that package.json has, and its two commands", () => {
    const scripts: Record<string, string> = JSON.parse(readFileSync(join(root, "package.json"), "utf8")).scripts
    const named = [...readme.matchAll(/npm run (\w+)/g)].map((match) => match[1] ?? "")
    assert.deepStrictEqual(named.filter((name) => scripts[name] === undefined), [])
    assert.includeMembers(blocks("sh").map((block) => block.trim()), ["npm ci && npm run dev", "npm ci && npm test"])
  })

  it.live(
    "its curl lines put, get and delete on a cluster that `dev` starts and Ctrl-C stops",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const dataDir = mkdtempSync(join(tmpdir(), "titan-readme-"))
        yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(dataDir, { recursive: true, force: true })))
        const port = yield* LocalCluster.freePorts(3)
        const { child } = yield* dev(port, dataDir)
        const onPorts = (line: string) => line.replaceAll(/:710(\d)/g, (_, digit) => `:${port + Number(digit) - 1}`)
        const lines = blocks("sh").join("\n").split("\n").filter((line) => line.startsWith("curl ")).map(onPorts)
        assert.strictEqual(lines.length, 3)
        const endpoints = [0, 1].map((i) => `http://127.0.0.1:${port + i}`).join(",")
        const example = (file: string) =>
          sh(`TITAN_ENDPOINTS=${endpoints} ${process.execPath} ${join(root, "examples", file)}`)
        const client = example("client.ts")
        assert.match(client, /^100 true\nnot applied: account\/7 has revision \d+; read it, and decide again\n$/)
        assert.strictEqual(example("increment.ts") + example("increment.ts"), "10 visits\n20 visits\n")
        const [put, got, deleted] = lines.map((line) => sh(line.replace("curl ", "curl -sS ")))
        assert.match(put ?? "", /^\{"revision":\d+\}$/)
        assert.strictEqual(got, "hello")
        assert.match(deleted ?? "", /"deleted":true/)
        const exited = once(child, "exit")
        if (child.pid !== undefined) process.kill(-child.pid, "SIGINT")
        const [code] = yield* Effect.promise(() => exited)
        assert.strictEqual(code, 0)
        for (const digit of [0, 1, 2]) {
          const url = `http://127.0.0.1:${port + digit}`
          assert.strictEqual((yield* Effect.flip(LocalCluster.status(url)))._tag, "NotReady")
        }
      })),
    60_000
  )
})
