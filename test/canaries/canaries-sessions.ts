/**
 * Sessions (thesis §6.3; rules R4, R5): bugs that execute a command twice, not at all or after its session, or let servers disagree about that.
 */
import type { Canary } from "./canaries.ts"

const sessions = "src/domain/Session.ts"
const content = "src/services/SessionContent.ts"
const client = "src/services/ClientSession.ts"
const directed = "test/domain/session.test.ts"

export const canaries: ReadonlyArray<Canary> = [
  {
    id: "R4s1",
    rule: "R4",
    bug: "a retried command is executed again",
    file: sessions,
    find: `if (known !== undefined) return { _tag: "Answered", answer: known }`,
    replace: "",
    caughtBy: "simulation",
    property: /^a command of a session is executed once/
  },
  {
    id: "R4s2",
    rule: "R4",
    bug: "that a command was executed is noted for the next batch only",
    file: "src/services/Applier.ts",
    find: "const admitted = this.#sessions.admit(payload.sequenced, payload.timeMs)",
    replace: `const admitted = this.#results.length > 0 && typeof this.#results[this.#results.length - 1] === "object"
          ? new Sessions(this.#sessions.save()).admit(payload.sequenced, payload.timeMs)
          : this.#sessions.admit(payload.sequenced, payload.timeMs)`,
    caughtBy: "simulation",
    property: /./
  },
  {
    id: "R4s3",
    rule: "R4",
    bug: "commands of all sessions with one number are one command",
    file: sessions,
    find: "const session = this.#use(id)\n",
    replace: "const session = this.#use(id) && [...this.#sessions.values()][0]\n",
    caughtBy: "simulation",
    property: /./
  },
  {
    id: "R4s4",
    rule: "R4",
    bug: "what the client has seen answered may be executed again",
    file: sessions,
    find: `if (sequence < session.firstKept) return { _tag: "Expired" }`,
    replace: "",
    caughtBy: "simulation",
    property: /^a command of a session is executed once/
  },
  {
    id: "R4s5",
    rule: "R4",
    bug: "one answer too many is forgotten",
    file: sessions,
    find: "Math.min(firstUnanswered, sequence)",
    replace: "Math.min(firstUnanswered + 1, sequence)",
    caughtBy: "simulation",
    property:
      /^(?:a command of a session is executed once|a snapshot has the sessions|a session expires by what the log says)/
  },
  {
    id: "R4s6",
    rule: "R4",
    bug: "a command counts as answered if its client says so in the same breath",
    file: sessions,
    find: "Math.min(firstUnanswered, sequence)",
    replace: "firstUnanswered",
    caughtBy: "tests",
    tests: [directed],
    property: /never counts as answered itself/
  },
  {
    id: "R4s7",
    rule: "R4",
    bug: "answers are kept however many there are",
    file: sessions,
    find: ", sequence - answersMax + 1)",
    replace: ")",
    caughtBy: "tests",
    tests: [directed],
    property: /more than the window behind the latest/
  },
  {
    id: "R4s8",
    rule: "R4",
    bug: "a retry gets the result of another command of its batch",
    file: "src/services/Applier.ts",
    find: "this.#sessions.keep(answer, new Uint8Array(results[position] ?? noBytes))",
    replace: "this.#sessions.keep(answer, new Uint8Array(results[results.length - 1 - position] ?? noBytes))",
    caughtBy: "simulation",
    property: /^(?:a retry gets the first answer|a snapshot has the sessions)/
  },
  {
    id: "R4s9",
    rule: "R4",
    bug: "a retry gets no answer, as if it were no command",
    file: "src/services/Applier.ts",
    find: `return result._tag === "Expired" ? "SessionExpired" : result.answer.result`,
    replace:
      `return result._tag === "Expired" ? "SessionExpired" : result._tag === "Answered" ? undefined : result.answer.result`,
    caughtBy: "simulation",
    property: /./
  },
  {
    id: "R4s10",
    rule: "R4",
    bug: "a retry is told that its session has expired",
    file: "src/services/Applier.ts",
    find: `return result._tag === "Expired" ? "SessionExpired"`,
    replace: `return result._tag !== "Execute" ? "SessionExpired"`,
    caughtBy: "simulation",
    property: /^a session expires by what the log says \(R5\)/
  },
  {
    id: "R4s11",
    rule: "R4",
    bug: "a snapshot holds no answers",
    file: sessions,
    find: "answers: Array.from(answers, ([sequence, { result = noBytes }]) => ({ sequence, result }))",
    replace: "answers: Array.from(answers, ([sequence, { result = noBytes }]) => ({ sequence, result })).slice(0, 0)",
    caughtBy: "simulation",
    property: /^a snapshot has the sessions that the log says \(R5\)/
  },
  {
    id: "R4s12",
    rule: "R4",
    bug: "a server that restores a snapshot has no sessions",
    file: "src/services/Applier.ts",
    find: "sessions: new Sessions(saved) }",
    replace: "sessions: saved.timeMs < 0 ? new Sessions(saved) : new Sessions() }",
    caughtBy: "simulation",
    property: /^(?:entries are applied in order, each once|a snapshot has the sessions|a command of a session)/
  },
  {
    id: "R4s13",
    rule: "R4",
    bug: "a server that installs a leader's snapshot keeps the sessions that it had",
    file: "src/services/Applier.ts",
    find: "    sessions = restored.sessions\n",
    replace: "",
    caughtBy: "simulation",
    property: /^(?:entries are applied in order, each once|a snapshot has the sessions|a command of a session)/
  },
  {
    id: "R4s14",
    rule: "R4",
    bug: "what a snapshot has captured of a session goes on with it",
    file: sessions,
    find: "if (known.captures === this.#captures) return known",
    replace: "if (known.captures >= 0) return known",
    caughtBy: "simulation",
    property: /./
  },
  {
    id: "R4s15",
    rule: "R4",
    bug: "a restored session accepts again what its client has seen answered",
    file: content,
    find: "writeU48(view, 16, firstKept)",
    replace: "writeU48(view, 16, firstKept * 0 + 1)",
    caughtBy: "simulation",
    property: /^a snapshot has the sessions that the log says \(R5\)/
  },
  {
    id: "R4s16",
    rule: "R4",
    bug: "the commands of a session are proposed without it",
    file: "src/services/Entrance.ts",
    find: "bytes: copy(command), sequenced }",
    replace: "bytes: copy(command), sequenced: undefined }",
    caughtBy: "simulation",
    property: /^a retry gets the first answer \(R4\)/
  },
  {
    id: "R4s17",
    rule: "R4",
    bug: "a command of an expired session gets an empty answer",
    file: "src/services/Applier.ts",
    find: `return result._tag === "Expired" ? "SessionExpired"`,
    replace: `return result._tag === "Expired" ? new Uint8Array(0)`,
    caughtBy: "simulation",
    property: /^a retry gets the first answer \(R4\)/
  },
  {
    id: "R4s18",
    rule: "R4",
    bug: "an answer that is kept is a view of memory that its machine uses again",
    file: "src/services/Applier.ts",
    find: "this.#sessions.keep(answer, new Uint8Array(results[position] ?? noBytes))",
    replace: "this.#sessions.keep(answer, results[position] ?? noBytes)",
    caughtBy: "tests",
    tests: ["test/services/sessions.test.ts"],
    property: /keeps a copy of the answer/
  },
  {
    id: "R4t1",
    rule: "R4",
    bug: "a client sends what may have been applied again in its next session",
    file: client,
    find: "if (item.isUnknown) return settled(new SessionExpired())",
    replace: "",
    caughtBy: "tests",
    tests: ["test/services/clientsession.test.ts"],
    property: /that has expired is (?:the end of a command|no leave to send again)/
  },
  {
    id: "R4t2",
    rule: "R4",
    bug: "a client takes a command whose answer was lost for one that was not applied",
    file: client,
    find: "        item.isUnknown = true\n",
    replace: "",
    caughtBy: "simulation",
    property: /^(?:Linearizability|Revisions rise|a command is applied at most once|not applied means not applied)/
  },
  {
    id: "R4t3",
    rule: "R4",
    bug: "a client gives a command another number when it sends it again",
    file: client,
    find: "if (item.place !== undefined) return item.place.session === current",
    replace: "if (item.place !== undefined) item.place.session.end(item.place.sequence)",
    caughtBy: "simulation",
    property: /^(?:Linearizability|Revisions rise|a command is applied at most once)/
  },
  {
    id: "R4t4",
    rule: "R4",
    bug: "a client says that it has seen all answers but the last",
    file: client,
    find: "items[0]?.place?.session.firstUnanswered ?? 1",
    replace: "items[items.length - 1]?.place?.sequence ?? 1",
    caughtBy: "tests",
    tests: ["test/services/clientsession.test.ts"],
    property: /./
  },
  {
    id: "R4u1",
    rule: "R4",
    bug: "what sessions keep is cut to its bounds after every batch, which servers make as they please",
    file: "src/services/Applier.ts",
    find: "if (end.index % trimEvery === 0) sessions.trim()",
    replace: "sessions.trim()",
    caughtBy: "tests",
    tests: ["test/services/sessionbytes.test.ts"],
    property: /are the same on a server that applies the log one by one/
  },
  {
    id: "R4u2",
    rule: "R4",
    bug: "a batch goes beyond the entry at which sessions are cut to their bounds",
    file: "src/services/Applier.ts",
    find: ", trimEvery - last.index % trimEvery)",
    replace: ")",
    caughtBy: "tests",
    tests: ["test/services/sessionbytes.test.ts"],
    property: /are the same on a server that applies the log one by one/
  },
  {
    id: "R4t5",
    rule: "R4",
    bug: "a client says that a change was not applied because a later attempt was refused",
    file: "src/services/ClientCall.ts",
    find: "if (failure._tag === \"ChangeRefused\" && !mayBeDone) return yield* failure",
    replace: "if (failure._tag === \"ChangeRefused\") return yield* failure",
    caughtBy: "tests",
    tests: ["test/services/clientend.test.ts"],
    property: /has an unknown outcome/
  },
  {
    id: "R4t6",
    rule: "R4",
    bug: "a client says that a command is too large, and so not applied, though an earlier attempt may have done it",
    file: client,
    find: "settled(item.isUnknown ? new OutcomeUnknown() : failure)",
    replace: "settled(failure)",
    caughtBy: "tests",
    tests: ["test/services/clientsession.test.ts"],
    property: /another may have taken it before/
  },
  {
    id: "R4t7",
    rule: "R4",
    bug: "a request that a stopping server interrupts is answered as one that was not applied",
    file: "src/layers/kv/Http.ts",
    find: "  if (response.status !== 503 || response.body._tag !== \"Empty\") return Effect.succeed(response)",
    replace: "  if (response.status !== 0) return Effect.succeed(response)",
    caughtBy: "tests",
    tests: ["test/layers/kvStopping.test.ts"],
    property: /is answered 504 OutcomeUnknown/
  }
]
