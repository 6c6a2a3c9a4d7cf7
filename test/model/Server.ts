/**
 * One server of the model: the state that the core steps, its disk, and the writes that wait for it. An action of a server is a function of
 * this value and the event alone, so that it is computed once however many states of the whole system it occurs in.
 *
 * Time is left out. Every deadline is due, whoever leads was just heard by everybody, and a lease is either running or over.
 */
import {
  type Command,
  emptyWrite,
  type HardState,
  isEmptyWrite,
  mergeWrites,
  type Write
} from "../../src/domain/Command.ts"
import type { Configuration } from "../../src/domain/Configuration.ts"
import type { Entry } from "../../src/domain/Entry.ts"
import type { Event } from "../../src/domain/Event.ts"
import * as Invariants from "../../src/domain/Invariants.ts"
import * as Log from "../../src/domain/Log.ts"
import type { Message } from "../../src/domain/Message.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import * as NodeState from "../../src/domain/NodeState.ts"
import type { Settings } from "../../src/domain/Settings.ts"
import type { step } from "../../src/domain/Step.ts"
import { demand, type Tally, Violation } from "./Properties.ts"
import { seenInGroup, seenInStep } from "./situations.ts"

export const nowMs = 1000

export type Released = Extract<Command, { readonly _tag: "Send" | "Apply" }>

export interface Job {
  readonly write: Write
  readonly then: ReadonlyArray<Released>
}

export interface Disk {
  readonly hardState: HardState
  readonly entries: ReadonlyArray<Entry>
}

export interface Server {
  readonly id: NodeId
  /** `undefined` while it is down. */
  readonly state: NodeState.NodeState | undefined
  readonly disk: Disk
  /** Oldest first. */
  readonly jobs: ReadonlyArray<Job>
}

/** A message on its way. */
export interface Packet {
  readonly from: NodeId
  readonly to: NodeId
  readonly message: Message
}

export type Action =
  /** The core hears `event`; a lease that was running may have ended before. */
  | { readonly _tag: "Step"; readonly event: Event; readonly leaseEnded: boolean }
  /** A leader's deadline comes when it has heard nobody for an election timeout. */
  | { readonly _tag: "QuorumLost" }
  /** The `count` oldest writes reach the disk as one, and what waited for them happens. */
  | { readonly _tag: "Flush"; readonly count: number }
  | { readonly _tag: "Start" }

export interface Outcome {
  readonly server: Server
  /** In the order in which they leave. */
  readonly sent: ReadonlyArray<Packet>
  /** What is on disk when as many messages have left: a crash there leaves it. */
  readonly disks: ReadonlyArray<Disk>
  /** Which of `sometimes` were seen. */
  readonly seen: number
}

/** What all servers have in common. */
export interface Rules {
  readonly settings: Settings
  readonly configuration: Configuration
  readonly step: typeof step
  readonly start: typeof NodeState.make
  /** Whether a server waits for its disk at every write. */
  readonly waitsForDisk: boolean
  /** Whether `checkState` and `checkStep` are asked too, or only what is seen from outside. */
  readonly invariants: boolean
  readonly tally: Tally
}

export const noDisk: Disk = { hardState: { term: 0, votedFor: undefined }, entries: [] }

/** What `write` makes of `disk`. */
export const written = (disk: Disk, write: Write): Disk => {
  if (isEmptyWrite(write)) return disk
  const first = write.entries[0]
  if (first !== undefined && first.index > disk.entries.length + 1) {
    throw new Violation("no promise is broken", `a write leaves a gap on disk before ${first.index}`)
  }
  return {
    hardState: write.hardState ?? disk.hardState,
    entries: first === undefined ? disk.entries : [...disk.entries.slice(0, first.index - 1), ...write.entries]
  }
}

/** The state with every time made a constant; what depends on time is an action of its own. */
export const timeless = (state: NodeState.NodeState): NodeState.NodeState => {
  const { role, settings } = state
  const progress = role._tag === "Leader"
    ? new Map([...role.progress].map(([id, known]) => [id, { ...known, lastContactMs: nowMs }] as const))
    : undefined
  return {
    ...state,
    role: role._tag === "Leader" && progress !== undefined ? { ...role, progress } : role,
    deadlineMs: nowMs,
    leaseUntilMs: settings.leaderStickiness && state.leaseUntilMs > nowMs ? nowMs + 1 : nowMs,
    random: 1
  }
}

const unheard = (state: NodeState.NodeState): NodeState.NodeState => {
  if (!NodeState.isLeader(state)) return state
  const lastContactMs = nowMs - state.settings.electionTimeoutMsMax
  const progress = new Map([...state.role.progress].map(([id, known]) => [id, { ...known, lastContactMs }] as const))
  const silent: NodeState.LeaderState = { ...state, role: { ...state.role, progress } }
  return silent
}

