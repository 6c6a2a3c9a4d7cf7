/**
 * Exactly-once commands (thesis §6.3; rules R4, R5): the table of sessions, a part of the replicated state beside every state machine. It
 * changes by committed entries alone, so all servers have the same one, and a snapshot holds it.
 *
 * A client opens a session and numbers its commands 1, 2, 3, …; several may be under way. The table keeps the answer to each command that the
 * client may still retry. A command whose number has an answer is not executed again: whoever retries gets that answer.
 *
 * ```
 *    sequence   1  2  3  4  5  6  7  8 …
 *               └──────┘  ▲     ▲
 *               answers   │     └ executed, the answer is kept
 *               dropped   └ firstUnanswered: the client has seen all answers below
 * ```
 *
 * What is dropped is never executed again either: below `firstUnanswered`, or of a session that is not in the table, a command is refused.
 * Sessions expire by what the log says: by time as leaders have stamped it, made monotonic here, and by their number and the size of their
 * answers, the least recently used first. Limits that servers may set for themselves come with the entries that open sessions; the others are
 * part of the rules.
 *
 * Unlike the rest of the core's state this is one object that changes in place: a copy of thousands of sessions for each command would cost
 * more than all else. It belongs to whoever applies entries, and nobody else sees it. What a snapshot has captured is left as it is: a session is
 * copied when it is used for the first time after that.
 */
import type { LogIndex, Payload, Sequenced, SessionId } from "./Entry.ts"

/** The answer to a command: empty until the state machine has executed it, which it does in the order of the log. */
export interface Answer {
  readonly session: SessionId
  readonly sequence: number
  result: Uint8Array | undefined
}

interface Session {
  readonly id: SessionId
  lastUsedMs: number
  /** No command below this one is answered any more. */
  firstKept: number
  /** By sequence, ascending as far as commands came in order. */
  readonly answers: Map<number, Answer>
  /** What the answers take. */
  bytes: number
  /** How many captures there were when this object was made: an earlier one does not hold it. */
  readonly captures: number
}

/** Most answers that are kept for one session, whatever its client says it has seen: part of the rules, the same on every server. */
export const answersMax = 1024

/** What the answers of one session, and of all, may take, in bytes: beyond that the lowest numbers, and the least recently used sessions, go. */
export const sessionBytesMax = 16 << 20
export const tableBytesMax = 64 << 20

/**
 * Bytes are looked at after every entry whose index is a multiple of this, and nowhere else: how large results are is known only once a batch
 * was executed, and servers make their batches as they please. So no batch goes beyond such an entry.
 */
export const trimEvery = 256

/** What an answer takes beyond its result, about. */
const answerOverheadBytes = 64

/** The highest number that a session, or a command of one, may have: more has no room in an entry. */
export const sequenceMax = 2 ** 48 - 1

export type Admitted =
  /** Execute it, and say what came of it: `keep`. */
  | { readonly _tag: "Execute"; readonly answer: Answer }
  /** It was executed before, or is earlier in the same batch. */
  | { readonly _tag: "Answered"; readonly answer: Answer }
  /** The table knows nothing of it any more: it is not executed. */
  | { readonly _tag: "Expired" }

/** What a snapshot holds of a session. */
export interface SavedSession {
  readonly id: SessionId
  readonly lastUsedMs: number
  readonly firstKept: number
  readonly answers: ReadonlyArray<{ readonly sequence: number; readonly result: Uint8Array }>
}

interface Times {
  readonly timeMs: number
  readonly timeoutMs: number
}

/** What a snapshot holds of the table. Sessions in the order of their last use. */
export interface Saved extends Times {
  readonly sessions: ReadonlyArray<SavedSession>
}

/** The table as it was at one moment; its sessions are saved one after the other, whenever. */
export interface Captured extends Times {
  readonly count: number
  readonly sessions: () => Iterable<SavedSession>
}

export const nothingSaved: Saved = { timeMs: 0, timeoutMs: 0, sessions: [] }

const sizeOf = (result: Uint8Array): number => answerOverheadBytes + result.length

const saved = ({ answers, firstKept, id, lastUsedMs }: Session): SavedSession => ({
  id,
  lastUsedMs,
  firstKept,
  answers: Array.from(answers, ([sequence, { result = noBytes }]) => ({ sequence, result }))
})

export class Sessions {
  #timeMs: number
  #timeoutMs: number
  /** In the order of last use, hence also of expiry. */
  readonly #sessions = new Map<SessionId, Session>()
  #bytes = 0
  #captures = 0

  constructor({ sessions, timeMs, timeoutMs }: Saved = nothingSaved) {
    this.#timeMs = timeMs
    this.#timeoutMs = timeoutMs
    for (const { answers, firstKept, id, lastUsedMs } of sessions) {
      const bytes = answers.reduce((sum, { result }) => sum + sizeOf(result), 0)
      const known = new Map(answers.map(({ result, sequence }) => [sequence, { session: id, sequence, result }]))
      this.#sessions.set(id, { id, lastUsedMs, firstKept, answers: known, bytes, captures: 0 })
      this.#bytes += bytes
    }
  }

