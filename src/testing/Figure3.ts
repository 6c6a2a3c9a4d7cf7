/**
 * What must hold between servers: the properties of the paper's Figure 3 by name, and that whatever a message promises is on its sender's disk
 * (rules V1, L6). Each is checked as things happen, so that a finding names the step that broke it. Leader Append-Only is true of
 * one server's steps and is checked by `checkStep`.
 */
import type { Command, HardState } from "../domain/Command.ts"
import { type Configuration, isSame, type Situated } from "../domain/Configuration.ts"
import type { Entry, EntryId, LogIndex, Term } from "../domain/Entry.ts"
import * as Log from "../domain/Log.ts"
import type { NodeId } from "../domain/NodeId.ts"
import { isLeader, type NodeState } from "../domain/NodeState.ts"
import type { Snapshot } from "../domain/Snapshot.ts"
import type { PeerMessage } from "../services/Transport.ts"
import { decide, groupsOf, votersText } from "./Majorities.ts"
import { SessionRules } from "./SessionRules.ts"
import { demand } from "./Violation.ts"

export { demand, Violation } from "./Violation.ts"

/** What is durable on a server's disk. */
export interface Durable {
  readonly hardState: HardState
  readonly snapshot: Snapshot
  /** The entry before the first of `entries`. */
  readonly prev: EntryId
  /** In force at `prev`; `undefined` before the server has started for the first time. */
  readonly configuration: Configuration | undefined
  readonly entries: ReadonlyArray<Entry>
}

export const lastIndexOf = ({ entries, prev }: Durable): LogIndex => prev.index + entries.length

/** Whether a disk holds this entry; what it gave up, a snapshot stands for, which is checked when it is taken. */
export const holds = (
  { entries, prev }: Durable,
  id: { readonly term: Term | undefined; readonly index: LogIndex }
): boolean =>
  id.index < prev.index || (id.index === prev.index ? prev.term : entries[id.index - prev.index - 1]?.term) === id.term

/** The disk of a server, where a test can look at it. */
export type DiskOf = (id: NodeId) => Durable | undefined

interface Committed extends EntryId {
  /** The term of the server that was first to know it committed. */
  readonly knownIn: number
}

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean =>
  a === b || (a.length === b.length && a.every((byte, i) => byte === b[i]))

const samePayload = (a: Entry, b: Entry): boolean => {
  if (a.payload === b.payload) return true
  if (a.payload._tag === "Configuration" && b.payload._tag === "Configuration") {
    return isSame(a.payload.configuration, b.payload.configuration)
  }
  if ("bytes" in a.payload && "bytes" in b.payload && !sameBytes(a.payload.bytes, b.payload.bytes)) return false
  return JSON.stringify({ ...a.payload, bytes: 0 }) === JSON.stringify({ ...b.payload, bytes: 0 })
}

export class Figure3 {
  readonly leaders = new Map<number, NodeId>()
  /** By position: what any server ever held committed. */
  readonly committed: Array<Committed> = []
  /** What the cluster began with: told, or what the first snapshot without a change before it has. */
  configuration: Configuration | undefined
  readonly sessions = new SessionRules()
  /** Those that were committed, ascending. */
  readonly #configurations: Array<Situated> = []
  readonly #diskOf: DiskOf
  /** By voter and term. */
  readonly votes = new Map<string, NodeId>()
  readonly #known = new Map<string, { readonly entry: Entry; readonly previousTerm: number }>()
  /** The last entry that each server has applied since it started. */
  readonly #applied = new Map<NodeId, LogIndex>()

  constructor(diskOf: DiskOf) {
    this.#diskOf = diskOf
  }

  /** Log Matching: an (index, term) names one entry with one predecessor, hence one whole prefix. */
  sawEntries(id: NodeId, log: Log.Log, entries: ReadonlyArray<Entry>): void {
    for (const entry of entries) {
      const previousTerm = Log.termAt(log, entry.index - 1) ?? -1
      const key = `${entry.term}.${entry.index}`
      const known = this.#known.get(key)
      if (known === undefined) {
        this.#known.set(key, { entry, previousTerm })
        continue
      }
      const same = known.previousTerm === previousTerm && samePayload(known.entry, entry)
      demand(same, "Log Matching", () => `${id} holds another entry, or another log before it, at ${key}`)
    }
  }

