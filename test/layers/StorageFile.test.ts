import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { type ChildProcess, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Process from "node:process"
import { pathToFileURL } from "node:url"
import { crc32 } from "node:zlib"
import * as StorageFile from "../../src/layers/StorageFile.ts"
import * as Record from "../../src/layers/wal/Record.ts"
import * as Segment from "../../src/layers/wal/Segment.ts"
import { snapshotContract } from "../contracts/snapshots.ts"
import { entriesOf, entryAt, initial, plain, reopen, session, storageContract, writeOf } from "../contracts/storage.ts"
import { storageWalk } from "../contracts/storageWalk.ts"
import {
  changed,
  failing,
  imageOf,
  isSameImage,
  restore,
  temporaryDirectory,
  watchChanges
} from "./storageDirectory.ts"

const layerOf = (directory: string, options?: Partial<StorageFile.Options>) =>
  StorageFile.layer({ directory, clusterId: "c1", nodeId: "n1", segmentBytes: 5120, ...options })

const harness = Effect.map(
  temporaryDirectory,
  (directory) => ({ layer: layerOf(Path.join(directory, "made", "here")) })
)

storageContract("StorageFile", harness)
snapshotContract("StorageFile", harness)
storageWalk("StorageFile", harness, 12)

const firstFile = "000000000000001.wal"

describe("StorageFile", () => {
  it.live("keeps everything over many small segments, and leaves only whole ones behind", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      for (let round = 0; round < 3; round++) {
        yield* session(layerOf(directory), (storage) =>
          Effect.gen(function*() {
            for (let i = round * 30 + 1; i <= round * 30 + 30; i++) {
              yield* storage.persist(writeOf([entryAt(round + 1, i, i * 7)], { term: i, votedFor: "n2" }))
            }
          }))
      }
      const names = Fs.readdirSync(directory)
      assert.isAbove(names.length, 20)
      assert.isTrue(names.every((name) => /^\d{15}\.wal$/.test(name)), names.join())
      const recovered = yield* reopen(layerOf(directory))
      const expected = Array.from({ length: 90 }, (_, i) => entryAt(Math.floor(i / 30) + 1, i + 1, (i + 1) * 7))
      assert.deepStrictEqual(plain(recovered.entries), plain(expected))
      assert.deepStrictEqual(recovered.hardState, { term: 90, votedFor: "n2" })
    }))

  it.live("gives a write that is larger than a segment a larger segment", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const large = entryAt(1, 2, 3_000_000)
      yield* session(layerOf(directory), (storage) =>
        Effect.gen(function*() {
          for (const entry of [entryAt(1, 1), large, entryAt(1, 3)]) yield* storage.persist(writeOf([entry]))
        }))
      const recovered = yield* reopen(layerOf(directory))
      assert.deepStrictEqual(plain(recovered.entries), plain([entryAt(1, 1), large, entryAt(1, 3)]))
    }))

  it.live("acknowledges after one write call and one sync; opening it writes the last record again", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const changes = yield* watchChanges
      const told = () => changes.splice(0).map(({ _tag, name }) => `${_tag} ${name}`)
      const name = Path.basename(directory)
      yield* session(layerOf(directory), (storage) =>
        Effect.gen(function*() {
          const parent = `Sync ${Path.basename(Path.dirname(directory))}`
          const first = [parent, "Create 0.tmp", "Write 0.tmp", "Sync 0.tmp", "Sync 0.tmp", "Write 0.tmp", "Sync 0.tmp"]
          const named = ["Rename 0.tmp", `Sync ${name}`, `Sync ${firstFile}`, `Sync ${name}`]
          assert.deepStrictEqual(told(), [...first, ...named, `Write ${firstFile}`, `Sync ${firstFile}`])
          yield* storage.persist(writeOf(entriesOf(1, 1, 3), { term: 1, votedFor: "n1" }))
          assert.deepStrictEqual(told(), [`Write ${firstFile}`, `Sync ${firstFile}`])
          yield* storage.persist(writeOf([]))
          assert.deepStrictEqual(told(), [])
          yield* storage.persist(writeOf([entryAt(1, 4, 1000)]))
          const next = ["Create 1.tmp", "Write 1.tmp", "Sync 1.tmp", "Sync 1.tmp", "Write 1.tmp", "Sync 1.tmp"]
          const written = ["Write 000000000000003.wal", "Sync 000000000000003.wal"]
          assert.deepStrictEqual(told(), [...next, "Rename 1.tmp", `Sync ${name}`, ...written])
        }))
      told()
      const bytes = Fs.readFileSync(Path.join(directory, "000000000000003.wal"))
      yield* session(layerOf(directory), () =>
        Effect.sync(() => {
          const [rewritten, synced, whole, named, ...others] = changes.splice(0)
          if (rewritten?._tag !== "Write") return assert.fail("nothing was written")
          const { bytes: again, position } = rewritten
          assert.isTrue(again.equals(bytes.subarray(position, position + again.length)))
          assert.deepStrictEqual([synced?._tag, whole?._tag], ["Sync", "Sync"])
          assert.deepStrictEqual(named, { _tag: "Sync", name })
          assert.deepStrictEqual(others, [])
        }))
    }))

  it.live("begins each segment with the hard state and the configuration, so that older ones can be dropped", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* session(layerOf(directory), (storage) =>
        Effect.gen(function*() {
          yield* storage.persist(writeOf([], { term: 1, votedFor: "n3" }))
          for (let i = 1; i <= 9; i++) yield* storage.persist(writeOf([entryAt(1, i, 500)]))
        }))
      const paths = Fs.readdirSync(directory).slice(1).map((name) => Path.join(directory, name))
      assert.isAbove(paths.length, 2)
      for (const path of paths) {
        const header = yield* Segment.readHeader(path)
        const found = Record.decode(yield* Segment.readAll(path, header), Segment.headerBytes, header.mark)
        const { configuration, hardState } = found._tag === "Whole" ? found.parts : assert.fail(found.problem)
        assert.deepStrictEqual({ configuration, hardState }, {
          configuration: initial,
          hardState: { term: 1, votedFor: "n3" }
        })
      }
    }))

  it.live("deletes what a crash left of a segment that was never used", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      Fs.writeFileSync(Path.join(directory, "0.tmp"), "a crash while the first segment was made")
      yield* session(layerOf(directory), (storage) => storage.persist(writeOf(entriesOf(1, 1, 1))))
      Fs.writeFileSync(Path.join(directory, "1.tmp"), "a crash while the next segment was made")
      assert.deepStrictEqual(plain((yield* reopen(layerOf(directory))).entries), plain(entriesOf(1, 1, 1)))
      assert.deepStrictEqual(Fs.readdirSync(directory), [firstFile])
    }))

  it.live("keeps the cluster id it was made with, and says so when another one is asked for", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* reopen(layerOf(directory))
      const lines: Array<string> = []
      const logger = Logger.map(Logger.formatJson, (line) => void lines.push(line))
      const identity = yield* session(
        layerOf(directory, { clusterId: "c2" }),
        (storage) => Effect.succeed(storage.identity)
      ).pipe(Effect.provide(Logger.layer([logger])))
      assert.deepInclude(identity, { clusterId: "c1", nodeId: "n1" })
      assert.strictEqual(lines.length, 1)
      assert.include(lines[0], "its id stays")
      assert.include(lines[0], "\"cluster\":\"c1\"")
    }))

  it.live("is refused where no directory can be: in /proc, below a file, and in place of one", () =>
    Effect.gen(function*() {
      const file = Path.join(yield* temporaryDirectory, "file")
      Fs.writeFileSync(file, "")
      for (const directory of ["/proc/nope/deeper", Path.join(file, "below"), file]) {
        const error = yield* Effect.flip(Effect.scoped(Layer.build(layerOf(directory))))
        assert.strictEqual(error.reason, "Failed")
        assert.include(error.message, "hoose another")
      }
    }))
})