  /** The log's own time: the highest stamp that was applied. */
  get timeMs(): number {
    return this.#timeMs
  }

  get size(): number {
    return this.#sessions.size
  }

  /** A session begins, named by the index of its entry. */
  open(index: LogIndex, opening: Extract<Payload, { readonly _tag: "OpenSession" }>): void {
    this.#timeoutMs = opening.timeoutMs
    this.#passTime(opening.timeMs)
    this.#sessions.set(index, {
      id: index,
      lastUsedMs: this.#timeMs,
      firstKept: 1,
      answers: new Map(),
      bytes: 0,
      captures: this.#captures
    })
    this.#evict(() => this.#sessions.size > opening.sessionsMax)
  }

  /** A command of a session is applied: whether it is to be executed. */
  admit({ firstUnanswered, sequence, session: id }: Sequenced, timeMs: number): Admitted {
    this.#passTime(timeMs)
    const session = this.#use(id)
    if (session === undefined) return { _tag: "Expired" }
    // A command never says of itself that it was answered.
    this.#forget(session, Math.max(Math.min(firstUnanswered, sequence), sequence - answersMax + 1))
    if (sequence < session.firstKept) return { _tag: "Expired" }
    const known = session.answers.get(sequence)
    if (known !== undefined) return { _tag: "Answered", answer: known }
    const answer: Answer = { session: id, sequence, result: undefined }
    session.answers.set(sequence, answer)
    return { _tag: "Execute", answer }
  }

  /** What came of a command that was to be executed: before anything is captured, and in the order of the log. */
  keep(answer: Answer, result: Uint8Array): void {
    // Also where a later command of the same batch has put the answer, or its session, out of the table: whoever waits for it gets it.
    answer.result = result
    const session = this.#sessions.get(answer.session)
    if (session === undefined || !session.answers.has(answer.sequence)) return
    session.bytes += sizeOf(result)
    this.#bytes += sizeOf(result)
  }

  /** Everything up to a multiple of `trimEvery` was applied, and nothing beyond: what takes too much room goes. */
  trim(): void {
    for (const known of this.#sessions.values()) if (known.bytes > sessionBytesMax) this.#trimSession(this.#own(known))
    let left = this.#sessions.size
    this.#evict(() => this.#bytes > tableBytesMax && left-- > 1)
  }

  #trimSession(session: Session): void {
    const numbers = [...session.answers.keys()].toSorted((a, b) => a - b)
    let { bytes } = session
    let firstKept = session.firstKept
    for (const sequence of numbers.slice(0, -1)) {
      if (bytes <= sessionBytesMax) break
      bytes -= sizeOf(session.answers.get(sequence)?.result ?? noBytes)
      firstKept = sequence + 1
    }
    this.#forget(session, firstKept)
  }

  /** A session as an object that no capture holds. */
  #own(known: Session): Session {
    if (known.captures === this.#captures) return known
    const session = { ...known, answers: new Map(known.answers), captures: this.#captures }
    this.#sessions.set(known.id, session)
    return session
  }

  /** The session, used now. */
  #use(id: SessionId): Session | undefined {
    const known = this.#sessions.get(id)
    if (known === undefined) return undefined
    const session = this.#own(known)
    session.lastUsedMs = this.#timeMs
    this.#sessions.delete(id)
    this.#sessions.set(id, session)
    return session
  }

  /** No command below `firstKept` is answered any more. */
  #forget(session: Session, firstKept: number): void {
    if (firstKept <= session.firstKept) return
    session.firstKept = firstKept
    for (const [sequence, { result }] of session.answers) {
      if (sequence >= firstKept) continue
      session.answers.delete(sequence)
      if (result === undefined) continue
      session.bytes -= sizeOf(result)
      this.#bytes -= sizeOf(result)
    }
  }

  /** Drops sessions, the least recently used first, while there is reason to drop the next one. */
  #evict(isDue: (oldest: SessionId) => boolean): void {
    for (const [id, { bytes }] of this.#sessions) {
      if (!isDue(id)) return
      this.#sessions.delete(id)
      this.#bytes -= bytes
    }
  }

  /** Time as the log tells it never goes back, whoever leads. */
  #passTime(timeMs: number): void {
    this.#timeMs = Math.max(this.#timeMs, timeMs)
    this.#evict((oldest) => this.#timeMs - (this.#sessions.get(oldest)?.lastUsedMs ?? 0) > this.#timeoutMs)
  }

  /** The table as it is between two batches: then every command that was admitted has its result. */
  capture(): Captured {
    this.#captures++
    const all = [...this.#sessions.values()]
    return {
      timeMs: this.#timeMs,
      timeoutMs: this.#timeoutMs,
      count: all.length,
      sessions: function*() {
        for (const session of all) yield saved(session)
      }
    }
  }

  /** All of a capture at once. */
  save(): Saved {
    const { sessions, timeMs, timeoutMs } = this.capture()
    return { timeMs, timeoutMs, sessions: [...sessions()] }
  }
}

const noBytes = new Uint8Array(0)
