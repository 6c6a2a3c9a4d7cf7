/**
 * What an action does to a server: as the driver does it, with every promise held against what is on disk.
 */
import { type Command, emptyWrite, isEmptyWrite, mergeWrites, type Write } from "../../src/domain/Command.ts"
import type { EntryId } from "../../src/domain/Entry.ts"
import type { Event } from "../../src/domain/Event.ts"
import * as Invariants from "../../src/domain/Invariants.ts"
import * as Log from "../../src/domain/Log.ts"
import type { Message } from "../../src/domain/Message.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import * as NodeState from "../../src/domain/NodeState.ts"
import type { step } from "../../src/domain/Step.ts"
import { latestOf } from "./Configurations.ts"
import * as Disk from "./Disk.ts"
import { alongLog } from "./Facts.ts"
import { beginning, idAt, lastOf, lengthOf, type LogCode } from "./LogCode.ts"
import { checkInForce, checkMembership, configurationAt } from "./MembershipRules.ts"
import { demand, either, type Seen, Violation } from "./Properties.ts"
import {
  type Action,
  askOf,
  type Commit,
  type Cut,
  isPayloadOf,
  type Job,
  late,
  lifeOf,
  nowMs,
  type Outcome,
  overdue,
  type Packet,
  type Released,
  type Rules,
  seedOf,
  type Server,
  type Start,
  timeless,
  turned,
  unheard,
  writesOf
} from "./Server.ts"
import { seenInGroup, seenInStep } from "./situations.ts"

/** Does `action` to `server`. Throws a `Violation` when something does not hold. */
export const act = (rules: Rules, server: Server, action: Action): Outcome => new Acting(rules, server).run(action)

class Acting {
  private readonly rules: Rules
  private readonly id: NodeId
  private state: NodeState.NodeState | undefined
  private disk: Disk.Disk
  private jobs: ReadonlyArray<Job>
  private applied: LogCode
  private lives: Server["lives"]
  private readonly sent: Array<Packet> = []
  private readonly cuts: Array<Cut> = []
  private readonly inbox: Array<Event> = []
  private readonly commits: Array<Commit> = []
  private seen: Seen = 0

  constructor(rules: Rules, server: Server) {
    this.rules = rules
    this.id = server.id
    this.state = server.state
    this.disk = server.disk
    this.jobs = server.jobs
    this.applied = server.applied
    this.lives = server.lives
  }

  run(action: Action): Outcome {
    this.begin(action)
    for (let event = this.inbox.shift(); event !== undefined; event = this.inbox.shift()) this.take(this.running, event)
    const { applied, commits, cuts, disk, id, jobs, lives, seen, sent, state } = this
    return { server: { id, state, disk, jobs, applied, lives }, sent, cuts, commits, seen }
  }

  private begin(action: Action): void {
    switch (action._tag) {
      case "Start":
        return this.start(action.how)
      case "Flush":
        return this.flush(action.count)
      case "QuorumLost":
        return this.take(unheard(this.running), { _tag: "Ticked" })
      case "TransferOver":
        return this.take(overdue(this.running), { _tag: "Ticked" })
      case "Turned":
        return this.take(turned(this.running), action.event)
      case "Step":
        return this.take(action.isLate ? late(this.running) : this.running, action.event)
      case "Snapshot":
        return this.saveSnapshot(action.index)
      case "Resend":
        return this.sendSnapshot(action.to)
      default:
        return action satisfies never
    }
  }

  private get running(): NodeState.NodeState {
    if (this.state === undefined) throw new Error(`${this.id} is down`)
    return this.state
  }

