import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import * as Configuration from "../../src/domain/Configuration.ts"
import * as StorageFile from "../../src/layers/StorageFile.ts"
import { Storage } from "../../src/services/Storage.ts"
import * as Titan from "./titan.ts"

const stackTrace = /\n\s+at /

/** A cluster of one that leads. */
const serve = (port: number, path: string) =>
  Effect.gen(function*() {
    const url = `http://127.0.0.1:${port}`
    const server = yield* Titan.start(["serve", "--id", "n1", "--peer", `n1=${url}`, "--data-dir", path])
    yield* server.printed(/leads the cluster/)
    return { server, url, titan: (...args: ReadonlyArray<string>) => Titan.run([...args, "--endpoint", url]) }
  })

describe("one server", () => {
  it.live("put, get, list, delete and status print what they did and end with 0", () =>
    Effect.gen(function*() {
      const { titan, url } = yield* serve(yield* Titan.freePorts(1), yield* Titan.directory)
      assert.deepInclude(yield* titan("put", "a/b", "hello"), { code: 0, stdout: "revision 3\n" })
      assert.deepInclude(yield* titan("get", "a/b"), { code: 0, stdout: "hello" })
      const piped = yield* Titan.run(["put", "bin", "-", "--endpoint", url, "--json"], { stdin: "x\0y" })
      assert.deepInclude(piped, { code: 0, stdout: "{\"revision\":5}\n" })
      assert.strictEqual((yield* titan("get", "bin")).stdout, "x\0y")
      assert.deepStrictEqual(JSON.parse((yield* titan("get", "a/b", "--json")).stdout), {
        key: "a/b",
        value: "aGVsbG8=",
        revision: 3,
        version: 1
      })
      const listed = JSON.parse((yield* titan("list", "a/", "--json")).stdout) as { items: Array<{ key: string }> }
      assert.deepStrictEqual(listed.items.map((item) => item.key), ["a/b"])
      assert.match((yield* titan("status")).stdout, /n1 +Leader +1 +n1/)
      assert.deepInclude(yield* titan("delete", "a/b"), { code: 0, stdout: "deleted at revision 7\n" })
    }))

  it.live("a missing key and a condition that is not met end with 3, on stderr, in JSON if asked", () =>
    Effect.gen(function*() {
      const { titan } = yield* serve(yield* Titan.freePorts(1), yield* Titan.directory)
      assert.deepInclude(yield* titan("get", "k"), { code: 3, stdout: "", stderr: "titan: k: not found\n" })
      assert.strictEqual((yield* titan("delete", "k")).code, 3)
      assert.strictEqual((yield* titan("put", "k", "v", "--if-revision", "0")).code, 0)
      const exists = yield* titan("put", "k", "v", "--if-revision", "0", "--json")
      assert.strictEqual(exists.code, 3)
      const error = JSON.parse(exists.stderr) as { _tag: string; outcome: string }
      assert.deepStrictEqual([error._tag, error.outcome], ["RevisionMismatch", "not-applied"])
    }))

  it.live("SIGTERM and SIGINT stop it with exit code 0, even when they come together, and its data is there afterwards", () =>
    Effect.gen(function*() {
      const port = yield* Titan.freePorts(1)
      const path = yield* Titan.directory
      for (const [i, signal] of (["SIGTERM", "SIGINT"] as const).entries()) {
        const { server, titan } = yield* serve(port, path)
        if (i > 0) assert.strictEqual((yield* titan("get", "k")).stdout, "v")
        else assert.strictEqual((yield* titan("put", "k", "v")).code, 0)
        server.process.kill(signal)
        server.process.kill(signal === "SIGTERM" ? "SIGINT" : "SIGTERM")
        assert.strictEqual((yield* server.ended).code, 0)
      }
    }))

  it.live("a directory in use and a port in use end with 1 and a message that says what to do", () =>
    Effect.gen(function*() {
      const port = yield* Titan.freePorts(1)
      const path = yield* Titan.directory
      yield* serve(port, path)
      const peers = ["--id", "n1", "--peer", `n1=http://127.0.0.1:${port}`]
      const locked = yield* Titan.run(["serve", ...peers, "--data-dir", path])
      assert.strictEqual(locked.code, 1)
      assert.match(locked.stderr, /^titan: .*in use by process/)
      assert.notMatch(locked.stderr, stackTrace)
      const taken = yield* Titan.run(["serve", ...peers, "--data-dir", yield* Titan.directory])
      assert.strictEqual(taken.code, 1)
      assert.include(taken.stderr, `cannot listen on 127.0.0.1:${port}: the port is in use`)
      assert.notMatch(taken.stderr, stackTrace)
    }))
})

