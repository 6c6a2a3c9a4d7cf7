/**
 * What 1,000,000 puts on 1,000 keys leave behind: with the default settings the node takes snapshots by itself, so neither its log nor its
 * data directory grows with the number of puts.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as Alone from "./alone.ts"
import * as Directory from "./directory.ts"

const puts = 1_000_000
const keys = 1_000
const valueBytes = 100
const percents = [10, 50, 100]

const commandOf = (n: number) => Alone.put(`key-${n % keys}`, n, valueBytes)

setFlagsFromString("--expose-gc")
const collect: () => void = runInNewContext("gc")

export const bench = Effect.gen(function*() {
  const directory = yield* Directory.make
  const node = yield* Alone.start(directory)
  yield* Console.log(
    `one node, ${puts.toLocaleString("en")} puts on ${keys.toLocaleString("en")} keys, ${valueBytes}-byte values, ` +
      "default settings, sync on"
  )
  yield* Console.log("   done     puts   entries in the log   on disk MiB   heap MiB   outside MiB   RSS MiB   seconds")
  const rows = []
  const startMs = performance.now()
  let from = 0
  for (const percent of percents) {
    const to = puts * percent / 100
    yield* Alone.putAll(node, { from, to, commandOf })
    from = to
    const secondsSoFar = (performance.now() - startMs) / 1000
    // What is left then is in use: otherwise the figures tell when the last collection was.
    collect()
    const { lastLogIndex, prevLogIndex } = yield* node.status
    const row = {
      percent,
      puts: to,
      logEntries: lastLogIndex - prevLogIndex,
      directoryBytes: Directory.bytesOf(directory),
      ...Alone.memory(),
      seconds: secondsSoFar
    }
    rows.push(row)
    yield* Console.log(
      [
        `${percent} %`.padStart(7),
        to.toLocaleString("en").padStart(9),
        row.logEntries.toLocaleString("en").padStart(19),
        Alone.mib(row.directoryBytes).padStart(13),
        Alone.mib(row.heapBytes).padStart(10),
        Alone.mib(row.externalBytes).padStart(13),
        Alone.mib(row.rssBytes).padStart(9),
        row.seconds.toFixed(1).padStart(9)
      ].join(" ")
    )
  }
  return { keys, valueBytes, rows }
})
