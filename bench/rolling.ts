/**
 * Three processes under puts from `RaftClient`, which are restarted one after the other by SIGTERM, the leader among them: the longest time
 * without any acknowledgement, around each of them, and what failed. Then the same with SIGKILL, where an election timeout has to pass.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Protocol from "../src/layers/kv/Protocol.ts"
import * as RaftClientHttp from "../src/layers/RaftClientHttp.ts"
import { RaftClient } from "../src/services/RaftClient.ts"
import * as LocalCluster from "../test/processes/LocalCluster.ts"
import * as Directory from "./directory.ts"

const inFlight = 16
const settleMs = 1000

const nowMs = (): number => performance.now()

/** Puts without pause; says how many were acknowledged, how many failed, and the longest gap since it was last asked. */
const makeLoad = Effect.fnUntraced(function*() {
  const store = Protocol.wire.on(yield* RaftClient)
  const state = { isOver: false }
  let [acknowledged, failed, lastMs, gapMs] = [0, 0, nowMs(), 0]
  const writer = Effect.fnUntraced(function*(name: string) {
    for (let n = 0; !state.isOver; n++) {
      const put = store.propose({ _tag: "Put", key: name, value: new TextEncoder().encode(`${n}`) })
      const isDone = yield* Effect.match(put, { onFailure: () => false, onSuccess: () => true })
      if (!isDone) {
        failed++
        continue
      }
      gapMs = Math.max(gapMs, nowMs() - lastMs)
      lastMs = nowMs()
      acknowledged++
    }
  })
  const running = yield* Effect.forkScoped(
    Effect.forEach(Array.from({ length: inFlight }, (_, i) => `w${i}`), writer, {
      concurrency: "unbounded",
      discard: true
    })
  )
  return {
    takeGapMs: (): number => {
      const taken = Math.max(gapMs, nowMs() - lastMs)
      gapMs = 0
      return Math.round(taken)
    },
    stop: Effect.suspend(() => {
      state.isOver = true
      return Effect.map(Fiber.join(running), () => ({ acknowledged, failed }))
    })
  }
})

const isReady = (node: LocalCluster.LocalNode) =>
  LocalCluster.status(node.url).pipe(
    Effect.filterOrFail(({ leader }) => leader !== null, () => "not ready"),
    Effect.retry({ schedule: Schedule.spaced(20), times: 1000 }),
    Effect.orDie
  )

const restartAll = Effect.fnUntraced(
  function*(cluster: LocalCluster.LocalCluster, signal: NodeJS.Signals, rounds: number) {
    const load = yield* makeLoad()
    yield* Effect.sleep(settleMs)
    const gaps: Array<{ readonly wasLeader: boolean; readonly gapMs: number }> = []
    for (let round = 0; round < rounds; round++) {
      for (const node of cluster.nodes) {
        const wasLeader = (yield* Effect.orDie(cluster.leader)) === node
        load.takeGapMs()
        yield* node.stop(signal)
        yield* node.start
        yield* isReady(node)
        yield* Effect.sleep(settleMs)
        gaps.push({ wasLeader, gapMs: load.takeGapMs() })
      }
    }
    const { acknowledged, failed } = yield* load.stop
    const longest = (leaders: boolean) =>
      Math.max(0, ...gaps.filter(({ wasLeader }) => wasLeader === leaders).map(({ gapMs }) => gapMs))
    const figures = {
      acknowledged,
      failed,
      restarts: gaps.length,
      leaderRestarts: gaps.filter(({ wasLeader }) => wasLeader).length,
      longestGapMs: { leader: longest(true), follower: longest(false) },
      gaps
    }
    yield* Console.log(
      `${signal}: ${gaps.length} restarts, ${figures.leaderRestarts} of a leader; ${
        acknowledged.toLocaleString("en")
      } puts, ` +
        `${failed} failed; longest gap ${longest(true)} ms at a leader's, ${longest(false)} ms at a follower's`
    )
    return figures
  },
  Effect.scoped
)

export const bench = Effect.fnUntraced(function*({ nodeOptions, rounds }: {
  readonly rounds: number
  readonly nodeOptions: ReadonlyArray<string>
}) {
  const cluster = yield* LocalCluster.make({ size: 3, root: yield* Directory.make, nodeOptions })
  yield* Effect.orDie(cluster.leader)
  yield* Console.log(`three nodes, ${inFlight} puts in flight, each node restarted ${rounds} times`)
  const client = RaftClientHttp.layer({ endpoints: cluster.urls, deadlineMs: 20_000 })
  const both = Effect.gen(function*() {
    return {
      graceful: yield* restartAll(cluster, "SIGTERM", rounds),
      killed: yield* restartAll(cluster, "SIGKILL", rounds)
    }
  })
  return { inFlight, rounds, ...(yield* Effect.provide(both, client)) }
})
