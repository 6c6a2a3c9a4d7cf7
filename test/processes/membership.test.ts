/**
 * Operating-system processes whose membership changes, and which are restarted one after the other, while clients write without pause.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Titan from "../cli/titan.ts"
import * as LocalCluster from "./LocalCluster.ts"
import { temporaryDirectory } from "./withCluster.ts"
import * as Writers from "./writers.ts"

interface Members {
  readonly members: ReadonlyArray<{ readonly id: string; readonly role: string }>
}

const json = <A>(url: string, method = "GET"): Effect.Effect<{ readonly status: number; readonly body: A }> =>
  Effect.promise(async (signal) => {
    const response = await fetch(url, { method, signal })
    const body: A = JSON.parse(await response.text())
    return { status: response.status, body }
  })

/** A cluster whose nodes' output is shown where the test fails. */
const withNodes = <A, E>(
  sizes: { readonly size: number; readonly sizeMax?: number },
  use: (cluster: LocalCluster.LocalCluster) => Effect.Effect<A, E, Scope.Scope>
) =>
  Effect.scoped(Effect.gen(function*() {
    const cluster = yield* LocalCluster.make({ ...sizes, root: yield* temporaryDirectory })
    yield* cluster.leader
    return yield* use(cluster).pipe(
      Effect.tapCause(() => Effect.logError(cluster.nodes.map((node) => node.output()).join("\n")))
    )
  }))

const running = (cluster: LocalCluster.LocalCluster) => () =>
  cluster.nodes.filter((node) => node.isRunning()).map(({ url }) => url)

/** Waits until the leader's configuration has exactly these voters. */
const voters = (cluster: LocalCluster.LocalCluster, ids: ReadonlyArray<string>) =>
  cluster.leader.pipe(
    Effect.flatMap(({ url }) => json<Members>(`${url}/v1/members`)),
    Effect.filterOrFail(
      ({ body }) =>
        JSON.stringify(body.members.map(({ id, role }) => `${role} ${id}`).toSorted()) ===
          JSON.stringify(ids.map((id) => `voter ${id}`).toSorted()),
      ({ body }) => new LocalCluster.NotReady({ message: JSON.stringify(body) })
    ),
    Effect.retry({ schedule: Schedule.spaced(25), times: 400 })
  )

/** Every acknowledged write is there, and none was applied twice: a key's version is the number of its writes. */
const writtenOnce = Effect.fnUntraced(function*(cluster: LocalCluster.LocalCluster, written: Writers.Written) {
  assert.deepStrictEqual(written.fatal, [])
  const { url } = yield* cluster.leader
  for (const [key, count] of written.counts) {
    const { headers, text } = yield* Effect.promise(async () => {
      const response = await fetch(`${url}/v1/kv/${key}`)
      return { headers: response.headers, text: await response.text() }
    })
    assert.deepStrictEqual([text, headers.get("titan-version")], [`${count}`, `${count}`], key)
  }
})

const print = (what: string, { acknowledged, longestGapMs, retried }: Writers.Written) =>
  Console.log(
    `${what}: ${acknowledged} writes, longest gap ${longestGapMs} ms; tried again: ${
      [...retried].map(([text, times]) => `${times} × ${text.slice(0, 60)}`).join(", ") || "none"
    }`
  )

const remove = (cluster: LocalCluster.LocalCluster, id: string) =>
  cluster.leader.pipe(
    Effect.flatMap(({ url }) => json<object>(`${url}/v1/members/${id}`, "DELETE")),
    Effect.filterOrFail(({ status }) => status === 200, ({ body }) =>
      new LocalCluster.NotReady({ message: JSON.stringify(body) })),
    Effect.retry({ schedule: Schedule.spaced(100), times: 50 })
  )