/** The payload that a proposal at this place of the log carries, so that a wrong one shows. */
export const bytesAt = (term: number, index: number): Uint8Array => Uint8Array.of(term, index)

export const isPayloadOf = ({ index, payload, term }: Entry): boolean =>
  payload._tag === "Noop" || (payload.bytes[0] === term && payload.bytes[1] === index)

/** Does `action` to `server`. Throws a `Violation` when something does not hold. */
export const act = (rules: Rules, server: Server, action: Action): Outcome => new Acting(rules, server).run(action)

class Acting {
  private readonly rules: Rules
  private readonly id: NodeId
  private state: NodeState.NodeState | undefined
  private disk: Disk
  private jobs: ReadonlyArray<Job>
  private readonly sent: Array<Packet> = []
  private readonly disks: Array<Disk> = []
  private readonly inbox: Array<Event> = []
  private seen = 0

  constructor(rules: Rules, server: Server) {
    this.rules = rules
    this.id = server.id
    this.state = server.state
    this.disk = server.disk
    this.jobs = server.jobs
  }

  run(action: Action): Outcome {
    if (action._tag === "Start") this.start()
    else if (action._tag === "Flush") this.flush(action.count)
    else if (action._tag === "QuorumLost") this.take(unheard(this.running), { _tag: "Ticked" })
    else this.take(action.leaseEnded ? { ...this.running, leaseUntilMs: nowMs } : this.running, action.event)
    for (let event = this.inbox.shift(); event !== undefined; event = this.inbox.shift()) this.take(this.running, event)
    this.disks.push(this.disk)
    const server = { id: this.id, state: this.state, disk: this.disk, jobs: this.jobs }
    return { server, sent: this.sent, disks: this.disks, seen: this.seen }
  }

  private get running(): NodeState.NodeState {
    if (this.state === undefined) throw new Error(`${this.id} is down`)
    return this.state
  }

  private start(): void {
    const { configuration, settings, start } = this.rules
    const state = start({ id: this.id, settings, configuration, ...this.disk, random: 1, nowMs })
    this.checkState(state)
    this.state = timeless(state)
  }

  private take(before: NodeState.NodeState, event: Event): void {
    const { state, commands } = this.step(before, event)
    this.check(before, event, state, commands)
    this.seen |= seenInStep(before, event, state, commands)
    this.state = timeless(state)
    for (const command of commands) this.interpret(command)
  }

  private step(before: NodeState.NodeState, event: Event): ReturnType<typeof step> {
    this.rules.tally["no promise is broken"]++
    try {
      return this.rules.step(before, event, nowMs)
    } catch (error) {
      throw error instanceof Invariants.BrokenPromise ? new Violation("no promise is broken", error.message) : error
    }
  }

  private check(
    before: NodeState.NodeState,
    event: Event,
    after: NodeState.NodeState,
    commands: ReadonlyArray<Command>
  ): void {
    const { tally } = this.rules
    if (NodeState.isLeader(before) && NodeState.isLeader(after)) {
      const { log } = before
      demand(tally, "Leader Append-Only", Log.matches(after.log, Log.lastId(log)), () => `${this.id}, ${event._tag}`)
    }
    if (event._tag === "Received" && event.message._tag === "RequestPreVote") {
      const same = before.term === after.term && before.votedFor === after.votedFor && before.role === after.role
      demand(tally, "a pre-vote changes nothing at the voter (rule V5)", same, () => this.id)
    }
    this.checkState(after)
    if (!this.rules.invariants) return
    tally.checkStep++
    const [found] = Invariants.checkStep(before, after, commands)
    if (found !== undefined) throw new Violation(found, `checkStep, ${this.id}, ${event._tag}`)
  }

  private checkState(state: NodeState.NodeState): void {
    if (!this.rules.invariants) return
    this.rules.tally.checkState++
    const [found] = Invariants.checkState(state)
    if (found !== undefined) throw new Violation(found, `checkState, ${this.id}`)
  }

  private interpret(command: Command): void {
    switch (command._tag) {
      case "Persist":
        return this.submit(command.write, command.then)
      case "Apply":
        return this.submit(emptyWrite, [command])
      case "Send":
        return this.release(command, this.disk)
      case "ServeRead":
        return this.serve(command.requestIds, command.index)
      case "Accept":
      case "Refuse":
      case "AnnounceRole":
        return
      default:
        return command satisfies never
    }
  }

