/**
 * A directory of one server of three becomes that of a cluster of one: with all that it had, whatever happens in the middle of it.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { make, ofVoters, unknown } from "../../src/domain/Configuration.ts"
import { command, type Entry, noop } from "../../src/domain/Entry.ts"
import * as LostQuorum from "../../src/layers/LostQuorum.ts"
import * as StorageFile from "../../src/layers/StorageFile.ts"
import * as File from "../../src/layers/wal/File.ts"
import type { StorageError } from "../../src/services/Storage.ts"
import { entriesOf, entryAt, reopen, session, writeOf } from "../contracts/storage.ts"
import { isSameTree, lossesOf, plant, type Tree, treeOf } from "./directoryTree.ts"
import { quietly, temporaryDirectory } from "./storageDirectory.ts"

const segmentBytes = 6144

const layerOf = (directory: string, clusterId = "c1") =>
  StorageFile.layer({ directory, clusterId, nodeId: "n1", segmentBytes })

const three = make({
  voters: ["n1", "n2", "n3"],
  addresses: new Map([["n1", "http://10.0.0.1:7101"], ["n2", "http://10.0.0.2:7101"]])
})
const four = make({ ...three, learners: ["n4"], joining: ["n4"] })

/** Entries of every kind, with changes of the configuration among them. */
const log: ReadonlyArray<Entry> = [
  { term: 2, index: 1, payload: noop },
  { term: 2, index: 2, payload: { _tag: "OpenSession", timeMs: 5, sessionsMax: 10, timeoutMs: 1000 } },
  {
    term: 2,
    index: 3,
    payload: {
      _tag: "SessionCommand",
      timeMs: 6,
      sequenced: { session: 2, sequence: 1, firstUnanswered: 1 },
      bytes: Buffer.from("once")
    }
  },
  { term: 2, index: 4, payload: { _tag: "Configuration", configuration: four } },
  { term: 4, index: 5, payload: command(Buffer.alloc(3000, "large")) },
  { term: 4, index: 6, payload: { _tag: "Configuration", configuration: three } },
  { term: 4, index: 7, payload: command(Buffer.from("perhaps never committed")) }
]

const withoutConfigurations = log.map((entry) =>
  entry.payload._tag === "Configuration" ? { ...entry, payload: noop } : entry
)

const content = Buffer.alloc(2000, "all that was applied")

/** Directories as servers leave them: what they hold, and what of the log is to be found again. */
const directories = {
  "with all of its log": {
    fill: (directory: string) =>
      session(layerOf(directory), (storage) => storage.persist(writeOf(log, { term: 6, votedFor: "n2" })), three),
    snapshot: undefined,
    entries: withoutConfigurations
  },
  "with a snapshot": {
    fill: (directory: string) =>
      session(layerOf(directory), (storage) =>
        Effect.gen(function*() {
          yield* storage.persist(writeOf(log, { term: 6, votedFor: "n2" }))
          yield* storage.saveSnapshot({ last: { term: 2, index: 4 }, configuration: four }, Stream.make(content))
          yield* storage.compact({ prev: { term: 2, index: 3 }, configuration: three })
        }), three),
    snapshot: { term: 2, index: 4 },
    entries: withoutConfigurations.slice(4)
  },
  "with nothing but a snapshot of a leader": {
    fill: (directory: string) =>
      Effect.gen(function*() {
        const other = yield* temporaryDirectory
        const bytes = yield* session(layerOf(other), (storage) =>
          Effect.gen(function*() {
            yield* storage.persist(writeOf(log))
            yield* storage.saveSnapshot({ last: { term: 4, index: 7 }, configuration: three }, Stream.make(content))
            const reader = yield* storage.openSnapshot
            return reader === undefined ? assert.fail("no snapshot") : yield* reader.read(0, 1 << 20)
          }), three)
        const snapshot = { last: { term: 4, index: 7 }, configuration: three, sizeBytes: bytes.length }
        yield* session(layerOf(directory), (storage) =>
          Effect.gen(function*() {
            yield* storage.persist(writeOf(entriesOf(1, 1, 2), { term: 6, votedFor: "n2" }))
            const writer = yield* storage.receiveSnapshot(snapshot)
            yield* writer.write(bytes)
            yield* writer.finish
            yield* storage.persist({ ...writeOf([]), install: { snapshot, keepsLog: false } })
          }), three)
      }),
    snapshot: { term: 4, index: 7 },
    entries: []
  }
} as const

const recovered = (directory: string) =>
  Effect.scoped(Effect.gen(function*() {
    const found = yield* LostQuorum.examine(directory)
    return found._tag === "Alone" ? found.held : yield* LostQuorum.recover(found, { segmentBytes })
  }))