  /** A server's state machine takes over a snapshot's state: what that stands for counts as applied. */
  restored(id: NodeId, index: LogIndex): void {
    demand(
      index >= (this.#applied.get(id) ?? 0),
      "entries are applied in order, each once",
      () => `${id} goes back from ${this.#applied.get(id)} to the snapshot of ${index}`
    )
    this.#applied.set(id, index)
  }

  /** A server starts: its state machine holds nothing. */
  started(id: NodeId): void {
    this.#applied.set(id, 0)
  }

  /** A server has started and written nothing yet. */
  sawStart({ id, log, snapshot, term, votedFor }: NodeState): void {
    this.#sawSnapshot(id, snapshot)
    const disk = this.#diskOf(id)
    if (disk === undefined) return
    const { hardState } = disk
    const isKept = hardState.term === term && hardState.votedFor === votedFor && lastIndexOf(disk) === log.lastIndex
    demand(isKept, "a node starts with what its disk holds (rule V1)", () => `${id}, term ${term}, vote ${votedFor}`)
  }

  /** A server takes one step. */
  sawStep(before: NodeState, after: NodeState, commands: ReadonlyArray<Command>): void {
    for (const command of commands) {
      if (command._tag === "Persist") this.sawEntries(after.id, after.log, command.write.entries)
    }
    if (after.snapshot !== before.snapshot) this.#sawSnapshot(after.id, after.snapshot)
    if (isLeader(after) && !isLeader(before)) this.#sawLeader(after)
    if (after.commitIndex > before.commitIndex) this.#sawCommit(before, after)
  }

  /** What a snapshot stands for is committed; its configuration is one that its cluster had (rule M2). */
  #sawSnapshot(id: NodeId, { configuration, last }: Snapshot): void {
    if (last.index === 0) return
    const known = this.committed[last.index - 1]
    demand(
      known?.term === last.term,
      "a snapshot stands for committed entries",
      () => `${id}: ${last.term}.${last.index}, where ${known?.term ?? "nothing"} was committed`
    )
    const inForce = this.configurationAt(last.index) ?? (this.configuration ??= configuration)
    demand(
      isSame(configuration, inForce),
      "a snapshot has the configuration in force (M2)",
      () => `${id}: ${configuration.voters.join(", ")} at ${last.index}, where it was ${inForce.voters.join(", ")}`
    )
  }

  /** What the committed log says is in force at `index`; `undefined`: what the cluster began with, and nobody has told. */
  configurationAt(index: LogIndex): Configuration | undefined {
    return this.#configurations.findLast((one) => one.index <= index)?.configuration ?? this.configuration
  }

  /** What is in force as far as anybody knows that it is committed. */
  get committedConfiguration(): Configuration | undefined {
    return this.configurationAt(this.committed.length)
  }

