/**
 * The five rules of durability (D1 to D5, docs/ARCHITECTURE.md, "Durability is a field"), and what the three loops promise: writes in order,
 * entries applied in order and once, callers answered rightly, time that only goes forward.
 */
import type { Canary } from "./canaries.ts"

const persister = "test/services/persister.test.ts"

export const canaries: ReadonlyArray<Canary> = [
  {
    id: "D1a",
    rule: "D1",
    bug: "what promises durability leaves beside the write, not after it",
    file: "src/domain/Step.ts",
    find: `commands.splice(at, 0, { _tag: "Persist", write, then: turn.promises })`,
    replace: `const own = turn.promises.filter((send) => send.to === after.id)
    const others = turn.promises.filter((send) => send.to !== after.id)
    commands.splice(at, 0, { _tag: "Persist", write, then: own }, ...others)`,
    caughtBy: "simulation",
    property: /^RequestVote waits for the disk \(L6, V1\)/
  },
  {
    id: "D1b",
    rule: "D1",
    bug: "entries leave for the followers only after the leader's own write",
    file: "src/domain/Pipeline.ts",
    find: `Turn.send(turn, to, {\n    _tag: "AppendEntries",`,
    replace: `Turn.promise(turn, to, {\n    _tag: "AppendEntries",`,
    caughtBy: "tests",
    tests: ["test/domain/commit.test.ts"],
    property: /entries leave for the followers while the leader's own write is under way/
  },
  {
    id: "D2a",
    rule: "D2",
    bug: "a promise without a write of its own waits for no earlier one",
    file: "src/domain/Step.ts",
    find: "if (!isEmptyWrite(write) || turn.promises.length > 0) {",
    replace: `if (isEmptyWrite(write)) commands.push(...turn.promises)
  else {`,
    caughtBy: "simulation",
    property: /^AppendEntriesResponse waits for the disk \(L6, V1\)/
  },
  {
    id: "D2b",
    rule: "D2",
    bug: "a barrier overtakes the writes that are under way",
    file: "src/services/Persister.ts",
    find: "if (outstanding === 0 && isEmptyWrite(write)) return releaseAll(then)",
    replace: "if (isEmptyWrite(write)) return releaseAll(then)",
    caughtBy: "simulation",
    property: /^(?:a match is durable first|Durability|no defects)/
  },
  {
    id: "D3a",
    rule: "D3",
    bug: "what a node says to itself goes to the network",
    file: "src/services/Interpreter.ts",
    find: "if (command.to !== parts.id) return parts.transport.send(command.to, command.message)\n",
    replace: "if (command.to !== undefined) return parts.transport.send(command.to, command.message)\n",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "D4a",
    rule: "D4",
    bug: "of writes that were merged only the last one's messages leave",
    file: "src/services/Persister.ts",
    find: "for (const job of group) yield* releaseAll(job.then)",
    replace: "for (const job of group.slice(-1)) yield* releaseAll(job.then)",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "D4b",
    rule: "D4",
    bug: "a merged write keeps what a later part of it cut",
    file: "src/domain/Command.ts",
    find: "while (entries.length > 0 && (entries[entries.length - 1]?.index ?? 0) >= start) entries.pop()",
    replace: "const held = entries.length === 0 ? start - 1 : entries[entries.length - 1]?.index ?? 0",
    caughtBy: "tests",
    tests: ["test/domain/writes.test.ts"],
    property: /merge, then write/
  },
  {
    id: "D4c",
    rule: "D4",
    bug: "a merged write has the entries of its last part only",
    file: "src/domain/Command.ts",
    find: "for (const write of withEntries) {",
    replace: "for (const write of withEntries.slice(-1)) {",
    caughtBy: "simulation",
    property: /^(?:Durability|what a leader takes for matched|the contract of Storage is kept|Liveness|Log Matching)/
  },
  {
    id: "D5a",
    rule: "D5",
    bug: "writes of a group are merged in the wrong order",
    file: "src/services/Persister.ts",
    find: "mergeWrites(group.map((job) => job.write))",
    replace: "mergeWrites(group.map((job) => job.write).toReversed())",
    caughtBy: "simulation",
    property: /^a (?:vote|term|match) is durable/
  },
  {
    id: "D5b",
    rule: "D5",
    bug: "what writes release leaves out of order",
    file: "src/services/Persister.ts",
    find: "for (const job of group) yield* releaseAll(job.then)",
    replace: "for (const job of group.toReversed()) yield* releaseAll(job.then)",
    caughtBy: "tests",
    tests: [persister],
    property: /releases in order only after it/
  },
  {
    id: "P1c",
    rule: "persist",
    bug: "of three writes that are merged the first is lost",
    file: "src/domain/Command.ts",
    find: "const withEntries = writes.filter((write) => write.entries.length > 0)",
    replace:
      "const withEntries = writes.filter((write, i) => write.entries.length > 0 && (i > 0 || writes.length < 3))",
    caughtBy: "simulation",
    property: /^(?:the contract of Storage is kept|a match is durable first)/
  },
  {
    id: "P1a",
    rule: "persist",
    bug: "the persist loop releases what waits, then writes",
    file: "src/services/Persister.ts",
    find: `      if (!isEmptyWrite(write)) yield* storage.persist(write)
      for (const job of group) yield* releaseAll(job.then)`,
    replace: `      for (const job of group) yield* releaseAll(job.then)
      if (!isEmptyWrite(write)) yield* storage.persist(write)`,
    caughtBy: "simulation",
    property: /^a (?:vote|term|match) is durable/
  },
  {
    id: "P1b",
    rule: "persist",
    bug: "the interpreter sends a write's promises at once",
    file: "src/services/Interpreter.ts",
    find: "return persister.submit(command.write, command.then)",
    replace: `return Effect.andThen(
        persister.submit(command.write, []),
        Effect.forEach(command.then, release(parts), { discard: true })
      )`,
    caughtBy: "simulation",
    property: /^a (?:vote|term|match) is durable/
  },
  {
    id: "A1a",
    rule: "apply",
    bug: "the last entry of a batch is applied again with the next one",
    file: "src/services/Applier.ts",
    find: "yield* applyBatch(parts, last, to)",
    replace: "yield* applyBatch(parts, { ...last, index: Math.max(0, last.index - 1) }, to)",
    caughtBy: "simulation",
    property: /^(?:entries are applied in order, each once|Liveness)/
  },
  {
    id: "A1b",
    rule: "apply",
    bug: "where several entries are due the first is passed over",
    file: "src/services/Applier.ts",
    find: "yield* applyBatch(parts, last, to)",
    replace: "yield* applyBatch(parts, { ...last, index: Math.min(last.index + 1, to - 1) }, to)",
    caughtBy: "simulation",
    property: /^(?:entries are applied in order, each once|Liveness)/
  },
  {
    id: "A1e",
    rule: "apply",
    bug: "one entry is never applied, by any node",
    file: "src/services/Applier.ts",
    find: "    this.#results.push(this.#admit(entry))",
    replace: "    this.#results.push(entry.index === 7 ? undefined : this.#admit(entry))",
    caughtBy: "simulation",
    property: /^(?:entries are applied in order, each once|a command of a session is executed once)/
  },
  {
    id: "A1c",
    rule: "apply",
    bug: "a read is answered before what it must see is applied",
    file: "src/services/Applier.ts",
    find: "const ready = this.#reads.filter((read) => read.index <= lastApplied)",
    replace: "const ready = this.#reads",
    caughtBy: "simulation",
    property: /^(?:Linearizability|Revisions rise|a stale answer)/
  },
  {
    id: "C1a",
    rule: "callers",
    bug: "callers of one batch get each other's results",
    file: "src/services/Applier.ts",
    find: "return this.#executed[result]",
    replace: "return this.#executed[this.#executed.length - 1 - result]",
    caughtBy: "simulation",
    property: /^(?:Linearizability|Revisions rise)/
  },
  {
    id: "C1b",
    rule: "callers",
    bug: "a batch of proposals is filed under the index of its first",
    file: "src/services/Requests.ts",
    find: "const index = first.index + i",
    replace: "const index = first.index",
    caughtBy: "simulation",
    property: /^(?:Linearizability|Revisions rise|a retry gets the first answer)/
  },
  {
    id: "C1c",
    rule: "callers",
    bug: "a caller that reuses its buffer changes the command it proposed",
    file: "src/services/Entrance.ts",
    find: "bytes: copy(command)",
    replace: "bytes: command",
    caughtBy: "tests",
    tests: ["test/services/robustness.test.ts"],
    property: /that reuses its buffer changes no command/
  },
  {
    id: "C1d",
    rule: "callers",
    bug: "a node that has stopped goes on with the turn it is in",
    file: "src/services/TurnLoop.ts",
    find: "if (isClosed) return yield* Effect.never",
    replace: "void isClosed",
    caughtBy: "tests",
    tests: ["test/services/turnloop.test.ts"],
    property: /ends where the node stops/
  },
  {
    id: "T1a",
    rule: "turn",
    bug: "deadlines follow the wall clock",
    file: "src/services/RaftNode.ts",
    find: "Number(clock.monotonicTimeNanosUnsafe()) / 1e6",
    replace: "clock.currentTimeMillisUnsafe()",
    caughtBy: "simulation",
    property: /^(?:term, log and loyalty decide a pre-vote|only what V10 names|the log's time goes on|Liveness)/
  },
  {
    id: "T1b",
    rule: "turn",
    bug: "time is told before what arrived while the process was held up",
    file: "src/services/TurnLoop.ts",
    find: "for (const event of first) yield* take(event, nowMs, interpret)",
    replace:
      "if (isDue) yield* take(ticked, nowMs, interpret)\n    for (const event of first) yield* take(event, nowMs, interpret)",
    caughtBy: "tests",
    tests: ["test/services/turnloop.test.ts"],
    property: /tells the time after what arrived/
  },
  {
    id: "T2a",
    rule: "L10",
    bug: "proposals wait for a disk that stalls, however many bytes they are",
    file: "src/services/TurnLoop.ts",
    find: "if (held.isFull || !isLeader(state)) return true",
    replace: "if (!isLeader(state)) return true",
    caughtBy: "tests",
    tests: ["test/services/turnloop.test.ts"],
    property: /wait no more once they are many bytes/
  },
  {
    id: "T2b",
    rule: "turn",
    bug: "proposals wait for a commit that may be far away",
    file: "src/services/TurnLoop.ts",
    find: "(state.commitIndex === state.log.lastIndex || nowMs >= proposedMs + heldMsMax)",
    replace: "state.commitIndex === state.log.lastIndex",
    caughtBy: "tests",
    tests: ["test/services/turnloop.test.ts"],
    property: /but not for long/
  },
  {
    id: "T2c",
    rule: "turn",
    bug: "proposals that wait for the disk are not told that it is idle",
    file: "src/services/TurnLoop.ts",
    find: "if (!held.isEmpty) offer(ticked)",
    replace: "if (held.isFull) offer(ticked)",
    caughtBy: "tests",
    tests: ["test/services/turnloop.test.ts"],
    property: /wait while the disk is busy/
  },
  {
    id: "T2d",
    rule: "turn",
    bug: "a server that does not lead refuses proposals only once its disk is idle",
    file: "src/services/TurnLoop.ts",
    find: "if (held.isFull || !isLeader(state)) return true",
    replace: "if (held.isFull) return true",
    caughtBy: "tests",
    tests: ["test/services/turnloop.test.ts"],
    property: /refuse at once where no leader is/
  },
  {
    id: "W1a",
    rule: "L10",
    bug: "nothing more is sent where more is unanswered than may be, and no answer was asked for",
    file: "src/layers/peer/Window.ts",
    find: "return !this.#isAsked\n      || (this",
    replace: "return (this",
    caughtBy: "tests",
    tests: ["test/layers/peerWindow.test.ts"],
    property: /never waits for an answer that nobody has asked for/
  },
  {
    id: "W1b",
    rule: "L10",
    bug: "an answer speaks also for batches that left after it was asked for",
    file: "src/layers/peer/Window.ts",
    find: "this.#unanswered = this.#unasked",
    replace: "this.#unanswered = none",
    caughtBy: "tests",
    tests: ["test/layers/peerWindow.test.ts"],
    property: /never waits for an answer/
  }
]
