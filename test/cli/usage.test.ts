import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFileSync } from "node:child_process"
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { clusterIdOf } from "../../src/cli/Cluster.ts"
import { version } from "../../src/services/ServerStatus.ts"
import * as Titan from "./titan.ts"

const peer = "n1=http://127.0.0.1:7101"
const stackTrace = /\n\s+at /

describe("usage errors", () => {
  const cases: ReadonlyArray<[string, ReadonlyArray<string>, string]> = [
    ["an unknown command", ["bogus"], "bogus"],
    ["an unknown flag", ["get", "k", "--bogus"], "--bogus"],
    ["a missing argument", ["get"], "KEY"],
    ["a missing id", ["serve"], "--id"],
    ["a recovery that says not into what", ["recover", "--data-dir", "d"], "--as-single-node is needed"],
    ["no peers", ["serve", "--id", "n1"], "--peer"],
    [
      "a peer named twice",
      ["serve", "--id", "n1", "--peer", peer, "--peer", "n1=http://127.0.0.1:7102"],
      "n1 is named twice"
    ],
    [
      "two peers at one URL",
      ["serve", "--id", "n1", "--peer", peer, "--peer", "n2=http://127.0.0.1:7101"],
      "n1 and n2 have the same URL"
    ],
    ["peers without this server", ["serve", "--id", "n2", "--peer", peer], "n2 itself is missing"],
    ["a peer that is no URL", ["serve", "--id", "n1", "--peer", "n1=nowhere"], "not a URL"],
    ["a peer without an id", ["serve", "--id", "n1", "--peer", "http://127.0.0.1:7101"], "ID=URL"],
    ["a server of nowhere", ["serve", "--id", "n4", "--join", "http://127.0.0.1:7101"], "--listen HOST:PORT is needed"],
    [
      "a cluster of nowhere",
      ["serve", "--id", "n4", "--listen", "127.0.0.1:7104", "--join", "n1"],
      "--join n1: must be a URL"
    ],
    [
      "a place to listen that says not where it is",
      ["serve", "--id", "n4", "--listen", "0.0.0.0:7104", "--join", "http://127.0.0.1:7101"],
      "add --peer n4=http://HOST:7104"
    ],
    [
      "a server that joins and names others",
      ["serve", "--id", "n4", "--listen", "127.0.0.1:7104", "--join", "http://127.0.0.1:7101", "--peer", peer],
      "learns from the cluster who its members are"
    ],
    [
      "a server that joins itself",
      ["serve", "--id", "n4", "--listen", "127.0.0.1:7104", "--join", "http://127.0.0.1:7104"],
      "that is n4 itself"
    ],
    [
      "another port than the others are told",
      [
        "serve",
        "--id",
        "n4",
        "--listen",
        "127.0.0.1:7105",
        "--join",
        "http://127.0.0.1:7101",
        "--peer",
        "n4=http://h:7104"
      ],
      "--listen has port 7105"
    ],
    [
      "a learner that begins a cluster",
      ["serve", "--id", "n1", "--peer", peer, "--learner"],
      "--learner: only with --join"
    ],
    ["no room for a session", ["serve", "--id", "n1", "--peer", peer, "--sessions", "0"], "--sessions"],
    ["a member's id that is none", ["member", "remove", "a b"], "a b: an id has 1 to 64 characters"],
    ["a member that is nowhere", ["member", "add", "n4", "n4:7104"], "n4:7104: must be a URL"],
    ["a member without a URL", ["member", "add", "n4"], "URL"],
    ["a server in its own place", ["member", "replace", "n3", "n3=http://127.0.0.1:7103"], "needs a new id"],
    ["a server in a place that is none", ["member", "replace", "n3", "n4=7104"], "7104: must be a URL"],
    ["an unknown command of members", ["member", "burn", "n1"], "burn"],
    ["a leader that is none", ["transfer-leader", "a b"], "a b: an id has 1 to 64 characters"],
    ["a bad id", ["serve", "--id", "a b", "--peer", peer], "--id a b"],
    ["a bad place to listen", ["serve", "--id", "n1", "--peer", peer, "--listen", "7101"], "HOST:PORT"],
    ["another port than the others use", ["serve", "--id", "n1", "--peer", peer, "--listen", "127.0.0.1:7102"], "7102"],
    ["a bad election timeout", ["serve", "--id", "n1", "--peer", peer, "--election-timeout-ms", "fast"], "MIN-MAX"],
    ["settings that cannot work", ["serve", "--id", "n1", "--peer", peer, "--heartbeat-ms", "140"], "140"],
    ["a number that is none", ["get", "k", "--timeout-ms", "soon"], "--timeout-ms"],
    ["an empty key", ["get", ""], "must not be empty"],
    ["a key that is too long", ["put", "k".repeat(4097), "v"], "4096"],
    ["a negative revision", ["put", "k", "v", "--if-revision", "-1"], "--if-revision"],
    ["a bad endpoint", ["get", "k", "--endpoint", "localhost"], "--endpoint localhost"],
    ["a limit of nothing", ["list", "--limit", "0"], "--limit"],
    ["no servers", ["dev", "--nodes", "0"], "--nodes"],
    ["settings that no server of dev could work with", ["dev", "--snapshot-entries", "0"], "--snapshot-entries"],
    ["no room for a snapshot", ["serve", "--id", "n1", "--peer", peer, "--snapshot-bytes", "0"], "--snapshot-bytes"],
    ["too large a piece", ["serve", "--id", "n1", "--peer", peer, "--snapshot-chunk-bytes", "9999999"], "9999999"],
    ["clocks that are none", ["serve", "--id", "n1", "--peer", peer, "--clock-drift-percent", "100"], "(100)"],
    ["a consistency there is not", ["get", "k", "--consistency", "eventual"], "--consistency"],
    ["a min-index without stale", ["list", "--min-index", "3"], "--min-index: only with --consistency stale"],
    ["a negative min-index", ["get", "k", "--consistency", "stale", "--min-index", "-1"], "--min-index -1"],
    ["an unknown command of snapshots", ["snapshot", "burn"], "burn"],
    ["a file of settings that is not there", ["status", "--config", "/nowhere.toml"], "/nowhere.toml"]
  ]
  for (const [what, args, named] of cases) {
    it.live(`${what} ends with exit code 2 and a message on stderr that names it`, () =>
      Effect.gen(function*() {
        const { code, stderr, stdout } = yield* Titan.run(args)
        assert.strictEqual(code, 2, stderr)
        assert.include(stderr, named)
        assert.notMatch(stderr, stackTrace)
        assert.strictEqual(stdout, "")
      }))
  }

  it.live("a value from stdin that no server takes is refused before it is sent", () =>
    Effect.gen(function*() {
      const { code, stderr } = yield* Titan.run(["put", "k", "-"], { stdin: "x".repeat((8 << 20) + 1) })
      assert.strictEqual(code, 2)
      assert.include(stderr, "8388608")
    }))
})