  #sawLeader(leader: NodeState): void {
    const other = this.leaders.get(leader.term)
    demand(
      other === undefined || other === leader.id,
      "Election Safety",
      () => `${other} and ${leader.id} lead term ${leader.term}`
    )
    this.leaders.set(leader.term, leader.id)
    for (const entry of this.committed) {
      demand(
        entry.knownIn >= leader.term || entry.index < leader.log.prev.index || Log.matches(leader.log, entry),
        "Leader Completeness",
        () => `${leader.id} leads term ${leader.term} without ${entry.term}.${entry.index}`
      )
    }
  }

  #sawCommit(before: NodeState, after: NodeState): void {
    for (let index = before.commitIndex + 1; index <= after.commitIndex; index++) {
      const known = this.committed[index - 1]
      // An installed snapshot says which entry it ends with, and not those before.
      const term = (index < after.log.prev.index ? known?.term : Log.termAt(after.log, index)) ?? -1
      if (known === undefined) {
        this.committed[index - 1] = { term, index, knownIn: after.term }
        this.#sawCommitted(this.#known.get(`${term}.${index}`)?.entry)
      } else {
        demand(
          known.term === term,
          "State Machine Safety",
          () => `${after.id} commits ${term}.${index}, but ${known.term}.${index} was committed`
        )
      }
    }
    // Decided before whatever this step may have appended because of it.
    if (isLeader(after)) this.#sawLeaderCommit(after, before.configuration.latest)
  }

  #sawCommitted(entry: Entry | undefined): void {
    if (entry === undefined) return
    const { index, payload } = entry
    if (payload._tag === "Configuration") this.#configurations.push({ index, configuration: payload.configuration })
    this.sessions.committed(entry)
  }

  /** On the disks of a majority; of two majorities while several servers change at once (rule M4). */
  #sawLeaderCommit(leader: NodeState, configuration: Configuration): void {
    const id = { term: Log.termAt(leader.log, leader.commitIndex), index: leader.commitIndex }
    const isHolding = (voter: NodeId): boolean => {
      const disk = this.#diskOf(voter)
      return disk === undefined || holds(disk, id)
    }
    const holding = () => [...new Set(groupsOf(configuration).flat())].filter(isHolding).join(", ") || "none"
    demand(
      decide(configuration, isHolding),
      "Durability (rule L6)",
      () =>
        `${leader.id} commits ${id.term}.${id.index}, which is on the disks of ${holding()} of ${
          votersText(configuration)
        }`
    )
  }

  /** Nothing after `last` and before `index` is for a state machine, which need not see what is no command, or one that is not executed. */
  #sawNothing(id: NodeId, last: LogIndex, index: LogIndex): void {
    for (let between = last + 1; between < index; between++) {
      const name = `${this.committed[between - 1]?.term}.${between}`
      const payload = this.#known.get(name)?.entry.payload
      const isForState = payload === undefined || payload._tag === "Command"
        || (payload._tag === "SessionCommand" && this.sessions.isExecuted(between))
      demand(
        !isForState,
        "entries are applied in order, each once",
        () => `${id} applies ${index} after ${last}, without ${name}`
      )
    }
  }

  /** Entries are applied in order, each once, none left out. */
  #sawOrder(id: NodeId, index: LogIndex): void {
    const last = this.#applied.get(id) ?? 0
    demand(index > last, "entries are applied in order, each once", () => `${id} applies ${index} after ${last}`)
    this.#sawNothing(id, last, index)
    this.#applied.set(id, index)
  }

  /** A server says that it has applied everything up to `lastApplied`. */
  sawEnd(id: NodeId, lastApplied: LogIndex): void {
    this.#sawNothing(id, this.#applied.get(id) ?? 0, lastApplied + 1)
  }

  /** State Machine Safety: what a server applies is what was committed there, and is on its disk. */
  sawApply(id: NodeId, applied: EntryId, bytes: Uint8Array | undefined): void {
    const name = `${applied.term}.${applied.index}`
    const committed = this.committed[applied.index - 1]
    demand(
      committed?.term === applied.term,
      "State Machine Safety",
      () => `${id} applies ${name}; committed was ${committed?.term ?? "nothing"}.${applied.index}`
    )
    const entry = this.#known.get(name)?.entry
    if (entry !== undefined) this.sessions.sawApply(id, entry)
    const payload = entry?.payload
    const known = payload !== undefined && "bytes" in payload ? payload.bytes : undefined
    const same = bytes === undefined ? known === undefined : known !== undefined && sameBytes(known, bytes)
    demand(same, "State Machine Safety", () => `${id} applies other bytes than the log's as ${name}`)
    const disk = this.#diskOf(id)
    demand(
      disk === undefined || holds(disk, applied),
      "Durability (rule L6)",
      () => `${id} applies ${name}, which is not on its disk`
    )
    this.#sawOrder(id, applied.index)
  }

  /** A message leaves a server: what it promises must be on that server's disk. */
  sawMessage(from: NodeId, to: NodeId, message: PeerMessage): void {
    const disk = this.#diskOf(from)
    if (disk === undefined) return
    const { hardState } = disk
    const detail = () => `${from} sends ${message._tag} of term ${message.term} to ${to}`
    switch (message._tag) {
      case "RequestVote":
      case "AppendEntries":
        return demand(hardState.term >= message.term, "a term is durable before it is spoken of (rule V1)", detail)
      case "RequestVoteResponse":
        return message.voteGranted ? this.#sawVote(from, to, message.term, disk) : undefined
      case "AppendEntriesResponse": {
        if (message.result._tag !== "Matched" || hardState.term > message.term) return
        return demand(lastIndexOf(disk) >= message.result.matchIndex, "a match is durable first (rule L6)", detail)
      }
      case "RequestPreVote":
      case "RequestPreVoteResponse":
      case "RequestReadIndex":
      case "RequestReadIndexResponse":
      case "TimeoutNow":
      case "InstallSnapshotResponse":
        return
      case "InstallSnapshot":
        return this.#sawSnapshot(from, message.snapshot)
      default:
        return message satisfies never
    }
  }

  #sawVote(from: NodeId, to: NodeId, term: number, { hardState }: Durable): void {
    const durable = hardState.term > term || (hardState.term === term && hardState.votedFor === to)
    demand(durable, "a vote is durable first (rule V1)", () => `${from} votes for ${to} in term ${term}`)
    const key = `${from}.${term}`
    const earlier = this.votes.get(key)
    demand(
      earlier === undefined || earlier === to,
      "one vote a term (rules V1, V2)",
      () => `${from} votes for ${earlier} and ${to} in term ${term}`
    )
    this.votes.set(key, to)
  }
}
