/** Puts over the HTTP API of the leader of three processes, keep-alive, 64 connections, by `wrk` (Debian package `wrk`). */
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { execFile, spawnSync } from "node:child_process"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import * as LocalCluster from "../test/processes/LocalCluster.ts"
import * as Directory from "./directory.ts"
import * as Table from "./table.ts"

class Missing extends Data.TaggedError("Missing")<{ readonly message: string }> {}

const connections = 64

/** Puts values of 256 bytes on 10,000 keys. */
const script = `
local n = 0
request = function()
  n = n + 1
  return wrk.format("PUT", "/v1/kv/key-" .. (n * 7919 % 10000), {}, string.rep(string.char(97 + n % 26), 256))
end
`

const numberIn = (text: string, pattern: RegExp): number => Number(pattern.exec(text)?.[1] ?? Number.NaN)

export const bench = Effect.fnUntraced(function*({ nodeOptions, seconds }: {
  readonly seconds: number
  readonly nodeOptions: ReadonlyArray<string>
}) {
  if (spawnSync("wrk", ["-v"]).error !== undefined) {
    return yield* new Missing({ message: "this bench needs the Debian package wrk: apt-get install wrk" })
  }
  const root = yield* Directory.make
  const file = join(root, "put.lua")
  writeFileSync(file, script)
  const cluster = yield* LocalCluster.make({ size: 3, root, nodeOptions })
  const { url } = yield* cluster.leader
  const load = (duration: number) =>
    Effect.promise(async () => {
      const args = ["-t1", `-c${connections}`, `-d${duration}s`, "--latency", "-s", file, url]
      return (await promisify(execFile)("wrk", args)).stdout
    })
  yield* load(10)
  const said = yield* load(seconds)
  const perSecond = numberIn(said, /Requests\/sec:\s+([\d.]+)/)
  const refused = /Non-2xx or 3xx responses: (\d+)/.exec(said)?.[1] ?? "0"
  yield* Console.log(`${connections} connections: ${Table.cell(perSecond, 0)} puts/s over HTTP, ${refused} refused`)
  yield* Console.log(said.split("\n").filter((line) => /^\s+(50|99)%/.test(line)).join("\n"))
  return { connections, perSecond, refused: Number(refused) }
})
