/**
 * What the commands that change a cluster say to whoever mistypes, or asks a server that is no member any more; on real processes.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as LocalCluster from "../processes/LocalCluster.ts"
import { temporaryDirectory } from "../processes/withCluster.ts"
import * as Titan from "./titan.ts"

describe("three servers, one of which is replaced, and one removed", () => {
  it.live(
    "each command does what it says, says what it did, and refuses what was not meant",
    () =>
      Effect.gen(function*() {
        const cluster = yield* LocalCluster.make({ size: 3, sizeMax: 4, root: yield* temporaryDirectory })
        const leader = yield* cluster.leader
        const [one, other] = cluster.nodes.filter((node) => node !== leader)
        if (one === undefined || other === undefined) return assert.fail("three nodes")
        const at = (...nodes: ReadonlyArray<LocalCluster.LocalNode>) => nodes.flatMap(({ url }) => ["--endpoint", url])
        const member = (...args: ReadonlyArray<string>) => Titan.run(["member", ...args, ...at(leader, one, other)])

        const table = (yield* member("list")).stdout
        assert.match(table, new RegExp(`${leader.id} +voter, leads +${leader.url} +0 +-`))
        assert.match(table, new RegExp(`${one.id} +voter +${one.url} +\\d+ +\\d+ ms ago`))
        for (const up of [leader, one]) {
          const removes = yield* member("replace", up.id, other.id)
          assert.strictEqual(removes.code, 3)
          assert.include(
            removes.stderr,
            `${other.id} votes already and ${up.id} is up: this would only remove ${up.id}`
          )
        }
        const taken = yield* member("add", "n9", other.url)
        assert.strictEqual(taken.code, 3)
        assert.include(taken.stderr, `${other.url} is where ${other.id} answers`)

        yield* one.stop("SIGKILL")
        const elsewhere = yield* member("replace", one.id, `${other.id}=http://127.0.0.1:9`)
        assert.strictEqual(elsewhere.code, 3)
        assert.include(elsewhere.stderr, `${other.id} is a member already, at ${other.url}`)
        // The new server joins while the command waits for it.
        const [replaced, fresh] = yield* Effect.all([
          Titan.run(["member", "replace", one.id, "n4", "--timeout-ms", "20000", ...at(leader, other)]),
          cluster.join("--learner")
        ], { concurrency: 2 })
        assert.deepStrictEqual([replaced.code, replaced.stderr], [0, ""])
        assert.notInclude(fresh.output(), "can be stopped")

        // Whoever is asked alone is who is removed.
        const removed = yield* Titan.run(["member", "remove", leader.id, ...at(leader)])
        assert.deepStrictEqual([removed.code, removed.stderr], [0, ""])
        assert.match(removed.stdout, new RegExp(`^${leader.id} is no member; 2 voters`))
        const listed = yield* Titan.run(["member", "list", "--timeout-ms", "500", ...at(leader)])
        assert.strictEqual(listed.code, 4)
        assert.include(listed.stderr, `${leader.url}: ${leader.id} is no member of its cluster`)
        const left = JSON.parse((yield* Titan.run(["member", "list", "--json", ...at(other)])).stdout) as {
          members: Array<{ id: string }>
        }
        assert.sameMembers(left.members.map(({ id }) => id), [other.id, fresh.id])
      }).pipe(Effect.scoped),
    90_000
  )
})