describe("StorageFile refuses, and leaves as it was,", () => {
  const refused = Effect.fnUntraced(function*(directory: string, options?: Partial<StorageFile.Options>) {
    const image = imageOf(directory)
    const error = yield* Effect.flip(reopen(layerOf(directory, options)))
    assert.isTrue(isSameImage(imageOf(directory), image), "the refused directory was changed")
    return error
  })

  it.live("the directory of another server", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* reopen(layerOf(directory))
      const error = yield* refused(directory, { nodeId: "n2" })
      assert.strictEqual(error.reason, "Foreign")
      assert.include(error.message, "belongs to server n1 of cluster c1, not to server n2")
    }))

  for (
    const [whose, cluster] of [["another cluster", "c2"], ["the server's own, of another directory,", "c1"]] as const
  ) {
    it.live(`a directory with a segment of ${whose} among its own`, () =>
      Effect.gen(function*() {
        const [one, other] = [yield* temporaryDirectory, yield* temporaryDirectory]
        const fill = (directory: string, clusterId: string) =>
          session(layerOf(directory, { clusterId }), (storage) =>
            Effect.gen(function*() {
              for (let i = 1; i <= 4; i++) yield* storage.persist(writeOf([entryAt(1, i, 600)]))
            }))
        yield* fill(one, "c1")
        yield* fill(other, cluster)
        const name = Fs.readdirSync(one).at(-1) ?? ""
        Fs.copyFileSync(Path.join(other, name), Path.join(one, name))
        assert.strictEqual((yield* refused(one)).reason, "Foreign")
      }))
  }

  it.live("a format version that it does not know", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* reopen(layerOf(directory))
      const later = changed(imageOf(directory), firstFile, (bytes) => {
        bytes.writeUInt32BE(1, 8)
        bytes.writeUInt32BE(crc32(bytes.subarray(16, 4096), crc32(bytes.subarray(0, 12))), 12)
      })
      restore(directory, later)
      const error = yield* refused(directory)
      assert.strictEqual(error.reason, "Unsupported")
      assert.include(error.message, "format version 1")
    }))

  it.live("a damaged log", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* reopen(layerOf(directory))
      Fs.writeFileSync(Path.join(directory, "1.tmp"), "left by a crash")
      restore(directory, changed(imageOf(directory), firstFile, (bytes) => void bytes.fill(1, 4100, 4104)))
      assert.strictEqual((yield* refused(directory)).reason, "Corrupt")
    }))

  it.live("a server without a name", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      assert.strictEqual((yield* refused(directory, { nodeId: "" })).reason, "Failed")
      assert.strictEqual((yield* refused(directory, { clusterId: "c".repeat(2000) })).reason, "Failed")
    }))
})

