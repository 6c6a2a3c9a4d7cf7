import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { existsSync, renameSync } from "node:fs"
import { join } from "node:path"
import * as Titan from "./titan.ts"

const recover = (directory: string, ...args: ReadonlyArray<string>) =>
  Titan.run(["recover", "--data-dir", directory, "--as-single-node", ...args])

/** A server of `ids` that has run, on the first of free ports; alone it has written something, too. */
const ran = Effect.fnUntraced(function*(directory: string, ids: ReadonlyArray<string>) {
  const port = yield* Titan.freePorts(ids.length)
  const peers = ids.flatMap((id, i) => ["--peer", `${id}=http://127.0.0.1:${port + i}`])
  const args = ["serve", "--id", "n1", "--data-dir", directory, ...peers]
  const server = yield* Titan.start(args)
  yield* server.printed(ids.length === 1 ? /leads the cluster/ : /listening/)
  server.process.kill("SIGTERM")
  assert.strictEqual((yield* server.ended).code, 0)
  return args
})

describe("titan recover", () => {
  it.live("ends with 1 where there is nothing to recover, and says that nothing was changed", () =>
    Effect.scoped(Effect.gen(function*() {
      const directory = join(yield* Titan.directory, "n1")
      for (const args of [[], ["--yes"], ["--yes", "--json"]]) {
        const { code, stderr, stdout } = yield* recover(directory, ...args)
        assert.deepStrictEqual([code, stdout], [1, ""])
        assert.include(stderr, `there is no ${directory}. Nothing was changed`)
      }
      yield* ran(directory, ["n1", "n2", "n3"])
      const { code, stderr } = yield* recover(directory, "--yes", "--json")
      assert.strictEqual(code, 1)
      assert.deepInclude(JSON.parse(stderr), { _tag: "StorageError", exitCode: 1 })
      assert.include(stderr, "is empty: there is nothing to recover")
    })))

  it.live("ends with 0 where a server is alone already; one whose recovery was interrupted does not begin anew", () =>
    Effect.scoped(Effect.gen(function*() {
      const directory = join(yield* Titan.directory, "n1")
      const args = yield* ran(directory, ["n1"])
      const alone = yield* recover(directory, "--json")
      assert.deepStrictEqual([alone.code, alone.stderr], [0, ""])
      assert.deepInclude(JSON.parse(alone.stdout), { done: true, state: "Alone", id: "n1", backup: null })
      renameSync(directory, `${directory}.recovered`)
      const refused = yield* Titan.run(args)
      assert.strictEqual(refused.code, 1)
      assert.include(refused.stderr, `run titan recover --data-dir ${directory} --as-single-node --yes again`)
      assert.isFalse(existsSync(directory))
      const asked = yield* recover(directory)
      assert.strictEqual(asked.code, 2)
      assert.include(asked.stdout, `A recovery of ${directory} was interrupted`)
      assert.include(asked.stderr, "nothing was done: to do it, add --yes")
      const done = yield* recover(directory, "--yes")
      assert.strictEqual(done.code, 0, done.stderr)
      assert.include(done.stdout, "n1 is the only server of the new cluster")
      assert.isTrue(existsSync(directory))
    })))
})