  private submit(write: Write, then: ReadonlyArray<Released>): void {
    const wrong = write.entries.find((entry) => !isPayloadOf(entry))
    demand(
      this.rules.tally,
      "Log Matching",
      wrong === undefined,
      () => `${this.id} has another payload at ${wrong?.index}`
    )
    // As the persister does: a barrier where nothing is under way is passed at once.
    if (this.jobs.length === 0 && isEmptyWrite(write)) {
      for (const released of then) this.release(released, this.disk)
      return
    }
    this.jobs = [...this.jobs, { write, then }]
    if (this.rules.waitsForDisk) this.flush(this.jobs.length)
  }

  /** Each promise is held against what is on disk once its own write is, whatever later writes it was merged with. */
  private flush(count: number): void {
    const { tally } = this.rules
    const group = this.jobs.slice(0, count)
    this.jobs = this.jobs.slice(count)
    const held: Array<Disk> = []
    for (const { write } of group) {
      const before = held[held.length - 1] ?? this.disk
      const after = written(before, write)
      held.push(after)
      const { term, votedFor } = before.hardState
      const kept = after.hardState.term > term
        || (after.hardState.term === term && (votedFor === undefined || after.hardState.votedFor === votedFor))
      demand(tally, "one vote a term (rules V1, V2)", kept, () => {
        const now = after.hardState
        return `${this.id} voted for ${votedFor} in term ${term}, then for ${now.votedFor} in term ${now.term}`
      })
    }
    const merged = mergeWrites(group.map((job) => job.write))
    this.disk = written(this.disk, merged)
    const last = held[held.length - 1]
    demand(
      tally,
      "merged writes leave what the writes would",
      last !== undefined && isSame(last, this.disk),
      () => this.id
    )
    this.seen |= seenInGroup(group.map((job) => job.write))
    group.forEach((job, i) => {
      for (const released of job.then) this.release(released, held[i] ?? this.disk)
    })
  }

  private release(released: Released, disk: Disk): void {
    if (released._tag === "Apply") return this.apply(released.from, released.to)
    const { message, to } = released
    this.checkDurable(to, message, disk)
    if (to === this.id) {
      this.inbox.push({ _tag: "Received", from: to, message })
      return
    }
    this.disks.push(this.disk)
    this.sent.push({ from: this.id, to, message })
  }

  private apply(from: number, to: number): void {
    const { log } = this.running
    for (let index = from; index <= to; index++) {
      const term = Log.termAt(log, index)
      const holds = term !== undefined && this.disk.entries[index - 1]?.term === term
      demand(this.rules.tally, "what is applied is on its server's disk", holds, () => `${this.id} applies ${index}`)
    }
    this.inbox.push({ _tag: "Applied", index: to })
  }

  /** A request is named by the length of what was committed when it came. */
  private serve(requestIds: ReadonlyArray<number>, index: number): void {
    for (const floor of requestIds) {
      demand(
        this.rules.tally,
        "a read sees everything committed before it (rules R1, R2)",
        index >= floor,
        () => `${this.id} serves at ${index} a read that came when ${floor} was committed`
      )
    }
  }

  private checkDurable(to: NodeId, message: Message, { entries, hardState }: Disk): void {
    const { tally } = this.rules
    const detail = () => `${this.id} sends ${message._tag} of term ${message.term} to ${to}`
    if (message._tag === "AppendEntries") {
      return demand(tally, "its term is durable first (rule V1)", hardState.term >= message.term, detail)
    }
    if (message._tag === "RequestVote") {
      const own = hardState.term === message.term && hardState.votedFor === this.id
      return demand(tally, "its term is durable first (rule V1)", own, detail)
    }
    if (message._tag === "RequestVoteResponse" && message.voteGranted) {
      const voted = hardState.term === message.term && hardState.votedFor === to
      return demand(tally, "a vote is durable first (rule V1)", voted, detail)
    }
    if (message._tag === "AppendEntriesResponse" && message.result._tag === "Matched") {
      const { matchIndex } = message.result
      demand(tally, "a match is durable first (rule L6)", entries.length >= matchIndex, detail)
    }
  }
}

const isSame = (a: Disk, b: Disk): boolean =>
  a.hardState.term === b.hardState.term && a.hardState.votedFor === b.hardState.votedFor
  && a.entries.length === b.entries.length && a.entries.every((entry, i) => entry.term === b.entries[i]?.term)

/** The disks that a crash may leave: as it is, and with `torn` any beginning of what waits. */
export const crashed = (server: Server, torn: boolean): ReadonlyArray<Disk> => {
  const disks = [server.disk]
  if (!torn) return disks
  for (let count = 1; count <= server.jobs.length; count++) {
    const { entries, hardState } = mergeWrites(server.jobs.slice(0, count).map((job) => job.write))
    for (let kept = hardState === undefined ? 1 : 0; kept <= entries.length; kept++) {
      disks.push(written(server.disk, { hardState, entries: entries.slice(0, kept) }))
    }
  }
  return disks
}