describe("StorageFile, when the disk fails", () => {
  const cases = [["write", "EIO", "Failed"], ["write", "ENOSPC", "DiskFull"]] as const

  for (const [call, code, reason] of cases) {
    it.live(`fails with ${reason} after ${code} from ${call}, and tries nothing again`, () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        yield* session(layerOf(directory), (storage) =>
          Effect.gen(function*() {
            yield* storage.persist(writeOf(entriesOf(1, 1, 1)))
            const calls = yield* Effect.scoped(Effect.gen(function*() {
              const injected = yield* failing(call, code)
              const error = yield* Effect.flip(storage.persist(writeOf(entriesOf(1, 2, 2))))
              assert.strictEqual(error.reason, reason)
              assert.include(error.message, code)
              yield* Effect.flip(storage.persist(writeOf(entriesOf(1, 2, 2))))
              return injected.calls()
            }))
            assert.strictEqual(calls, 1)
            // The disk works again, and still nothing is written: what it holds is not known.
            const image = imageOf(directory)
            for (const write of [writeOf(entriesOf(1, 2, 2)), writeOf([])]) {
              assert.strictEqual((yield* Effect.flip(storage.persist(write))).reason, reason)
            }
            assert.isTrue(isSameImage(imageOf(directory), image))
          }))
        const { entries } = yield* reopen(layerOf(directory))
        assert.deepStrictEqual(plain(entries.slice(0, 1)), plain(entriesOf(1, 1, 1)))
      }))
  }

  it.live("fails when there is no room for the next segment, and recovers what was acknowledged", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* session(layerOf(directory), (storage) =>
        Effect.scoped(Effect.gen(function*() {
          yield* storage.persist(writeOf([entryAt(1, 1, 100)]))
          yield* failing("write", "ENOSPC", (_fd, _bytes, _offset, length) => Number(length) <= 5120)
          const error = yield* Effect.flip(storage.persist(writeOf([entryAt(1, 2, 9000)])))
          assert.strictEqual(error.reason, "DiskFull")
          assert.strictEqual((yield* Effect.flip(storage.persist(writeOf([])))).reason, "DiskFull")
        })))
      assert.deepStrictEqual(plain((yield* reopen(layerOf(directory))).entries), plain([entryAt(1, 1, 100)]))
      assert.deepStrictEqual(Fs.readdirSync(directory), [firstFile])
    }))
})