/** Opens a recovered directory as its server would: it is alone, with all that there was. */
const isRecovered = Effect.fnUntraced(function*(
  directory: string,
  expected: { readonly snapshot: { readonly index: number } | undefined; readonly entries: ReadonlyArray<Entry> }
) {
  yield* session(layerOf(directory, "ignored"), (storage, found) =>
    Effect.gen(function*() {
      assert.match(storage.identity.clusterId, /^[0-9a-f]{16}$/)
      assert.isFalse(storage.knownDisks.isAdmitted)
      const alone = ofVoters(["n1"], new Map([["n1", "http://10.0.0.1:7101"]]))
      assert.deepStrictEqual(found.configuration, alone)
      assert.deepStrictEqual(found.hardState, { term: 7, votedFor: undefined })
      assert.isUndefined(found.damage)
      assert.deepStrictEqual(JSON.stringify(found.entries), JSON.stringify(expected.entries))
      assert.strictEqual(found.snapshot.last.index, expected.snapshot?.index ?? 0)
      if (expected.snapshot === undefined) return
      assert.deepStrictEqual(found.snapshot.configuration, alone)
      const reader = yield* storage.openSnapshot
      if (reader === undefined) return assert.fail("no snapshot")
      const pieces = yield* Stream.runCollect(reader.content)
      assert.isTrue(Buffer.concat([...pieces]).equals(content))
    })).pipe(quietly)
})

const below = (tree: Tree, name: string): Tree =>
  new Map(
    [...tree].flatMap(([path, bytes]) =>
      path.startsWith(`${name}/`) ? [[path.slice(name.length + 1), bytes] as const] : []
    )
  )

const refusal = (directory: string): Effect.Effect<StorageError> =>
  Effect.flip(Effect.scoped(LostQuorum.examine(directory))).pipe(Effect.orDie)

describe("the directory of one of three servers", () => {
  for (const [what, { fill, ...expected }] of Object.entries(directories)) {
    it.live(`${what} becomes that of a cluster of one, and is kept as it was beside it`, () =>
      Effect.gen(function*() {
        const root = yield* temporaryDirectory
        const directory = Path.join(root, "n1")
        yield* fill(directory)
        const before = treeOf(root)
        const found = yield* Effect.scoped(LostQuorum.examine(directory))
        assert.isTrue(isSameTree(treeOf(root), before), "to look at it changes nothing")
        if (found._tag !== "Member") return assert.fail(found._tag)
        assert.deepStrictEqual(LostQuorum.lastOf(found.held), { ...LostQuorum.lastOf(found.held), term: 4, index: 7 })
        yield* recovered(directory)
        yield* isRecovered(directory, expected)
        assert.strictEqual(found.backup, `${directory}.before-recovery`)
        assert.isTrue(isSameTree(below(treeOf(root), "n1.before-recovery"), below(before, "n1")))
        assert.sameMembers(Fs.readdirSync(root), ["n1", "n1.before-recovery"])
        // To do it again is nothing.
        assert.strictEqual((yield* Effect.scoped(LostQuorum.examine(directory)))._tag, "Alone")
      }))
  }

  // What is written of the third is written of the second, too.
  for (const [what, { fill, ...expected }] of Object.entries(directories).slice(0, 2)) {
    it.live(
      `${what} is in its place after a loss of power at any point, once it is recovered again`,
      () =>
        Effect.gen(function*() {
          const root = yield* temporaryDirectory
          const directory = Path.join(root, "n1")
          yield* fill(directory)
          const before = below(treeOf(root), "n1")
          const { trees } = yield* lossesOf(root, recovered(directory))
          assert.isAbove(trees.length, 15)
          const tags = new Set<string>()
          for (const [i, tree] of trees.entries()) {
            plant(root, tree)
            const { _tag } = yield* Effect.scoped(LostQuorum.examine(directory))
            tags.add(_tag)
            // Where its server would begin anew, it is told not to.
            const interrupted = yield* LostQuorum.interruptedAt(directory)
            assert.strictEqual(interrupted, _tag === "Interrupted" ? `${directory}.recovered` : undefined)
            yield* recovered(directory)
            yield* isRecovered(directory, expected)
            assert.sameMembers(Fs.readdirSync(root), ["n1", "n1.before-recovery"], `tree ${i}`)
            assert.isTrue(isSameTree(below(treeOf(root), "n1.before-recovery"), before), `tree ${i}`)
          }
          assert.sameMembers([...tags], ["Member", "Interrupted", "Alone"])
        }).pipe(quietly),
      120_000
    )
  }

  it.live("is written anew where a recovery was interrupted and its server has run since", () =>
    Effect.gen(function*() {
      const root = yield* temporaryDirectory
      const directory = Path.join(root, "n1")
      yield* directories["with all of its log"].fill(directory)
      const { trees } = yield* lossesOf(root, recovered(directory))
      const complete = trees.find((tree) => tree.has("n1.recovered") && tree.has("n1/000000000000001.wal"))
      plant(root, complete ?? assert.fail("no such tree"))
      const later = entryAt(4, 8)
      yield* session(layerOf(directory), (storage) => storage.persist(writeOf([later])))
      yield* recovered(directory)
      yield* isRecovered(directory, { snapshot: undefined, entries: [...withoutConfigurations, later] })
    }).pipe(quietly))

  it.live("is written anew whatever an earlier recovery has left beside it", () =>
    Effect.gen(function*() {
      const root = yield* temporaryDirectory
      const directory = Path.join(root, "n1")
      yield* directories["with all of its log"].fill(directory)
      for (const name of ["n1.recovering", "n1.recovered"]) {
        Fs.mkdirSync(Path.join(root, name))
        Fs.writeFileSync(Path.join(root, name, "000000000000001.wal"), "what a crash left")
      }
      yield* recovered(directory)
      yield* isRecovered(directory, directories["with all of its log"])
      assert.sameMembers(Fs.readdirSync(root), ["n1", "n1.before-recovery"])
    }).pipe(quietly))

  it.live("is found through a symbolic link, also when a recovery was interrupted", () =>
    Effect.gen(function*() {
      const root = yield* temporaryDirectory
      const [directory, link] = [Path.join(root, "n1"), Path.join(root, "link")]
      yield* directories["with all of its log"].fill(directory)
      Fs.symlinkSync("n1", link)
      const { directory: found } = yield* Effect.scoped(LostQuorum.examine(link))
      assert.strictEqual(found, directory)
      Fs.renameSync(directory, `${directory}.recovered`)
      assert.strictEqual((yield* Effect.scoped(LostQuorum.examine(link)))._tag, "Interrupted")
    }))

  it.live("keeps every earlier backup", () =>
    Effect.gen(function*() {
      const root = yield* temporaryDirectory
      const directory = Path.join(root, "n1")
      for (const backups of [["n1.before-recovery"], ["n1.before-recovery", "n1.before-recovery-2"]]) {
        Fs.rmSync(directory, { recursive: true, force: true })
        yield* directories["with all of its log"].fill(directory)
        yield* recovered(directory)
        assert.sameMembers(Fs.readdirSync(root), ["n1", ...backups])
      }
    }))
})

