/** Three processes that nobody asks anything: how much of a core each takes. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as LocalCluster from "../test/processes/LocalCluster.ts"
import * as Cpu from "./cpu.ts"
import * as Directory from "./directory.ts"

const settleSeconds = 15
const seconds = 30

export const bench = Effect.fnUntraced(function*({ nodeOptions }: { readonly nodeOptions: ReadonlyArray<string> }) {
  const cluster = yield* LocalCluster.make({ size: 3, root: yield* Directory.make, nodeOptions })
  const leader = yield* Effect.orDie(cluster.leader)
  yield* Effect.sleep(1000 * settleSeconds)
  const pids = cluster.nodes.flatMap((node) => node.pid() ?? [])
  const [, cpuMs] = yield* Cpu.during(pids, Effect.sleep(1000 * seconds))
  const percents = cpuMs.map((ms) => ms / (10 * seconds))
  const said = cluster.nodes.map(({ id }, i) =>
    `${id}${id === leader.id ? " (leads)" : ""} ${percents[i]?.toFixed(2)} %`
  )
  yield* Console.log(`idle for ${seconds} s: ${said.join(", ")} of a core`)
  return { seconds, leader: leader.id, percents }
})