describe("where settings come from", () => {
  const heartbeat = (
    path: string,
    given: { readonly flag?: string; readonly env?: string; readonly file?: string; readonly json?: boolean }
  ) =>
    Effect.gen(function*() {
      const file = join(path, given.json === true ? "titan.json" : "titan.toml")
      if (given.file !== undefined) {
        writeFileSync(file, given.json === true ? `{"heartbeat-ms": ${given.file}}` : `heartbeat-ms = ${given.file}\n`)
      }
      const args = ["serve", "--id", "n1", "--peer", peer, ...(given.file === undefined ? [] : ["--config", file])]
      const { stderr } = yield* Titan.run(
        given.flag === undefined ? args : [...args, "--heartbeat-ms", given.flag],
        { env: given.env === undefined ? {} : { TITAN_HEARTBEAT_MS: given.env } }
      )
      return /--heartbeat-ms \((\d+)\)/.exec(stderr)?.[1]
    })

  it.live("a flag comes before TITAN_…, which comes before the file, TOML or JSON", () =>
    Effect.gen(function*() {
      const path = yield* Titan.directory
      assert.strictEqual(yield* heartbeat(path, { flag: "111", env: "112", file: "113" }), "111")
      assert.strictEqual(yield* heartbeat(path, { env: "112", file: "113" }), "112")
      assert.strictEqual(yield* heartbeat(path, { file: "113" }), "113")
      assert.strictEqual(yield* heartbeat(path, { file: "114", json: true }), "114")
    }))

  it.live("peers come from TITAN_PEERS, separated by commas, or from an array in the file", () =>
    Effect.gen(function*() {
      const path = yield* Titan.directory
      const file = join(path, "titan.toml")
      writeFileSync(file, "peers = [\"n8=http://127.0.0.1:1\", \"n9=http://127.0.0.1:2\"]\n")
      const fromFile = yield* Titan.run(["serve", "--id", "n1"], { env: { TITAN_CONFIG: file } })
      assert.include(fromFile.stderr, "there are n8, n9")
      const fromEnv = yield* Titan.run(["serve", "--id", "n1", "--config", file], {
        env: { TITAN_PEERS: "n6=http://127.0.0.1:1, n7=http://127.0.0.1:2" }
      })
      assert.include(fromEnv.stderr, "there are n6, n7")
    }))

  it.live("a setting that is on or off is true or false there, and anything else is a usage error", () =>
    Effect.gen(function*() {
      const path = yield* Titan.directory
      const file = join(path, "titan.toml")
      const serve = ["serve", "--id", "n1", "--peer", peer]
      // The drift is refused after the lease was understood.
      writeFileSync(file, "lease-reads = true\nclock-drift-percent = 100\n")
      assert.include((yield* Titan.run([...serve, "--config", file])).stderr, "--clock-drift-percent (100)")
      const unclear = yield* Titan.run(serve, { env: { TITAN_LEASE_READS: "perhaps" } })
      assert.strictEqual(unclear.code, 2)
      assert.include(unclear.stderr, "\"perhaps\". Expected: true or false")
    }))

  it.live("a setting that is one of a few words is one of them there, and anything else is a usage error that quotes it", () =>
    Effect.gen(function*() {
      const path = yield* Titan.directory
      const file = join(path, "titan.toml")
      writeFileSync(file, "peer-protocol = \"tcp\"\n")
      const serve = ["serve", "--id", "n1", "--peer", peer]
      const expected = "--peer-protocol: \"tcp\". Expected: one of rpc, frames"
      for (
        const { code, stderr } of [
          yield* Titan.run([...serve, "--config", file]),
          yield* Titan.run(serve, { env: { TITAN_PEER_PROTOCOL: "tcp" } }),
          yield* Titan.run([...serve, "--peer-protocol", "tcp"])
        ]
      ) {
        assert.strictEqual(code, 2)
        assert.include(stderr, expected)
      }
    }))

  it.live("a setting that does not exist is a usage error that names it", () =>
    Effect.gen(function*() {
      const path = yield* Titan.directory
      writeFileSync(join(path, "titan.json"), "{ \"hartbeat-ms\": 20 }")
      const { code, stderr } = yield* Titan.run(["status", "--config", join(path, "titan.json")])
      assert.strictEqual(code, 2)
      assert.include(stderr, "hartbeat-ms")
    }))
})

