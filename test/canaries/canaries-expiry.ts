/**
 * The end of sessions (thesis §6.3; rule R5): bugs that let one live on, die early, or go by a time that the log does not tell.
 */
import type { Canary } from "./canaries.ts"

const sessions = "src/domain/Session.ts"
const content = "src/services/SessionContent.ts"
const directed = "test/domain/session.test.ts"

export const canaries: ReadonlyArray<Canary> = [
  {
    id: "R5a",
    rule: "R5",
    bug: "a command of a session that is no more is executed as new",
    file: sessions,
    find: `    const session = this.#use(id)
    if (session === undefined) return { _tag: "Expired" }`,
    replace: `    const session = this.#use(id)
    if (session === undefined) return { _tag: "Execute", answer: { session: id, sequence, result: undefined } }`,
    caughtBy: "simulation",
    property: /^a command of a session is executed once, and never when that has expired \(R4, R5\)/
  },
  {
    id: "R5b",
    rule: "R5",
    bug: "a leader stamps with its own clock, whatever the log says",
    file: "src/domain/Proposing.ts",
    find: "Math.floor(logTime.ms + Math.max(0, nowMs - logTime.atMs))",
    replace: "Math.floor(Math.max(0 * logTime.ms, nowMs))",
    caughtBy: "simulation",
    property: /^the log's time goes on with its leader's clock, from what the log says \(R5\)/
  },
  {
    id: "R5c",
    rule: "R5",
    bug: "a leadership's time stands still",
    file: "src/domain/Proposing.ts",
    find: "Math.max(0, nowMs - logTime.atMs)",
    replace: "Math.min(0, nowMs - logTime.atMs)",
    caughtBy: "simulation",
    property: /^the log's time goes on with its leader's clock, from what the log says \(R5\)/
  },
  {
    id: "R5d",
    rule: "R5",
    bug: "a new leader begins a time of its own",
    file: "src/domain/RoleChange.ts",
    find: "logTime: { ...state.logTime, ms: state.logTime.appliedMs, atMs: turn.nowMs }",
    replace: "logTime: { ...state.logTime, ms: 0, atMs: turn.nowMs }",
    caughtBy: "simulation",
    property: /^the log's time goes on with its leader's clock, from what the log says \(R5\)/
  },
  {
    id: "R5e",
    rule: "R5",
    bug: "time goes back where a leader's stamps do",
    file: sessions,
    find: "this.#timeMs = Math.max(this.#timeMs, timeMs)",
    replace: "this.#timeMs = timeMs",
    caughtBy: "simulation",
    property: /^(?:a snapshot has the sessions|the log's time goes on)/
  },
  {
    id: "R5f",
    rule: "R5",
    bug: "sessions do not expire by time",
    file: sessions,
    find: "?? 0) > this.#timeoutMs)",
    replace: "?? 0) > this.#timeoutMs * 1e9)",
    caughtBy: "simulation",
    property: /^(?:a command of a session is executed once|a snapshot has the sessions)/
  },
  {
    id: "R5g",
    rule: "R5",
    bug: "as many sessions stay as are opened",
    file: sessions,
    find: "this.#evict(() => this.#sessions.size > opening.sessionsMax)",
    replace: "",
    caughtBy: "simulation",
    property: /^(?:a command of a session is executed once|a snapshot has the sessions)/
  },
  {
    id: "R5h",
    rule: "R5",
    bug: "a server goes by limits of its own",
    file: sessions,
    find: "this.#evict(() => this.#sessions.size > opening.sessionsMax)",
    replace: "this.#evict(() => this.#sessions.size > 3)",
    caughtBy: "simulation",
    property: /^(?:a command of a session is executed once|a snapshot has the sessions|entries are applied in order)/
  },
  {
    id: "R5i",
    rule: "R5",
    bug: "the oldest session expires where there are too many, however lately it was used",
    file: sessions,
    find: "    this.#sessions.delete(id)\n    this.#sessions.set(id, session)\n",
    replace: "",
    caughtBy: "simulation",
    property: /^(?:a command of a session is executed once|a snapshot has the sessions|entries are applied in order)/
  },
  {
    id: "R5j",
    rule: "R5",
    bug: "a session expires in the very millisecond in which it may still be used",
    file: sessions,
    find: "?? 0) > this.#timeoutMs)",
    replace: "?? 0) >= this.#timeoutMs)",
    caughtBy: "tests",
    tests: [directed],
    property: /after their time, by the stamps of leaders alone/
  },
  {
    id: "R5k",
    rule: "R5",
    bug: "only the opening of a session lets time pass",
    file: sessions,
    find: "    this.#passTime(timeMs)\n    const session = this.#use(id)",
    replace: "    const session = this.#use(id)",
    caughtBy: "simulation",
    property: /^(?:a command of a session is executed once|a snapshot has the sessions|the log's time goes on)/
  },
  {
    id: "R5l",
    rule: "R5",
    bug: "using a session does not make it last",
    file: sessions,
    find: "    session.lastUsedMs = this.#timeMs\n",
    replace: "",
    caughtBy: "simulation",
    property: /^(?:a snapshot has the sessions|entries are applied in order)/
  },
  {
    id: "R5m",
    rule: "R5",
    bug: "a snapshot does not say what time it is",
    file: content,
    find: "writeU48(view, 1, timeMs)",
    replace: "writeU48(view, 1, 0 * timeMs)",
    caughtBy: "simulation",
    property: /^a snapshot has the sessions that the log says \(R5\)/
  },
  {
    id: "R5n",
    rule: "R5",
    bug: "a snapshot does not say when sessions expire",
    file: content,
    find: "writeU48(view, 7, timeoutMs)",
    replace: "writeU48(view, 7, 0 * timeoutMs)",
    caughtBy: "simulation",
    property: /^a snapshot has the sessions that the log says \(R5\)/
  },
  {
    id: "R5o",
    rule: "R5",
    bug: "a server that restarts takes up the log's time from nothing",
    file: "src/services/RaftNode.ts",
    find: "const logTimeMs = restored.sessions.timeMs",
    replace: "const logTimeMs = 0 * restored.sessions.timeMs",
    caughtBy: "simulation",
    property: /^the log's time goes on with its leader's clock, from what the log says \(R5\)/
  },
  {
    id: "R5p",
    rule: "R5",
    bug: "a session is named by the entry before the one that opened it",
    file: "src/services/Requests.ts",
    find: "Exit.succeed(entry.index)",
    replace: "Exit.succeed(entry.index - 1)",
    caughtBy: "simulation",
    property: /^a session is named by the entry that opened it \(R5\)/
  }
]