describe("StorageFile's lock", () => {
  const source = pathToFileURL(Path.resolve("src/layers/StorageFile.ts")).href
  const holderProgram = (directory: string) => `
    import * as Effect from "effect/Effect"
    import * as Layer from "effect/Layer"
    const StorageFile = await import(${JSON.stringify(source)})
    const layer = StorageFile.layer({ directory: ${JSON.stringify(directory)}, clusterId: "c1", nodeId: "n1" })
    const opened = Effect.sync(() => process.stdout.write("opened"))
    setInterval(() => {}, 1 << 30)
    Effect.runFork(Effect.scoped(Effect.andThen(Layer.build(layer), Effect.andThen(opened, Effect.never))))
  `

  /** A process that has the directory open. */
  const holder = (directory: string) =>
    Effect.acquireRelease(
      Effect.callback<ChildProcess>((resume) => {
        const child = spawn(Process.execPath, ["--input-type=module", "-e", holderProgram(directory)])
        child.stdout.once("data", () => resume(Effect.succeed(child)))
        child.once("exit", (code) => resume(Effect.die(new Error(`the holder ended with ${String(code)}`))))
      }),
      (child) => kill(child)
    )

  const kill = (child: ChildProcess): Effect.Effect<void> =>
    Effect.callback((resume) => {
      if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
      child.once("exit", () => resume(Effect.void))
      child.kill("SIGKILL")
    })

  it.live("keeps out a second process and names the first, until that is killed", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const child = yield* holder(directory)
      const error = yield* Effect.flip(reopen(layerOf(directory)))
      assert.strictEqual(error.reason, "Locked")
      if (Process.platform === "linux") assert.include(error.message, `in use by process ${String(child.pid)}`)
      yield* kill(child)
      yield* reopen(layerOf(directory))
    }))

  it.live("says so when the directory is already open in this process, by whatever name", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const alias = `${directory}-alias`
      yield* Effect.acquireRelease(
        Effect.sync(() => Fs.symlinkSync(directory, alias)),
        () => Effect.sync(() => Fs.unlinkSync(alias))
      )
      const error = yield* session(layerOf(directory), () => Effect.flip(reopen(layerOf(alias))))
      assert.strictEqual(error.reason, "Locked")
      if (Process.platform === "linux") assert.include(error.message, "this very process")
    }))

  it.live.skipIf(Process.platform !== "linux")(
    "holds where abstract sockets do not reach: it is an flock, too",
    () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const outside = spawn("flock", ["-n", directory, "cat"], { stdio: ["pipe", "pipe", "ignore"] })
        yield* Effect.callback<void>((resume) => {
          outside.stdout.once("data", () => resume(Effect.void))
          outside.stdin.write("locked")
        })
        const error = yield* Effect.flip(reopen(layerOf(directory)))
        assert.strictEqual(error.reason, "Locked")
        assert.deepStrictEqual(Fs.readdirSync(directory), [])
        yield* Effect.callback<void>((resume) => {
          outside.once("exit", () => resume(Effect.void))
          outside.stdin.end()
        })
        yield* reopen(layerOf(directory))
      })
  )
})
