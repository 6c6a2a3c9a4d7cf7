/**
 * Snapshots in the driver: what a state machine's copy says, what the disk keeps of it, and that it takes the place of the state at the right
 * moment, as a whole, once.
 */
import type { Canary } from "./canaries.ts"

const kvSnapshot = "test/layers/kvSnapshot.test.ts"
const snapshots = "test/services/snapshots.test.ts"

export const canaries: ReadonlyArray<Canary> = [
  {
    id: "B1a",
    rule: "snapshot",
    bug: "a snapshot claims one entry more than its state has applied",
    file: "src/services/Applier.ts",
    find: "Effect.succeed({ last, content })",
    replace: "Effect.succeed({ last: { ...last, index: last.index + 1 }, content })",
    caughtBy: "simulation",
    property: /^(?:a snapshot stands for committed entries|the contract of Storage is kept)/
  },
  {
    id: "B1b",
    rule: "snapshot",
    bug: "a snapshot claims one entry less than its state has applied",
    file: "src/services/Applier.ts",
    find: "Effect.succeed({ last, content })",
    replace: "Effect.succeed({ last: { ...last, index: last.index - 1 }, content })",
    caughtBy: "simulation",
    property: /./
  },
  {
    id: "B1c",
    rule: "snapshot",
    bug: "a snapshot ends in the term of the leader, not of its last entry",
    file: "src/services/Compactor.ts",
    find: "storage.saveSnapshot({ last, configuration",
    replace: "storage.saveSnapshot({ last: { ...last, term: state().term }, configuration",
    caughtBy: "simulation",
    property: /^a snapshot stands for committed entries/
  },
  {
    id: "B2a",
    rule: "snapshot",
    bug: "the store's snapshot is the live map, which later writes change",
    file: "src/layers/kv/Store.ts",
    find: "const copy = map.clone()",
    replace: "const copy = map",
    caughtBy: "tests",
    tests: [kvSnapshot],
    property: /does not change while every key is written or deleted between its pieces/
  },
  {
    id: "B2b",
    rule: "snapshot",
    bug: "what a restored store held before stays, unless the snapshot has it, too",
    file: "src/layers/kv/Store.ts",
    find: "const restored = emptyMap()",
    replace: "const restored = map",
    caughtBy: "simulation",
    property: /^(?:Liveness|Linearizability)/
  },
  {
    id: "B2c",
    rule: "snapshot",
    bug: "a restored store has forgotten its last revision",
    file: "src/layers/kv/Store.ts",
    find: "lastRevision = revision",
    replace: "void revision",
    caughtBy: "simulation",
    property: /^(?:Liveness|Linearizability|Revisions rise|a stale answer)/
  },
  {
    id: "B2d",
    rule: "snapshot",
    bug: "a snapshot of a reducer holds the state there is when it is read",
    file: "src/services/StateMachine.ts",
    find: "snapshot: Effect.sync(() => content.write(state)),",
    replace: "snapshot: Effect.sync(() => Stream.suspend(() => content.write(state))),",
    caughtBy: "tests",
    tests: ["test/services/statemachine.test.ts"],
    property: /snapshot/
  },
  {
    id: "B3a",
    rule: "snapshot",
    bug: "the state is restored before the installed snapshot is durable",
    file: "src/services/Interpreter.ts",
    find: "return persister.submit(emptyWrite, [command])",
    replace: `return command._tag === "Restore"
        ? Effect.sync(() => parts.applier.restore(command.last))
        : persister.submit(emptyWrite, [command])`,
    caughtBy: "simulation",
    property: /^(?:entries are applied in order, each once|no defects|Liveness)/
  },
  {
    id: "B3b",
    rule: "snapshot",
    bug: "an installed snapshot is not put in the place of the state",
    file: "src/services/Interpreter.ts",
    find: "return Effect.sync(() => parts.applier.restore(command.last))",
    replace: "return Effect.void",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "B3c",
    rule: "snapshot",
    bug: "what a restored snapshot stands for is applied once more",
    file: "src/services/Applier.ts",
    find: "    last = restored.last\n",
    replace: "    last = { ...to, index: to.index - 1 }\n",
    caughtBy: "simulation",
    property: /^(?:entries are applied in order, each once|no defects|Liveness)/
  },
  {
    id: "B3d",
    rule: "snapshot",
    bug: "the entry after a restored snapshot is passed over",
    file: "src/services/Applier.ts",
    find: "    last = restored.last\n",
    replace: "    last = { ...restored.last, index: restored.last.index + 1 }\n",
    caughtBy: "simulation",
    property: /./
  },
  {
    id: "B3f",
    rule: "snapshot",
    bug: "a server that restarts applies again what its snapshot stands for",
    file: "src/services/Applier.ts",
    find: "return { last: reader.snapshot.last, sessions: new Sessions(saved) }",
    replace: "return { last: { term: 0, index: reader.snapshot.last.index - 1 }, sessions: new Sessions(saved) }",
    caughtBy: "simulation",
    property: /^(?:entries are applied in order, each once|Liveness)/
  },
  {
    id: "B3g",
    rule: "snapshot",
    bug: "a server that restarts does not restore its snapshot",
    file: "src/services/RaftNode.ts",
    find: "const restored = recovered.snapshot.last.index > 0",
    replace: "const restored = recovered.snapshot.last.index < 0",
    caughtBy: "simulation",
    property: /^(?:entries are applied in order, each once|Liveness)/
  },
  {
    id: "B3h",
    rule: "snapshot",
    bug: "entries that an installed snapshot has replaced are looked for in the log",
    file: "src/services/Applier.ts",
    find: "if (from <= log.prev.index) return undefined",
    replace: "",
    caughtBy: "simulation",
    property: /^no defects/
  },
  {
    id: "B3i",
    rule: "R4",
    bug: "commands that a snapshot took the place of are reported as not applied",
    file: "src/services/Requests.ts",
    find: "for (const [, id] of replaced) this.#expireOne(id)",
    replace: `this.refuse(replaced.map(([, id]) => id), { _tag: "NotLeader", leaderId: undefined })`,
    caughtBy: "tests",
    tests: ["test/services/requests.test.ts"],
    property: /snapshot/
  },
  {
    id: "B4a",
    rule: "L6",
    bug: "a snapshot counts as taken before it is durable",
    file: "src/services/Compactor.ts",
    find: "    taken = yield* storage.saveSnapshot(",
    replace:
      `    offer({ _tag: "SnapshotTaken", snapshot: { last, configuration: configurationAt(state(), last.index), sizeBytes: 1 } })
    taken = yield* storage.saveSnapshot(`,
    caughtBy: "simulation",
    property: /./
  },
  {
    id: "B4b",
    rule: "L6",
    bug: "who asks for a snapshot is answered before it is durable",
    file: "src/services/Compactor.ts",
    find: "return answer(parts, job.taken, take(false))",
    replace: `Deferred.doneUnsafe(job.taken, Effect.succeed(state().snapshot))
        return answer(parts, job.taken, take(false))`,
    caughtBy: "tests",
    tests: ["test/services/compactor.test.ts", "test/services/snapshots.test.ts"],
    property: /asked/
  },
  {
    id: "B4c",
    rule: "snapshot",
    bug: "who asks for a snapshot gets the first that was ever asked for",
    file: "src/services/Compactor.ts",
    find: "        wanted = undefined\n",
    replace: "",
    caughtBy: "tests",
    tests: [snapshots],
    property: /takes a snapshot when it is asked to, and none where there is nothing new/
  },
  {
    id: "B4d",
    rule: "snapshot",
    bug: "a server whose own snapshot an installed one has overtaken never takes another",
    file: "src/services/Compactor.ts",
    find: `      offer({ _tag: "SnapshotFailed" })
      return latest`,
    replace: "      return latest",
    caughtBy: "tests",
    tests: ["test/services/compactor.test.ts"],
    property: /tells its core/
  },
  {
    id: "B5a",
    rule: "D4",
    bug: "a group of writes is merged across an installed snapshot",
    file: "src/services/Persister.ts",
    find: "if (bytes + size > groupBytesMax || job.write.install !== undefined) {",
    replace: "if (bytes + size > groupBytesMax) {",
    caughtBy: "simulation",
    property:
      /^(?:the contract of Storage is kept|no defects|a match is durable first|entries are applied in order, each once)/
  },
  {
    id: "B5b",
    rule: "D4",
    bug: "a merged write loses the snapshot that it installs",
    file: "src/domain/Command.ts",
    find: "const install = writes[0]?.install",
    replace: "const install = writes.length > 1 ? undefined : writes[0]?.install",
    caughtBy: "simulation",
    property: /^(?:the contract of Storage is kept|no defects|a match is durable first)/
  },
  {
    id: "B6b",
    rule: "snapshot",
    bug: "after a crash between an installed snapshot and the new beginning of the log, the old log goes on",
    file: "src/layers/StorageMemory.ts",
    find: "if (snapshot.last.index > 0 && !SnapshotFormat.isHeld(snapshot.last, disk.prev, disk.entries)) {",
    replace: "if (snapshot.last.index < 0) {",
    caughtBy: "tests",
    tests: ["test/layers/StorageMemory.test.ts", "test/layers/StorageMemorySnapshot.test.ts"],
    property: /half done/
  },
  {
    id: "B6c",
    rule: "snapshot",
    bug: "a log counts as that of the snapshot beside it if only it is long enough, whatever its terms",
    file: "src/layers/SnapshotFormat.ts",
    find: "(last.index === prev.index ? prev : entries[last.index - prev.index - 1])?.term === last.term",
    replace: "(last.index === prev.index ? prev : entries[last.index - prev.index - 1]) !== undefined",
    caughtBy: "tests",
    tests: ["test/layers/StorageMemory.test.ts", "test/layers/StorageMemorySnapshot.test.ts"],
    property: /long enough, and another one/
  },
  {
    id: "B6d",
    rule: "snapshot",
    bug: "the checksum of a snapshot is not compared",
    file: "src/layers/SnapshotFormat.ts",
    find: "if (trailer.readUInt32BE(6) !== crc) return",
    replace: "if (crc < 0) return",
    caughtBy: "simulation",
    property: /./
  },
  {
    id: "B6e",
    rule: "snapshot",
    bug: "a snapshot that has come in is not compared with what was announced",
    file: "src/layers/StorageMemory.ts",
    find: "const problem = SnapshotFormat.mismatch(checker.end(), snapshot, this.#disk.identity.clusterId)",
    replace: "const problem = checker.end() === undefined ? \"\" : undefined",
    caughtBy: "tests",
    tests: ["test/layers/StorageMemory.test.ts", "test/layers/StorageMemorySnapshot.test.ts"],
    property: /is not what was announced/
  },
  {
    id: "B6f",
    rule: "snapshot",
    bug: "a snapshot that a later one has overtaken takes its place",
    file: "src/layers/memory/Disk.ts",
    find: "  if (snapshot.last.index < disk.snapshot.last.index) return\n",
    replace: "",
    caughtBy: "tests",
    tests: ["test/layers/StorageMemory.test.ts", "test/layers/StorageMemorySnapshot.test.ts"],
    property: /reaches furthest/
  },
  {
    id: "B6g",
    rule: "M2",
    bug: "a disk whose log begins anew keeps the configuration of its old beginning",
    file: "src/layers/memory/Disk.ts",
    find: "  disk.configuration = configuration\n  disk.entries.length = 0",
    replace: "  disk.entries.length = 0",
    caughtBy: "tests",
    tests: ["test/layers/StorageMemory.test.ts", "test/layers/StorageMemorySnapshot.test.ts"],
    property: /does not keep the log empties it/
  }
]