describe("a member of a cluster of three", () => {
  const peersOf = (port: number) =>
    ["n1", "n2", "n3"].flatMap((id, i) => ["--peer", `${id}=http://127.0.0.1:${port + i}`])

  it.live("needs no --peer for those whose addresses its data directory knows", () =>
    Effect.gen(function*() {
      const port = yield* Titan.freePorts(3)
      const path = yield* Titan.directory
      const args = (count: number) => ["serve", "--id", "n1", "--data-dir", path, ...peersOf(port).slice(0, 2 * count)]
      for (const count of [3, 2]) {
        const running = yield* Titan.start(args(count))
        yield* running.printed(/listening/)
        running.process.kill("SIGTERM")
        assert.strictEqual((yield* running.ended).code, 0)
      }
    }))

  it.live("starts without the addresses of some members, and warns of them", () =>
    Effect.gen(function*() {
      const port = yield* Titan.freePorts(3)
      const path = yield* Titan.directory
      // As a directory is that was made with a transport which finds servers by name.
      yield* Effect.flatMap(Storage, (storage) => storage.recover(Configuration.ofVoters(["n1", "n2", "n3"]))).pipe(
        Effect.provide(StorageFile.layer({ directory: path, clusterId: "c", nodeId: "n1" }))
      )
      const running = yield* Titan.start(["serve", "--id", "n1", "--data-dir", path, ...peersOf(port).slice(0, 4)])
      yield* running.printed(/members whose address nobody said are not reached: .* members=n3/)
      yield* running.printed(/listening/)
    }))

  it.live("sends nobody to an address where it was refused", () =>
    Effect.gen(function*() {
      const port = yield* Titan.freePorts(4)
      const foreign = yield* serve(port + 3, yield* Titan.directory)
      const urls = ["n1", "n2", "n3"].map((id, i) => `${id}=http://127.0.0.1:${port + i}`)
      const server = Effect.fnUntraced(function*(id: string, path: string, peers: ReadonlyArray<string>) {
        const running = yield* Titan.start(
          ["serve", "--id", id, "--data-dir", path, ...peers.flatMap((peer) => ["--peer", peer])]
        )
        yield* running.printed(/leads the cluster|follows a leader/)
        return running
      })
      const paths = [yield* Titan.directory, yield* Titan.directory, yield* Titan.directory]
      const starting = yield* Effect.forEach(["n1", "n2", "n3"], (id, i) => server(id, paths[i] ?? "", urls), {
        concurrency: 3
      })
      const url = `http://127.0.0.1:${port}`
      const { stdout } = yield* Titan.run(["status", "--endpoint", url, "--json"])
      const leader = /"leader":\{"id":"(n\d)"/.exec(stdout)?.[1] ?? ""
      const follower = leader === "n1" ? "n2" : "n1"
      const at = Number(follower.slice(1)) - 1
      const mistaken = urls.map((peer) => peer.startsWith(leader) ? `${leader}=${foreign.url}` : peer)
      starting[at]?.process.kill("SIGKILL")
      const again = yield* server(follower, paths[at] ?? "", mistaken)
      yield* again.printed(/a peer refused this server/)
      const answer = yield* Effect.promise(() =>
        fetch(`http://127.0.0.1:${port + at}/v1/kv/k`, { method: "PUT", body: "x", redirect: "manual" })
      )
      assert.strictEqual(answer.status, 503)
      assert.strictEqual((yield* foreign.titan("get", "k")).code, 3)
    }))
})

describe("no server", () => {
  it.live("ends with 4; the message says not applied and why, for each endpoint; status marks them unreachable", () =>
    Effect.gen(function*() {
      const endpoint = `http://127.0.0.1:${yield* Titan.freePorts(1)}`
      const put = yield* Titan.run(["put", "k", "v", "--endpoint", endpoint, "--timeout-ms", "200"])
      assert.strictEqual(put.code, 4)
      assert.include(put.stderr, "not applied")
      assert.include(put.stderr, `${endpoint}: connect ECONNREFUSED`)
      const status = yield* Titan.run(["status"], { env: { TITAN_ENDPOINTS: endpoint } })
      assert.strictEqual(status.code, 4)
      assert.include(status.stdout, "unreachable")
    }))
})

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

const gone = (pids: ReadonlyArray<number>) =>
  Effect.gen(function*() {
    while (pids.some(isAlive)) yield* Effect.sleep("10 millis")
  })

describe("titan dev", () => {
  const dev = Effect.gen(function*() {
    const port = yield* Titan.freePorts(3)
    const path = yield* Titan.directory
    const args = ["dev", "--port", String(port), "--data-dir", path]
    const cluster = yield* Titan.start(args)
    const printed = yield* cluster.printed(/-X DELETE/)
    const endpoints = [0, 1, 2].flatMap((i) => ["--endpoint", `http://127.0.0.1:${port + i}`])
    return { args, cluster, endpoints, port, printed }
  })

  /** The servers' processes. */
  const pids = (parent: number | undefined) =>
    Effect.callback<ReadonlyArray<number>>((resume) => {
      execFile("ps", ["-o", "pid=", "--ppid", String(parent)], (_, stdout) => {
        resume(Effect.succeed(stdout.trim().split(/\s+/).map(Number)))
      })
    })

  it.live("runs three servers, prints URLs and curl lines, and Ctrl-C stops all of them with exit code 0", () =>
    Effect.gen(function*() {
      const { args, cluster, endpoints, port, printed } = yield* dev
      for (const i of [0, 1, 2]) assert.include(printed, `n${i + 1}  http://127.0.0.1:${port + i}`)
      assert.include(printed, `curl -L -X PUT --data-binary hello http://127.0.0.1:${port}/v1/kv/greeting`)
      assert.strictEqual((yield* Titan.run(["put", "k", "v", ...endpoints])).code, 0)
      const second = yield* Titan.run(args)
      assert.strictEqual(second.code, 1)
      assert.include(second.stderr, `port ${port} cannot be used`)
      const servers = yield* pids(cluster.process.pid)
      assert.strictEqual(servers.length, 3)
      const leaders = (text: string) => text.match(/leads the cluster/g)?.length
      const before = leaders(yield* cluster.printed(/leads the cluster/))
      cluster.process.kill("SIGINT")
      const { code, stderr, stdout } = yield* cluster.ended
      assert.strictEqual(code, 0)
      assert.deepStrictEqual(servers.filter(isAlive), [])
      // They stop together: nobody hands over to one that stops next.
      assert.strictEqual(leaders(stdout + stderr), before)
    }))

  it.live("a server that dies is reported and the others go on; servers do not outlive a parent that is killed", () =>
    Effect.gen(function*() {
      const { cluster, endpoints } = yield* dev
      const servers = yield* pids(cluster.process.pid)
      assert.strictEqual(servers.length, 3)
      process.kill(servers[0] ?? 0, "SIGKILL")
      yield* cluster.printed(/n[123] was stopped by SIGKILL; the others go on/)
      assert.strictEqual((yield* Titan.run(["put", "k", "v", ...endpoints])).code, 0)
      cluster.process.kill("SIGKILL")
      yield* gone(servers)
    }))
})
