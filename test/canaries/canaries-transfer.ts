/**
 * The way of a snapshot to a follower (paper Figure 13): pieces, what is asked again, and what begins anew.
 */
import type { Canary } from "./canaries.ts"

const transfer = "test/services/transfer.test.ts"
const sender = "src/services/SnapshotSender.ts"
const receiver = "src/services/SnapshotReceiver.ts"

export const canaries: ReadonlyArray<Canary> = [
  {
    id: "X1a",
    rule: "L7",
    bug: "a sender goes on where it believes its follower to be, not where that one says",
    file: sender,
    find: "offset = Math.min(result.offset, sizeBytes)",
    replace: "offset = Math.min(offset + bytes.length, sizeBytes)",
    caughtBy: "tests",
    tests: ["test/services/transfer.test.ts", "test/services/snapshots.test.ts"],
    property: /goes on where that one says/
  },
  {
    id: "X1b",
    rule: "L7",
    bug: "a piece or an answer that was lost is waited for",
    file: sender,
    find: "Duration.millis(settings.electionTimeoutMsMax)",
    replace: "Duration.millis(settings.electionTimeoutMsMax * 1e6)",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "X1c",
    rule: "L7",
    bug: "a follower that needs a second snapshot gets none, since the first transfer is not forgotten",
    file: sender,
    find: "const isDone = () => !isSnapshotWanted(parts.state(), to) && transfers.delete(to)",
    replace: "const isDone = () => !isSnapshotWanted(parts.state(), to)",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "X1d",
    rule: "L7",
    bug: "a leader that leads again goes on sending in its earlier term",
    file: sender,
    find: "while (isSnapshotWanted(state(), to) && state().term === term) {",
    replace: "while (isSnapshotWanted(state(), to)) {",
    caughtBy: "tests",
    tests: ["test/services/transfer.test.ts", "test/services/snapshots.test.ts"],
    property: /begins anew in a later term/
  },
  {
    id: "X1e",
    rule: "L7",
    bug: "one file is sent once: whoever needs a later one waits for ever",
    file: sender,
    find: "  while (!isDone()) {",
    replace: "  for (const _ of isDone() ? [] : [1]) {",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "X1f",
    rule: "L7",
    bug: "a follower that has received everything is believed to have installed it",
    file: sender,
    find: `    const { electionTimeoutMsMax } = parts.state().settings
`,
    replace: `    if (outcome === "Received") yield* Effect.never
    const { electionTimeoutMsMax } = parts.state().settings
`,
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "X1g",
    rule: "L7",
    bug: "a leader sends its damaged snapshot again and again",
    file: sender,
    find: "if (!isWhole) yield* parts.renew",
    replace: "void isWhole",
    caughtBy: "tests",
    tests: ["test/services/snapshots.test.ts"],
    property: /damaged/
  },
  {
    id: "X1h",
    rule: "L7",
    bug: "a damaged snapshot is not written anew, since the latest stands for all that is applied",
    file: "src/services/Compactor.ts",
    find: "return answer(parts, job.taken, take(true))",
    replace: "return answer(parts, job.taken, take(false))",
    caughtBy: "tests",
    tests: ["test/services/snapshots.test.ts"],
    property: /damaged/
  },
  {
    id: "X1i",
    rule: "snapshot",
    bug: "the answer to another file's piece counts",
    file: sender,
    find: "if (in_ !== term || of.index !== last.index || of.term !== last.term) continue",
    replace: "void [in_, of]",
    caughtBy: "tests",
    tests: [transfer],
    property: /sender/
  },
  {
    id: "X2a",
    rule: "snapshot",
    bug: "a receiver takes a piece that leaves a gap before it",
    file: receiver,
    find: "const isNext = offset === receiving.offset && ",
    replace: "const isNext = offset >= receiving.offset && ",
    caughtBy: "tests",
    tests: [transfer],
    property: /gap/
  },
  {
    id: "X2b",
    rule: "snapshot",
    bug: "a receiver writes a piece that comes twice twice",
    file: receiver,
    find: "const isNext = offset === receiving.offset && ",
    replace: "const isNext = offset <= receiving.offset && ",
    caughtBy: "tests",
    tests: [transfer],
    property: /twice/
  },
  {
    id: "X2c",
    rule: "snapshot",
    bug: "a receiver takes the pieces of another snapshot for the rest of the one that it has begun",
    file: receiver,
    find: "[from, term, last.index, last.term, sizeBytes].join",
    replace: "[from, term].join",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "X2d",
    rule: "snapshot",
    bug: "a receiver takes the pieces of the next leader for the rest of what the last one has begun",
    file: receiver,
    find: "[from, term, last.index, last.term, sizeBytes].join",
    replace: "[last.index].join",
    caughtBy: "tests",
    tests: [transfer],
    property: /term/
  },
  {
    id: "X2e",
    rule: "L6",
    bug: "a snapshot that has come in is handed over before it is durable",
    file: receiver,
    find: "const problem = yield* whole.writer.finish\n",
    replace: `this.#parts.offer({ _tag: "SnapshotReceived", from, term, snapshot })
      const problem = yield* whole.writer.finish\n`,
    caughtBy: "simulation",
    property: /^the contract of Storage is kept/
  },
  {
    id: "X2f",
    rule: "snapshot",
    bug: "a snapshot that came in damaged is handed over",
    file: receiver,
    find: "if (problem !== undefined) {",
    replace: "if (problem === \"\") {",
    caughtBy: "tests",
    tests: [transfer],
    property: /damaged/
  },
  {
    id: "X2g",
    rule: "snapshot",
    bug: "the pieces of a deposed leader are taken in",
    file: receiver,
    find: "if (request.term < Math.max(node.term, this.partial?.term ?? 0)) return undefined",
    replace: "",
    caughtBy: "tests",
    tests: [transfer],
    property: /deposed/
  },
  {
    id: "X2h",
    rule: "L7",
    bug: "a receiver answers no empty piece, so that a sender never learns where to go on",
    file: receiver,
    find: "if (!isNext || bytes.length === 0) return expects(receiving.offset)",
    replace: "if (!isNext) return expects(receiving.offset)\n      if (bytes.length === 0) return undefined",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "X2i",
    rule: "V10",
    bug: "the core hears of a snapshot only when all of it has come",
    file: receiver,
    find: `      parts.offer({ _tag: "SnapshotPieceReceived", from, term: request.term })\n`,
    replace: "",
    caughtBy: "tests",
    tests: ["test/services/transfer.test.ts"],
    property: /core hears/
  }
]