describe("processes under load", () => {
  it.live(
    "a cluster grows from one to three to five and shrinks to three, its leader among the removed, and no write is lost or done twice",
    () =>
      withNodes({ size: 1, sizeMax: 5 }, (cluster) =>
        Effect.gen(function*() {
          const load = yield* Writers.start(running(cluster), 4)
          yield* load.progress(20)
          for (const ids of [["n1", "n2", "n3"], ["n1", "n2", "n3", "n4", "n5"]]) {
            while (cluster.nodes.length < ids.length) yield* cluster.join()
            yield* voters(cluster, ids)
            yield* load.progress(100)
          }
          const first = yield* cluster.leader
          yield* remove(cluster, first.id)
          const others = cluster.nodes.map(({ id }) => id).filter((id) => id !== first.id)
          yield* voters(cluster, others)
          const second = yield* cluster.leader.pipe(
            Effect.filterOrFail(({ id }) => id !== first.id, () => "its successor is not known yet"),
            Effect.retry({ schedule: Schedule.spaced(25), times: 400 })
          )
          yield* load.progress(100)
          const last = others.find((id) => id !== second.id) ?? ""
          yield* remove(cluster, last)
          yield* voters(cluster, others.filter((id) => id !== last))
          yield* load.progress(100)
          const written = yield* load.stop
          yield* print("1 → 3 → 5 → 3", written)
          // Those that were removed still run, and disturb nobody.
          assert.isTrue(first.isRunning())
          yield* writtenOnce(cluster, written)
        })),
    120_000
  )

  it.live(
    "all three are restarted by SIGTERM, one after the other, and no request fails that a client cannot try again",
    () =>
      withNodes({ size: 3 }, (cluster) =>
        Effect.gen(function*() {
          const load = yield* Writers.start(running(cluster), 4)
          yield* load.progress(100)
          const leader = yield* cluster.leader
          // The leader in the middle: it must hand over, and to one that was restarted or to one that will be.
          const [before, after] = cluster.nodes.filter((node) => node !== leader)
          let handOvers = 0
          for (const node of [before, leader, after]) {
            if (node === undefined) return assert.fail("three nodes")
            const wasLeading = (yield* cluster.leader) === node
            assert.strictEqual(yield* node.stop("SIGTERM"), 0)
            if (wasLeading) {
              // It did not leave before another one led: no election timeout had to pass.
              const other = cluster.nodes.find((one) => one !== node)
              assert.notStrictEqual((yield* LocalCluster.status(other?.url ?? "")).leader?.id, node.id)
              handOvers++
            }
            yield* load.progress(50)
            yield* node.start
            yield* Effect.retry(
              Effect.flatMap(
                Effect.orElseSucceed(LocalCluster.status(node.url), () => undefined),
                (status) => status?.leader ? Effect.void : Effect.fail("not ready")
              ),
              { schedule: Schedule.spaced(10), times: 1000 }
            )
            yield* load.progress(50)
          }
          assert.isAtLeast(handOvers, 1)
          const written = yield* load.stop
          yield* print(`rolling restart with ${handOvers} hand-overs`, written)
          yield* writtenOnce(cluster, written)
        })),
    120_000
  )

  it.live(
    "titan member replace lets a new server take the place of a killed one, with one command",
    () =>
      withNodes({ size: 3, sizeMax: 4 }, (cluster) =>
        Effect.gen(function*() {
          const load = yield* Writers.start(running(cluster), 4)
          yield* load.progress(100)
          const leader = yield* cluster.leader
          const killed = cluster.nodes.find((node) => node !== leader)
          if (killed === undefined) return assert.fail("three nodes")
          const endpoints = cluster.urls.flatMap((url) => ["--endpoint", url])
          yield* killed.stop("SIGKILL")
          // Its disk is lost: under the same id it may not come back.
          const lost = ["--id", killed.id, "--listen", new URL(killed.url).host, "--data-dir", `${killed.dataDir}-lost`]
          const refused = yield* Titan.run(["serve", ...lost, ...cluster.urls.flatMap((url) => ["--join", url])])
          assert.strictEqual(refused.code, 1)
          assert.include(refused.stderr, `titan member replace ${killed.id} NEW=URL`)
          const fresh = yield* cluster.join("--learner")
          const replace = [
            "member",
            "replace",
            killed.id,
            `${fresh.id}=${fresh.url}`,
            ...endpoints,
            "--timeout-ms",
            "15000"
          ]
          const preview = yield* Titan.run([...replace, "--dry-run", "--json"])
          assert.strictEqual(preview.code, 0, preview.stderr)
          const ids = cluster.nodes.map(({ id }) => id).filter((id) => id !== killed.id)
          const { after } = JSON.parse(preview.stdout) as { after: { voters: Array<string>; mayFail: number } }
          assert.sameMembers(after.voters, ids)
          assert.strictEqual(after.mayFail, 1)
          const startedMs = performance.now()
          const replaced = yield* Titan.run(replace)
          yield* Console.log(`replaced in ${Math.round(performance.now() - startedMs)} ms`)
          assert.deepStrictEqual([replaced.code, replaced.stderr], [0, ""])
          assert.match(replaced.stdout, new RegExp(`^${fresh.id} is a voter and ${killed.id} is no member; 3 voters`))
          yield* voters(cluster, ids)
          // It may be run again.
          assert.strictEqual((yield* Titan.run(replace)).code, 0)
          const nobody = yield* Titan.run(["member", "replace", "n9", "n8=http://127.0.0.1:9", ...endpoints])
          assert.strictEqual(nobody.code, 3)
          assert.include(nobody.stderr, "n9 is no member: there is nothing to replace")
          yield* load.progress(100)
          // It keeps what it is: the command that made it join starts it again.
          assert.strictEqual(yield* fresh.stop("SIGTERM"), 0)
          yield* fresh.start
          yield* load.progress(100)
          const written = yield* load.stop
          yield* print("replace", written)
          yield* writtenOnce(cluster, written)
        })),
    120_000
  )
})