  private start(how: Start): void {
    const { hasLives, settings, start, tally } = this.rules
    this.disk = Disk.recovered(tally, this.disk, how === "damaged")
    const { configuration, entries, hardState, prev, snapshot } = this.disk
    const [lowest, highest] = this.lives
    const life = how === "lower" ? lowest - 1 : highest + 1
    if (hasLives) this.lives = [Math.min(lowest, life), Math.max(highest, life)]
    const random = seedOf(life)
    const disk = { hardState, snapshot, prev, entries }
    const started = start({ id: this.id, settings, configuration, ...disk, logTimeMs: 0, random, nowMs })
    const { askedReads } = started
    const state = { ...started, askedReads: { ...askedReads, ask: askOf(askedReads.ask) } }
    this.applied = snapshot.sizeBytes
    if (this.rules.invariants) checkInForce(tally, state)
    this.checkState(state)
    this.state = timeless(state)
  }

  private take(before: NodeState.NodeState, event: Event): void {
    const { state, commands } = this.step(before, event)
    this.check(before, event, state, commands)
    this.seen = either(this.seen, seenInStep(before, event, state, commands, writesOf(this.jobs)))
    // Also where it steps down at once, since that entry removes it.
    if (NodeState.isLeader(before) && state.term === before.term && state.commitIndex > before.commitIndex) {
      this.commits.push({ index: state.commitIndex, configuration: latestOf(alongLog(before)).code })
    }
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
      const last = Log.lastId(before.log)
      const isHeld = last.index < after.log.prev.index || Log.matches(after.log, last)
      demand(tally, "Leader Append-Only", isHeld, () => `${this.id}, ${event._tag}`)
    }
    if (event._tag === "Received" && event.message._tag === "RequestPreVote") {
      const same = before.term === after.term && before.votedFor === after.votedFor && before.role === after.role
      demand(tally, "a pre-vote changes nothing at the voter (rule V5)", same, () => this.id)
    }
    if (event._tag === "Received" && event.message._tag === "RequestReadIndexResponse") {
      const { ask } = event.message
      const isOurs = lifeOf(ask) === lifeOf(before.askedReads.ask)
      const isServed = commands.some((command) => command._tag === "ServeRead")
      demand(tally, "an answer to an earlier life confirms no read", isOurs || !isServed, () => this.id)
    }
    if (this.rules.invariants) checkMembership(this.rules, { before, event, after, commands })
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
      case "Restore":
        return this.submit(emptyWrite, [command])
      case "Send":
        return this.release(command, this.disk)
      case "ServeRead":
        return this.serve(command.requestIds, command.index)
      case "SendSnapshot":
        return this.sendSnapshot(command.to)
      case "DiscardSnapshot":
        return this.discard(command.last)
      case "Compact": {
        const disk = Disk.compacted(this.rules.tally, this.disk, command.start)
        this.cut()
        this.disk = disk
        return
      }
      case "TakeSnapshot":
      case "Accept":
      case "Refuse":
      case "Complete":
      case "HandedOver":
      case "ReportLearner":
      case "AnnounceConfiguration":
      case "AnnounceRole":
        return
      default:
        return command satisfies never
    }
  }

  /** Power may be lost here. */
  private cut(disk: Disk.Disk = this.disk): void {
    this.cuts.push({ disk, left: this.sent.length })
  }

  private post(packet: Packet): void {
    this.cut()
    this.sent.push(packet)
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
    const held: Array<Disk.Disk> = []
    for (const { write } of group) {
      const before = held[held.length - 1] ?? this.disk
      const after = Disk.written(before, write)
      held.push(after)
      this.checkWrite(before, write, after)
    }
    const merged = mergeWrites(writesOf(group))
    for (const part of Disk.partsOf(merged, false)) this.cut(Disk.written(this.disk, part))
    this.disk = Disk.written(this.disk, merged)
    const last = held[held.length - 1]
    demand(
      tally,
      "merged writes leave what the writes would",
      last !== undefined && Disk.isSame(last, this.disk),
      () => this.id
    )
    this.seen = either(this.seen, seenInGroup(writesOf(group)))
    group.forEach((job, i) => {
      for (const released of job.then) this.release(released, held[i] ?? this.disk)
    })
  }

  private checkWrite(before: Disk.Disk, write: Write, after: Disk.Disk): void {
    const { tally } = this.rules
    const { term, votedFor } = before.hardState
    const kept = after.hardState.term > term
      || (after.hardState.term === term && (votedFor === undefined || after.hardState.votedFor === votedFor))
    demand(tally, "one vote a term (rules V1, V2)", kept, () => {
      const now = after.hardState
      return `${this.id} voted for ${votedFor} in term ${term}, then for ${now.votedFor} in term ${now.term}`
    })
    const { install } = write
    if (install === undefined) return
    demand(tally, "a log that stays holds the snapshot's last entry", Disk.keepsRightly(before, write), () => {
      const { last } = install.snapshot
      return `${this.id} keeps its log, without ${last.term}.${last.index}`
    })
  }

  private release(released: Released, disk: Disk.Disk): void {
    if (released._tag === "Apply") return this.apply(released.to)
    if (released._tag === "Restore") return this.restore(released.last)
    const { message, to } = released
    this.checkDurable(to, message, disk)
    if (to === this.id) this.inbox.push({ _tag: "Received", from: to, message })
    else this.post({ from: this.id, to, message })
  }

  private apply(to: number): void {
    const { tally } = this.rules
    const { log } = this.running
    const from = lengthOf(this.applied) + 1
    if (from > to) return
    if (from <= log.prev.index) {
      const isReplaced = this.jobs.some((job) => job.then.some(({ _tag }) => _tag === "Restore"))
      return demand(tally, "entries are applied in order, each once", isReplaced, () => `${this.id} has no ${from}`)
    }
    for (let index = from; index <= to; index++) {
      const term = Log.termAt(log, index)
      const holds = term !== undefined && Disk.termAt(this.disk, index) === term
      demand(tally, "what is applied is on its server's disk", holds, () => `${this.id} applies ${index}`)
      this.applied |= (term ?? 0) << (4 * (index - 1))
    }
    this.inbox.push({ _tag: "Applied", index: to, logTimeMs: 0 })
  }

  private restore(last: EntryId): void {
    const { tally } = this.rules
    if (last.index <= lengthOf(this.applied)) return
    const { snapshot } = this.disk
    const isHere = snapshot.last.index >= last.index
    demand(tally, "what is applied is on its server's disk", isHere, () => `${this.id} restores ${last.index}`)
    this.applied = snapshot.sizeBytes
    this.inbox.push({ _tag: "Applied", index: snapshot.last.index, logTimeMs: 0 })
  }

  private saveSnapshot(index: number): void {
    const { last } = this.disk.snapshot
    if (index > last.index) {
      const configuration = configurationAt(this.rules.tally, this.running, this.disk, index)
      const sizeBytes = beginning(this.applied, index)
      const lost = index < this.disk.prev.index ? this.disk.lost : 0
      this.disk = { ...this.disk, snapshot: { last: idAt(this.applied, index), configuration, sizeBytes }, lost }
    }
    this.take(this.running, { _tag: "SnapshotTaken", snapshot: this.disk.snapshot })
  }

  private sendSnapshot(to: NodeId): void {
    const { snapshot } = this.disk
    const { term } = this.running
    const isAny = snapshot.last.index > 0
    demand(this.rules.tally, "a snapshot that is sent is there", isAny, () => `${this.id} has none`)
    this.post({ from: this.id, to, message: { _tag: "InstallSnapshot", term, snapshot } })
  }

  /** What is discarded is the file that was received, by its last entry. */
  private discard(last: EntryId): void {
    const isAwaited = writesOf(this.jobs).some(({ install }) =>
      install?.snapshot.last.index === last.index && install.snapshot.last.term === last.term
    )
    demand(
      this.rules.tally,
      "a snapshot that is to be installed is kept",
      !isAwaited,
      () => `${this.id} discards ${last.term}.${last.index}`
    )
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

  private checkDurable(to: NodeId, message: Message, disk: Disk.Disk): void {
    const { tally } = this.rules
    const { hardState } = disk
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
      const isDurable = lastOf(Disk.logOf(disk)).index >= message.result.matchIndex
      demand(tally, "a match is durable first (rule L6)", isDurable, detail)
    }
  }
}
