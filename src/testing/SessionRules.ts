/**
 * Rules R4 and R5: what the log says of sessions, worked out once more from the committed entries alone. Every command that a server executes,
 * every answer that a client gets and every table in a snapshot is held against it.
 */
import type { Entry, LogIndex, Payload, Sequenced, SessionId } from "../domain/Entry.ts"
import type { NodeId } from "../domain/NodeId.ts"
import { isLeader } from "../domain/NodeState.ts"
import { answersMax, type Saved, type SavedSession } from "../domain/Session.ts"
import { demand } from "./Violation.ts"
import type { Observed } from "./Watch.ts"

type Command = Extract<Payload, { readonly _tag: "SessionCommand" }>
type Opening = Extract<Payload, { readonly _tag: "OpenSession" }>

interface Session {
  readonly id: SessionId
  readonly lastUsedMs: number
  /** The entry that used it last. */
  readonly lastUsedAt: LogIndex
  readonly firstKept: number
  /** By sequence: the entry that was executed. */
  readonly executed: ReadonlyMap<number, LogIndex>
}

interface Table {
  readonly timeMs: number
  readonly timeoutMs: number
  readonly sessions: ReadonlyArray<Session>
}

const nothing: Table = { timeMs: 0, timeoutMs: 0, sessions: [] }

/** Time as the log tells it never goes back; whoever was not used for too long is gone. */
const passed = ({ sessions, timeMs, timeoutMs }: Table, stampMs: number): Table => {
  const nowMs = Math.max(timeMs, stampMs)
  return { timeMs: nowMs, timeoutMs, sessions: sessions.filter(({ lastUsedMs }) => nowMs - lastUsedMs <= timeoutMs) }
}

const opened = (before: Table, id: LogIndex, { sessionsMax, timeMs, timeoutMs }: Opening): Table => {
  const table = passed({ ...before, timeoutMs }, timeMs)
  const session = { id, lastUsedMs: table.timeMs, lastUsedAt: id, firstKept: 1, executed: new Map() }
  const byUse = [...table.sessions, session].toSorted((a, b) => b.lastUsedAt - a.lastUsedAt)
  return { ...table, sessions: byUse.slice(0, sessionsMax) }
}

/** What becomes of an entry that holds a session's command. */
type Fate = "Executed" | "Answered" | "Expired"

const used = (before: Table, index: LogIndex, { sequenced, timeMs }: Command): readonly [Table, Fate] => {
  const table = passed(before, timeMs)
  const session = table.sessions.find(({ id }) => id === sequenced.session)
  if (session === undefined) return [table, "Expired"]
  const { firstUnanswered, sequence } = sequenced
  const firstKept = Math.max(session.firstKept, Math.min(firstUnanswered, sequence), sequence - answersMax + 1)
  const fate = sequence < firstKept ? "Expired" : session.executed.has(sequence) ? "Answered" : "Executed"
  const executed = new Map([...session.executed].filter(([earlier]) => earlier >= firstKept))
  if (fate === "Executed") executed.set(sequence, index)
  const next = { id: session.id, lastUsedMs: table.timeMs, lastUsedAt: index, firstKept, executed }
  return [{ ...table, sessions: [...table.sessions.filter((one) => one !== session), next] }, fate]
}

const nameOf = ({ sequence, session }: Pick<Sequenced, "session" | "sequence">): string =>
  `command ${sequence} of session ${session}`

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, i) => byte === b[i])

export class SessionRules {
  /** After every entry that changed something, ascending. */
  readonly #tables: Array<{ readonly index: LogIndex; readonly table: Table }> = []
  readonly #fates = new Map<LogIndex, Fate>()
  /** By command: the entry that was executed, and whether one was not since its session had expired. */
  readonly #executed = new Map<string, LogIndex>()
  readonly #expired = new Set<string>()
  readonly #opened = new Set<LogIndex>()
  /** What the first server that executed an entry made of it. */
  readonly #results = new Map<LogIndex, Uint8Array>()
  /** By leader and term: since when it leads by its own clock, what the log's time was to it then, and its latest stamp. */
  readonly #stamps = new Map<string, { readonly sinceMs: number; readonly beganMs: number; stampMs: number }>()