describe("what cannot be recovered is refused, and left as it was", () => {
  const refused = Effect.fnUntraced(function*(
    change: (directory: string) => Effect.Effect<unknown, StorageError>,
    fill: (directory: string) => Effect.Effect<unknown, StorageError> = directories["with all of its log"].fill
  ) {
    const directory = Path.join(yield* temporaryDirectory, "n1")
    yield* fill(directory)
    yield* change(directory)
    const before = treeOf(Path.dirname(directory))
    const error = yield* refusal(directory)
    assert.isTrue(isSameTree(treeOf(Path.dirname(directory)), before))
    assert.include(error.message, "Nothing was changed")
    return error
  })
  const damage = (pattern: RegExp, at: number) => (directory: string) =>
    Effect.sync(() => {
      const name = Fs.readdirSync(directory).find((one) => pattern.test(one)) ?? assert.fail("no such file")
      const bytes = Fs.readFileSync(Path.join(directory, name))
      bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
      Fs.writeFileSync(Path.join(directory, name), bytes)
    })
  const nothing = () => Effect.void

  it.live("no directory, an empty one, and those of servers that have nothing", () =>
    Effect.gen(function*() {
      const root = yield* temporaryDirectory
      assert.include((yield* refusal(Path.join(root, "none"))).message, "there is no ")
      assert.include((yield* refusal(root)).message, "holds no state of a server")
      for (const configuration of [unknown, three]) {
        const fresh = (directory: string) => reopen(layerOf(directory), configuration)
        assert.include((yield* refused(nothing, fresh)).message, "the log of n1")
      }
    }))

  it.live("a directory that its server runs on", () =>
    Effect.gen(function*() {
      const directory = Path.join(yield* temporaryDirectory, "n1")
      yield* directories["with all of its log"].fill(directory)
      const error = yield* session(layerOf(directory), () => refusal(directory))
      assert.strictEqual(error.reason, "Locked")
    }))

  it.live("damage of the log, of the snapshot that it goes on from, and of what is known of disks", () =>
    Effect.gen(function*() {
      const { fill } = directories["with a snapshot"]
      const knowing = (directory: string) =>
        Effect.andThen(
          fill(directory),
          session(layerOf(directory), (storage) => storage.rememberDisks({ isAdmitted: true, disks: new Map() }))
        )
      const inLog = yield* refused(damage(/wal$/, 4100))
      assert.deepInclude(inLog, { reason: "Corrupt" })
      assert.include(inLog.message, "is damaged at byte 4096")
      const inSnapshot = yield* refused(damage(/snapshot$/, 1000), fill)
      assert.deepInclude(inSnapshot, { reason: "Corrupt" })
      assert.include(inSnapshot.message, "Recover another server")
      assert.deepInclude(yield* refused(damage(/^disks$/, 30), knowing), { reason: "Corrupt" })
    }).pipe(quietly))

  it.live.skipIf(process.platform !== "linux")(
    "a mount point, since nothing can take its place",
    () =>
      Effect.gen(function*() {
        assert.isTrue(yield* File.isMountPoint("/proc"))
        assert.isFalse(yield* File.isMountPoint(yield* temporaryDirectory))
      })
  )
})
