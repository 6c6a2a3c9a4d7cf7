/**
 * Operating-system processes: two of three servers are lost for good, and the third goes on alone, then with others.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { cpSync, readdirSync, rmSync } from "node:fs"
import { dirname, join } from "node:path"
import * as Titan from "../cli/titan.ts"
import * as LocalCluster from "./LocalCluster.ts"
import { temporaryDirectory } from "./withCluster.ts"

const keys = (name: string) => Array.from({ length: 60 }, (_, i) => `${name}-${i}`)

/** Writes through whoever leads; the revision of each. */
const write = (url: string, names: ReadonlyArray<string>) =>
  Effect.forEach(names, (key) =>
    Effect.tryPromise(async () => {
      const response = await fetch(`${url}/v1/kv/${key}`, { method: "PUT", body: `value of ${key}` })
      if (response.status !== 200) throw new Error(await response.text())
      const { revision }: { revision: number } = JSON.parse(await response.text())
      return { key, revision }
    }).pipe(Effect.retry({ schedule: Schedule.spaced(50), times: 200 }), Effect.orDie), { concurrency: 8 })

const isThere = Effect.fnUntraced(function*(url: string, written: ReadonlyArray<{ key: string; revision: number }>) {
  for (const { key, revision } of written) {
    const response = yield* Effect.promise(() => fetch(`${url}/v1/kv/${key}`))
    assert.strictEqual(yield* Effect.promise(() => response.text()), `value of ${key}`)
    assert.strictEqual(response.headers.get("titan-revision"), `${revision}`, key)
  }
})

interface Member {
  readonly id: string
  readonly role: string
}

const members = (url: string) =>
  Effect.tryPromise(async () => {
    const body: { readonly members: ReadonlyArray<Member> } = JSON.parse(
      await (await fetch(`${url}/v1/members`)).text()
    )
    return body.members.map(({ id, role }) => `${role} ${id}`).toSorted()
  })

const until = <A, E>(effect: Effect.Effect<A, E>, isSo: (value: A) => boolean) =>
  effect.pipe(
    Effect.filterOrFail(isSo, (value) => new LocalCluster.NotReady({ message: JSON.stringify(value) })),
    Effect.retry({ schedule: Schedule.spaced(50), times: 400 })
  )

const recover = (directory: string, ...args: ReadonlyArray<string>) =>
  Titan.run(["recover", "--data-dir", directory, "--as-single-node", ...args])

describe("a cluster of three that has lost two for good", () => {
  it.live(
    "goes on with the third, which has all that was acknowledged; an old one is refused, and a new one joins",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const root = yield* temporaryDirectory
        const cluster = yield* LocalCluster.make({ size: 3, sizeMax: 4, root, args: ["--snapshot-entries", "50"] })
        const leader = yield* cluster.leader
        const written = yield* write(leader.url, keys("before"))
        const [old, left] = cluster.nodes.filter((node) => node !== leader)
        if (old === undefined || left === undefined) return assert.fail("three nodes")
        const copy = `${old.dataDir}-copy`
        yield* old.stop("SIGKILL")
        cpSync(old.dataDir, copy, { recursive: true })
        written.push(...yield* write(leader.url, keys("during")))
        const running = yield* recover(left.dataDir, "--yes")
        assert.strictEqual(running.code, 1)
        assert.include(running.stderr, "is in use by process")
        for (const node of [leader, left]) yield* node.stop("SIGKILL")
        for (const node of [leader, old]) rmSync(node.dataDir, { recursive: true })

        const asked = yield* recover(left.dataDir, "--json")
        assert.strictEqual(asked.code, 2)
        const plan = JSON.parse(asked.stdout) as Record<string, unknown>
        assert.deepInclude(plan, {
          done: false,
          state: "Member",
          id: left.id,
          role: "voter",
          voters: ["n1", "n2", "n3"]
        })
        assert.isAtLeast(plan["committedAtLeast"] as number, 50)
        assert.deepInclude(JSON.parse(asked.stderr), { _tag: "Usage", exitCode: 2 })
        const done = yield* recover(left.dataDir, "--yes")
        assert.strictEqual(done.code, 0, done.stderr)
        for (const said of [done.stderr, done.stdout]) {
          assert.match(said, /MAY BE LOST: .*NEVER recover another server of cluster /s)
        }
        assert.include(
          done.stdout,
          `titan serve --id ${left.id} --peer ${left.id}=${left.url} --data-dir ${left.dataDir}`
        )
        const names = readdirSync(dirname(left.dataDir))
        assert.includeMembers(names, [left.id, `${left.id}.before-recovery`])
        assert.notInclude(names.join(), `${left.id}.recover`)
        assert.strictEqual((yield* recover(left.dataDir, "--yes")).code, 0)

        // As it was started always, and as the command says: what is stored counts.
        yield* left.start
        yield* until(LocalCluster.status(left.url), ({ role }) => role === "Leader")
        assert.deepStrictEqual(yield* members(left.url), [`voter ${left.id}`])
        yield* isThere(left.url, written)
        written.push(...yield* write(left.url, keys("alone")))
        assert.strictEqual(yield* left.stop("SIGTERM"), 0)
        yield* Titan.start(["serve", "--id", left.id, "--peer", `${left.id}=${left.url}`, "--data-dir", left.dataDir])
        yield* until(LocalCluster.status(left.url), ({ role }) => role === "Leader")
        yield* isThere(left.url, written)

        // An old server comes back: it may not take part, and says why.
        cpSync(copy, old.dataDir, { recursive: true })
        yield* old.start
        yield* until(
          Effect.sync(() => old.output()),
          (output) => /refused .*belongs to cluster/s.test(output) && output.includes(`peer=${left.id}`)
        )
        assert.deepStrictEqual(yield* members(left.url), [`voter ${left.id}`])
        yield* old.stop("SIGKILL")

        const directory = join(root, "n4")
        const place = new URL(left.url)
        const port = Number(place.port) + 10
        yield* Titan.start([
          "serve",
          "--id",
          "n4",
          "--listen",
          `127.0.0.1:${port}`,
          "--data-dir",
          directory,
          "--join",
          left.url
        ])
        yield* until(members(left.url), (all) => all.join() === [`voter ${left.id}`, "voter n4"].toSorted().join())
        written.push(...yield* write(left.url, keys("after")))
        yield* until(LocalCluster.status(`http://127.0.0.1:${port}`), ({ lastApplied }) => lastApplied > 0)
        yield* isThere(`http://127.0.0.1:${port}`, written)
      })),
    120_000
  )
})
