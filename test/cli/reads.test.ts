import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Titan from "./titan.ts"

/** A cluster of one that leads, with these flags besides. */
const serve = Effect.fnUntraced(function*(flags: ReadonlyArray<string>, env: Record<string, string> = {}) {
  const url = `http://127.0.0.1:${yield* Titan.freePorts(1)}`
  const directory = yield* Titan.directory
  const server = yield* Titan.start(
    ["serve", "--id", "n1", "--peer", `n1=${url}`, "--data-dir", directory, ...flags],
    { env }
  )
  yield* server.printed(/leads the cluster/)
  return { url, titan: (...args: ReadonlyArray<string>) => Titan.run([...args, "--endpoint", url]) }
})

interface Reported {
  readonly status: { readonly snapshotIndex: number; readonly prevLogIndex: number }
}

/** What `titan status --json` says of the first server, once it has a snapshot. */
const snapshotted = (titan: (...args: ReadonlyArray<string>) => Effect.Effect<Titan.Ended>) =>
  Effect.flatMap(titan("status", "--json"), ({ stdout }) => {
    const [first] = JSON.parse(stdout) as ReadonlyArray<Reported>
    return first !== undefined && first.status.snapshotIndex > 0
      ? Effect.succeed(first.status)
      : Effect.fail("no snapshot yet")
  }).pipe(Effect.retry({ schedule: Schedule.spaced(50), times: 40 }), Effect.orDie)

describe("get and list by consistency", () => {
  it.live("every consistency prints the value; JSON of a stale answer says how old it may be, of another one nothing", () =>
    Effect.gen(function*() {
      const { titan } = yield* serve(["--lease-reads"])
      yield* titan("put", "k", "v")
      for (const consistency of ["linearizable", "lease", "follower", "stale"]) {
        const got = yield* titan("get", "k", "--consistency", consistency)
        assert.deepInclude(got, { code: 0, stdout: "v" }, consistency)
      }
      const stale = yield* titan("get", "k", "--consistency", "stale", "--min-index", "3", "--json")
      const { leaderContactAgeMs, ...answer } = JSON.parse(stale.stdout) as { leaderContactAgeMs: number }
      assert.deepStrictEqual(answer as object, { key: "k", value: "dg==", revision: 3, version: 1, appliedIndex: 3 })
      assert.isTrue(Number.isInteger(leaderContactAgeMs), stale.stdout)
      assert.notInclude((yield* titan("get", "k", "--json")).stdout, "appliedIndex")
      const listed = JSON.parse((yield* titan("list", "--consistency", "stale", "--json")).stdout) as {
        appliedIndex: number
      }
      assert.strictEqual(listed.appliedIndex, 3)
      assert.strictEqual((yield* titan("get", "none", "--consistency", "stale")).code, 3)
    }))

  it.live("every server of three answers a follower's read, and a stale one from the revision that was just written", () =>
    Effect.gen(function*() {
      const port = yield* Titan.freePorts(3)
      const cluster = yield* Titan.start(["dev", "--port", String(port), "--data-dir", yield* Titan.directory])
      yield* cluster.printed(/Ctrl-C stops all/)
      const urls = [0, 1, 2].map((i) => `http://127.0.0.1:${port + i}`)
      const written = yield* Titan.run(["put", "k", "v", "--json", ...urls.flatMap((url) => ["--endpoint", url])])
      const { revision } = JSON.parse(written.stdout) as { revision: number }
      for (const url of urls) {
        for (const query of ["follower", `stale&min-index=${revision}`]) {
          const answer = yield* Effect.promise(() =>
            fetch(`${url}/v1/kv/k?consistency=${query}`, { redirect: "manual" })
          )
          assert.strictEqual(answer.status, 200)
          assert.strictEqual(yield* Effect.promise(() => answer.text()), "v")
        }
      }
    }))

  it.live("a min-index that no server has applied in time ends with 4 and names it", () =>
    Effect.gen(function*() {
      const { titan } = yield* serve([])
      const args = ["get", "k", "--consistency", "stale", "--min-index", "99", "--timeout-ms", "500"]
      const { code, stderr } = yield* titan(...args)
      assert.strictEqual(code, 4)
      assert.match(stderr, /not answered.*no sign that index 99 is applied there within \d+ ms/)
    }))
})

describe("snapshots", () => {
  it.live("snapshot take prints a row for each server and status shows the index; 1 where one is down, 4 where all are", () =>
    Effect.gen(function*() {
      const { titan, url } = yield* serve([])
      const down = `http://127.0.0.1:${yield* Titan.freePorts(1)}`
      yield* titan("put", "k", "v")
      const taken = yield* titan("snapshot", "take")
      assert.strictEqual(taken.code, 0, taken.stderr)
      assert.match(taken.stdout, /ENDPOINT +INDEX +TERM +BYTES +TOOK\n\S+ +3 +1 +\d+ +\d+ ms\n$/)
      assert.match((yield* titan("status")).stdout, /LAST +SNAPSHOT +CLUSTER\n.* n1 +Leader +1 +n1 +3 +3 +3 +3 /)
      const some = yield* titan("snapshot", "take", "--endpoint", down)
      assert.strictEqual(some.code, 1)
      assert.include(some.stdout, `${down}  -      unreachable: connect ECONNREFUSED`)
      assert.include(some.stderr, `no snapshot is known to be taken by ${down}`)
      const json = yield* titan("snapshot", "take", "--endpoint", down, "--json")
      const rows = JSON.parse(json.stdout) as ReadonlyArray<{ url: string; reachable: boolean; taken: boolean }>
      assert.deepStrictEqual(rows.map((row) => [row.url, row.reachable, row.taken]), [
        [down, false, false],
        [url, true, true]
      ])
      assert.strictEqual((yield* Titan.run(["snapshot", "take", "--endpoint", down])).code, 4)
    }))

  it.live("a server takes them by itself as its flags and variables say, and gives up its log behind them", () =>
    Effect.gen(function*() {
      const { titan } = yield* serve(["--snapshot-entries", "4"], { TITAN_LOG_TAIL_ENTRIES: "0" })
      for (const value of ["1", "2", "3", "4"]) yield* titan("put", "k", value)
      const { prevLogIndex, snapshotIndex } = yield* snapshotted(titan)
      assert.strictEqual(prevLogIndex, snapshotIndex)
    }))

  it.live("dev gives its servers the settings it was given", () =>
    Effect.gen(function*() {
      const port = yield* Titan.freePorts(1)
      const args = ["dev", "--nodes", "1", "--port", String(port), "--data-dir", yield* Titan.directory]
      const cluster = yield* Titan.start([...args, "--snapshot-entries", "3", "--no-lease-reads"], {
        env: { TITAN_CLOCK_DRIFT_PERCENT: "7" }
      })
      yield* cluster.printed(/Ctrl-C stops all/)
      const titan = (...rest: ReadonlyArray<string>) => Titan.run([...rest, "--endpoint", `http://127.0.0.1:${port}`])
      for (const value of ["1", "2", "3"]) yield* titan("put", "k", value)
      yield* snapshotted(titan)
    }))
})
