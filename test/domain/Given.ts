/**
 * What a test starts from: settings, entries, one server with a given disk, and what one step of it commands.
 */
import type { Command, HardState, Send } from "../../src/domain/Command.ts"
import { type Configuration, ofVoters } from "../../src/domain/Configuration.ts"
import { command, type Entry, type EntryId, origin, type Payload } from "../../src/domain/Entry.ts"
import type { Event } from "../../src/domain/Event.ts"
import { checkState, checkStep } from "../../src/domain/Invariants.ts"
import type { Message } from "../../src/domain/Message.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import * as NodeState from "../../src/domain/NodeState.ts"
import * as Settings from "../../src/domain/Settings.ts"
import { step } from "../../src/domain/Step.ts"

export const settingsWith = (overrides: Partial<Settings.Settings>): Settings.Settings => {
  const made = Settings.make(overrides)
  if ("settings" in made) return made.settings
  throw new Error(made.problems.join("; "))
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()

export const bytesOf = (text: string): Uint8Array => encoder.encode(text)

/** What an entry carries, as text; a no-op is a dash. */
export const textOf = (payload: Payload): string =>
  "bytes" in payload ? decoder.decode(payload.bytes) : payload._tag === "Noop" ? "-" : payload._tag

const payloads = new Map<string, Payload>()

/** The one entry with this term and index: two logs that hold it hold the same payload, as Log Matching wants. */
export const entry = (term: number, index: number): Entry => {
  const key = `${term}.${index}`
  const payload = payloads.get(key) ?? command(bytesOf(key))
  payloads.set(key, payload)
  return { term, index, payload }
}

/** Entries from index `first` on, one for each term named. */
export const entriesOf = (terms: ReadonlyArray<number>, first = 1): ReadonlyArray<Entry> =>
  terms.map((term, i) => entry(term, first + i))

export const repeat = (term: number, count: number): ReadonlyArray<number> => Array.from({ length: count }, () => term)

export interface GivenNode {
  readonly id?: NodeId
  readonly term?: number
  readonly votedFor?: NodeId
  /** Of the entries after `prev`. */
  readonly terms?: ReadonlyArray<number>
  readonly prev?: EntryId
  /** What its latest snapshot ends with: `prev` unless told otherwise. */
  readonly snapshot?: EntryId
  readonly configuration?: Configuration
  readonly settings?: Partial<Settings.Settings>
  readonly seed?: number
  readonly nowMs?: number
}

/** A server that just started, `n1` of three unless told otherwise. */
export const node = (given: GivenNode = {}): NodeState.NodeState => {
  const { prev = origin, terms = [] } = given
  const hardState: HardState = { term: given.term ?? Math.max(prev.term, ...terms), votedFor: given.votedFor }
  const configuration = given.configuration ?? ofVoters(["n1", "n2", "n3"])
  return NodeState.make({
    id: given.id ?? "n1",
    settings: settingsWith(given.settings ?? {}),
    configuration,
    hardState,
    snapshot: { last: given.snapshot ?? prev, configuration, sizeBytes: 0 },
    prev,
    entries: entriesOf(terms, prev.index + 1),
    logTimeMs: 0,
    random: given.seed ?? 1,
    nowMs: given.nowMs ?? 0
  })
}

export interface Outcome {
  readonly state: NodeState.NodeState
  readonly commands: ReadonlyArray<Command>
  /** Messages that leave at once. */
  readonly sent: ReadonlyArray<Send>
  /** Messages that wait for the disk. */
  readonly promised: ReadonlyArray<Send>
}

/** One step with both invariants checked. */
export const stepped = (before: NodeState.NodeState, event: Event, nowMs: number): Outcome => {
  const { commands, state } = step(before, event, nowMs)
  const found = [...checkState(state), ...checkStep(before, state, commands)]
  if (found.length > 0) throw new Error(`${event._tag}: ${found.join("; ")}`)
  return {
    state,
    commands,
    sent: commands.filter((command) => command._tag === "Send"),
    promised: commands.flatMap((command) => command._tag === "Persist" ? command.then : [])
  }
}

/** Steps through `events`, and what the last of them commanded. */
export const after = (before: NodeState.NodeState, events: ReadonlyArray<Event>, nowMs: number): Outcome => {
  let outcome: Outcome = { state: before, commands: [], sent: [], promised: [] }
  for (const event of events) outcome = stepped(outcome.state, event, nowMs)
  return outcome
}

export const received = (from: NodeId, message: Message): Event => ({ _tag: "Received", from, message })

/** The answers of `outcome` to `to`, whether they leave at once or wait for the disk. */
export const answersTo = (outcome: Outcome, to: NodeId): ReadonlyArray<Message> =>
  [...outcome.sent, ...outcome.promised].filter((send) => send.to === to).map((send) => send.message)

/** A whole number below `max`, and so on: a seeded stream for tests (xorshift32). */
export const randomBelow = (seed: number): (max: number) => number => {
  let x = (Math.imul(seed + 1, 0x9e3779b1) >>> 0) || 1
  return (max) => {
    x ^= x << 13
    x >>>= 0
    x ^= x >>> 17
    x ^= x << 5
    x >>>= 0
    return x % max
  }
}