  #tableAt(index: LogIndex): Table {
    return this.#tables.findLast((one) => one.index <= index)?.table ?? nothing
  }

  /** `entry` was committed, the one before it before that. */
  committed({ index, payload }: Entry): void {
    const last = this.#tableAt(index)
    if (payload._tag === "OpenSession") {
      this.#opened.add(index)
      this.#tables.push({ index, table: opened(last, index, payload) })
    }
    if (payload._tag !== "SessionCommand") return
    const [table, fate] = used(last, index, payload)
    this.#tables.push({ index, table })
    this.#fates.set(index, fate)
    const name = nameOf(payload.sequenced)
    if (fate === "Expired") this.#expired.add(name)
    if (fate !== "Executed") return
    demand(!this.#executed.has(name), "a command of a session is executed once (R4)", () => `${name}, entry ${index}`)
    this.#executed.set(name, index)
  }

  /** Whether a state machine is to execute the command of a session at `index`. */
  isExecuted(index: LogIndex): boolean {
    return this.#fates.get(index) === "Executed"
  }

  /** A server hands an entry to its state machine. */
  sawApply(id: NodeId, { index, payload }: Entry): void {
    if (payload._tag !== "SessionCommand") return
    demand(
      this.isExecuted(index),
      "a command of a session is executed once, and never when that has expired (R4, R5)",
      () =>
        `${id} executes ${nameOf(payload.sequenced)}, entry ${index}, which is ${this.#fates.get(index) ?? "unknown"}`
    )
  }

  /** What a server's state machine made of an entry. */
  sawResult(id: NodeId, index: LogIndex, result: Uint8Array): void {
    const known = this.#results.get(index)
    if (known === undefined) return void this.#results.set(index, result.slice())
    demand(sameBytes(known, result), "every server makes the same of an entry", () => `${id}, entry ${index}`)
  }

  /** A client has the answer to its command. */
  answered(sequenced: Pick<Sequenced, "session" | "sequence">, result: Uint8Array): void {
    const index = this.#executed.get(nameOf(sequenced))
    const first = index === undefined ? undefined : this.#results.get(index)
    demand(
      first !== undefined && sameBytes(first, result),
      "a retry gets the first answer (R4)",
      () => `${nameOf(sequenced)}, ${index === undefined ? "never executed" : `entry ${index}`}, has another answer`
    )
  }

  /** A client is told that its session has expired. */
  expired(sequenced: Pick<Sequenced, "session" | "sequence">): void {
    const detail = () => `${nameOf(sequenced)} is refused, and its session had not expired`
    demand(this.#expired.has(nameOf(sequenced)), "a session expires by what the log says (R5)", detail)
  }

  /** A client has a session. */
  opened(id: SessionId): void {
    demand(this.#opened.has(id), "a session is named by the entry that opened it (R5)", () => `session ${id}`)
  }

  /** The table that a snapshot of the state after `index` holds. */
  sawTable(id: NodeId, index: LogIndex, saved: Saved): void {
    const { sessions, timeMs, timeoutMs } = this.#tableAt(index)
    const inOrder = sessions.toSorted((a, b) => a.lastUsedAt - b.lastUsedAt)
    const isSame = saved.timeMs === timeMs && saved.timeoutMs === timeoutMs
      && saved.sessions.length === inOrder.length
      && inOrder.every((session, i) => this.#isSaved(session, saved.sessions[i]))
    demand(
      isSame,
      "a snapshot has the sessions that the log says (R5)",
      () =>
        `${id} at ${index}: ${saved.sessions.map((one) => one.id).join(", ")} at ${saved.timeMs} ms, not ${
          inOrder.map((one) => one.id).join(", ")
        } at ${timeMs} ms`
    )
  }

  #isSaved({ executed, firstKept, id, lastUsedMs }: Session, saved: SavedSession | undefined): boolean {
    return saved?.id === id && saved.lastUsedMs === lastUsedMs && saved.firstKept === firstKept
      && saved.answers.length === executed.size
      && saved.answers.every(({ result, sequence }) => {
        const first = this.#results.get(executed.get(sequence) ?? 0)
        return first !== undefined && sameBytes(first, result)
      })
  }

  /** The stamps of a leader: they go on from what the log says, as its own clock does, and never back. */
  saw({ after, before, commands, nowMs }: Observed): void {
    if (!isLeader(after)) return
    const key = `${after.id} ${after.term}`
    const beganMs = () => this.#tableAt(before.lastApplied).timeMs
    const known = this.#stamps.get(key) ?? { sinceMs: nowMs, beganMs: beganMs(), stampMs: 0 }
    this.#stamps.set(key, known)
    const entries = isLeader(before) ? commands.find((command) => command._tag === "Persist")?.write.entries ?? [] : []
    for (const { index, payload } of entries) {
      if (!("timeMs" in payload)) continue
      const forMs = nowMs - known.sinceMs
      // Stamps are whole, and clocks in fractions.
      const [from, to] = [Math.max(known.stampMs, known.beganMs + forMs - 1), beganMs() + forMs + 1e-6]
      demand(
        Number.isSafeInteger(payload.timeMs) && payload.timeMs >= from && payload.timeMs <= to,
        "the log's time goes on with its leader's clock, from what the log says (R5)",
        () => `${key} stamps ${index} with ${payload.timeMs}; it should be from ${from} to ${to}`
      )
      known.stampMs = payload.timeMs
    }
  }
}