describe("the program itself", () => {
  it("has the version of package.json", () => {
    const { version: packaged } = JSON.parse(readFileSync(join(import.meta.dirname, "../../package.json"), "utf8")) as {
      version: string
    }
    assert.strictEqual(version, packaged)
  })

  it("gives a cluster the same id whatever the order of its peers, and another one for another name or URL", () => {
    const a = new Map([["n1", "http://a"], ["n2", "http://b"]])
    const b = new Map([["n2", "http://b"], ["n1", "http://a"]])
    assert.strictEqual(clusterIdOf("x", a), clusterIdOf("x", b))
    assert.notStrictEqual(clusterIdOf("x", a), clusterIdOf("y", a))
    assert.notStrictEqual(clusterIdOf("x", a), clusterIdOf("x", new Map([["n1", "http://a"], ["n2", "http://c"]])))
  })

  it.live("--help ends with 0 and shows the commands", () =>
    Effect.gen(function*() {
      const { code, stdout } = yield* Titan.run(["--help"])
      assert.strictEqual(code, 0)
      for (
        const name of [
          "serve",
          "dev",
          "put",
          "get",
          "delete",
          "list",
          "status",
          "member",
          "transfer-leader",
          "snapshot"
        ]
      ) {
        assert.match(stdout, new RegExp(`^ {2}${name} `, "m"))
      }
    }))

  const isOld = (path: string): boolean => {
    if (!existsSync(path)) return false
    const [major = 0] = execFileSync(path, ["--version"]).toString().slice(1).split(".").map(Number)
    return major < 22
  }
  const old = ["/usr/bin/node", "/usr/local/bin/node"].find(isOld)

  it.live.skipIf(old === undefined)(
    "on an old Node it prints one line that says which it needs, and ends with 2",
    () =>
      Effect.gen(function*() {
        const { code, stderr } = yield* Titan.run([], old === undefined ? {} : { node: old })
        assert.strictEqual(code, 2)
        assert.strictEqual(stderr.trim().split("\n").length, 1)
        assert.include(stderr, "22.19")
        assert.include(stderr, "npx node dist/main.js")
      })
  )
})
