/**
 * Servers under a test's hand: each steps a real `NodeState`, keeps a `Disk`, and runs what a step commands. Every
 * step is checked by `checkState`, `checkStep` and `Figure3`.
 */
import { type Command, emptyWrite } from "../../src/domain/Command.ts"
import { type Change, ofVoters, unknown } from "../../src/domain/Configuration.ts"
import type { EntryId } from "../../src/domain/Entry.ts"
import type { Event, ReadBy, RequestId } from "../../src/domain/Event.ts"
import { checkState, checkStep } from "../../src/domain/Invariants.ts"
import * as Log from "../../src/domain/Log.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import * as NodeState from "../../src/domain/NodeState.ts"
import type { Settings } from "../../src/domain/Settings.ts"
import { step } from "../../src/domain/Step.ts"
import type { PeerMessage } from "../../src/services/Transport.ts"
import { Figure3, Violation } from "../../src/testing/Figure3.ts"
import { Disk, type Released } from "./Disk.ts"
import { bytesOf, settingsWith } from "./Given.ts"
import type { Given, Observed, Reply, Server } from "./Server.ts"

export type { Given, Observed, Reply } from "./Server.ts"

/** Thrown inside the harness where `crashAt` says that a server loses power. */
class PowerLoss extends Error {}

export abstract class Servers {
  nowMs = 1000
  readonly servers = new Map<NodeId, Server>()
  readonly settings: Settings
  readonly figure3 = new Figure3((id) => this.disk(id))
  readonly replies = new Map<RequestId, Reply>()
  readonly records: Array<{ readonly node: NodeId; readonly command: Command }> = []
  observe: (observed: Observed) => void = () => {}
  /** The core of all servers: what ships, unless a test breaks it on purpose. Then what shows between servers is noted, and nothing else. */
  core: typeof step = step
  readonly findings: Array<Violation> = []
  /** Boundaries between commands, writes and released messages passed so far, and the one at which power is lost. */
  boundaries = 0
  crashAt = -1
  readonly readBy = new Map<RequestId, ReadBy>()
  private readonly readFloors = new Map<RequestId, number>()
  private requests = 0
  private seed: number

  constructor(given: Given) {
    this.settings = settingsWith(given.settings ?? {})
    this.seed = given.seed ?? 1
    const configuration = { ...ofVoters(given.voters), learners: given.learners ?? [] }
    for (const id of [...given.voters, ...configuration.learners]) {
      const disk = new Disk(given.beliefs?.[id] ?? configuration)
      const kept = given.disks?.[id]
      if (kept !== undefined) {
        disk.hardState = kept.hardState
        disk.entries = [...kept.entries]
      }
      this.make(id, disk)
    }
  }

  private make(id: NodeId, disk: Disk): void {
    const server: Server = {
      state: undefined,
      disk,
      applied: [],
      appliedIndex: 0,
      isAskedForSnapshot: false,
      captured: undefined,
      inbox: []
    }
    this.servers.set(id, server)
    const { log } = this.start(id, server)
    this.figure3.sawEntries(id, log, disk.entries)
  }

  /** A new server, which waits to be added. */
  add(id: NodeId): void {
    this.make(id, new Disk(unknown))
  }

  get ids(): ReadonlyArray<NodeId> {
    return [...this.servers.keys()]
  }

  server(id: NodeId): Server {
    const server = this.servers.get(id)
    if (server === undefined) throw new Error(`no server ${id}`)
    return server
  }

  disk(id: NodeId): Disk {
    return this.server(id).disk
  }

  isUp(id: NodeId): boolean {
    return this.server(id).state !== undefined
  }

  state(id: NodeId): NodeState.NodeState {
    const { state } = this.server(id)
    if (state === undefined) throw new Error(`${id} is down`)
    return state
  }

  leaderState(id: NodeId): NodeState.LeaderState {
    const state = this.state(id)
    if (!NodeState.isLeader(state)) throw new Error(`${id} does not lead: ${state.role._tag}`)
    return state
  }

  leaders(): ReadonlyArray<NodeId> {
    return this.ids.filter((id) => this.isUp(id) && NodeState.isLeader(this.state(id)))
  }

  termsOf(id: NodeId): ReadonlyArray<number> {
    const { log } = this.state(id)
    return Log.slice(log, { from: Log.firstIndex(log), to: log.lastIndex }).map((entry) => entry.term)
  }

  // ---- events

  /** One step of `id` at the present time, and everything that follows from it inside `id`. */
  step(id: NodeId, event: Event): void {
    this.untilPowerLoss(id, () => this.take(id, event))
  }

  private untilPowerLoss(id: NodeId, run: () => void): void {
    try {
      run()
    } catch (error) {
      if (!(error instanceof PowerLoss)) throw error
      this.crash(id)
    }
  }

  private take(id: NodeId, event: Event): void {
    const server = this.server(id)
    const before = this.state(id)
    const { commands, state } = this.core(before, event, this.nowMs)
    const found = this.core === step ? [...checkState(state), ...checkStep(before, state, commands)] : []
    if (found.length > 0) throw new Violation(found.join("; "), `${id}, ${event._tag}`)
    server.state = state
    this.observe({ node: id, event, commands })
    this.watch(() => this.figure3.sawStep(before, state, commands))
    for (const command of commands) {
      this.boundary()
      this.interpret(id, command)
    }
    if (!server.disk.held) this.flushWaiting(id)
  }

  /** Throws what is found, unless it was to be expected. */
  protected watch(check: () => void): void {
    try {
      check()
    } catch (error) {
      if (this.core === step || !(error instanceof Violation)) throw error
      this.findings.push(error)
    }
  }

  private interpret(id: NodeId, command: Command): void {
    this.records.push({ node: id, command })
    switch (command._tag) {
      case "Persist":
        return this.disk(id).submit(command.write, command.then)
      case "Send":
        return this.post(id, command.to, command.message)
      case "Apply":
      case "Restore":
        return this.disk(id).submit(emptyWrite, [command])
      case "SendSnapshot":
        return this.sendSnapshot(id, command.to)
      case "Compact":
        return this.disk(id).compact(command.start)
      case "TakeSnapshot":
        return void (this.server(id).isAskedForSnapshot = true)
      case "DiscardSnapshot":
        return void this.disk(id).received.delete(command.last.index)
      case "Accept":
        command.requestIds.forEach((requestId, i) =>
          this.reply(requestId, {
            _tag: "Accepted",
            id: { term: command.first.term, index: command.first.index + i }
          })
        )
        return
      case "ServeRead":
        for (const requestId of command.requestIds) this.serve(id, requestId, command.index)
        return
      case "Refuse":
        for (const id of command.requestIds) this.reply(id, { _tag: "Refused", refusal: command.refusal })
        return
      case "Complete":
      case "HandedOver":
        this.reply(command.requestId, { _tag: "Completed" })
        return
      case "AnnounceRole":
      case "AnnounceConfiguration":
      case "ReportLearner":
        return
      default:
        return command satisfies never
    }
  }

  private reply(requestId: RequestId, reply: Reply): void {
    if (this.replies.has(requestId)) throw new Violation("a request is answered once", `request ${requestId}`)
    this.replies.set(requestId, reply)
  }

  private serve(id: NodeId, requestId: RequestId, index: number): void {
    const floor = this.readFloors.get(requestId) ?? Infinity
    if (index < floor) {
      throw new Violation(
        "Linearizability",
        `${id} serves read ${requestId} at ${index}; ${floor} was committed before it`
      )
    }
    this.reply(requestId, { _tag: "Served", index })
  }

  private release(id: NodeId, released: Released): void {
    const server = this.server(id)
    if (released._tag === "Send") {
      if (released.to !== id) return this.post(id, released.to, released.message)
      this.watch(() => this.figure3.sawMessage(id, id, released.message))
      server.inbox.push({ _tag: "Received", from: id, message: released.message })
      return
    }
    if (released._tag === "Restore") return this.restore(id, released.last)
    // A snapshot has taken the place of these entries; its `Restore` is in line behind this.
    if (released.from <= this.state(id).log.prev.index) return
    for (let index = released.from; index <= released.to; index++) {
      const entry = Log.entryAt(this.state(id).log, index)
      if (entry === undefined) throw new Violation("Leader Append-Only", `${id} applies ${index}, which its log lacks`)
      if (server.appliedIndex !== index - 1) throw new Violation("entries are applied in order", `${id}: ${index}`)
      const bytes = "bytes" in entry.payload ? entry.payload.bytes : undefined
      this.watch(() => this.figure3.sawApply(id, entry, bytes))
      server.applied.push(entry)
      server.appliedIndex = index
    }
    server.inbox.push({ _tag: "Applied", index: released.to, logTimeMs: 0 })
  }

  // ---- snapshots

  /** The beginning of a snapshot, which stands for what is applied now. */
  captureSnapshot(id: NodeId): void {
    const server = this.server(id)
    const { log, snapshot } = this.state(id)
    const index = server.appliedIndex
    const term = Log.termAt(log, index)
    server.isAskedForSnapshot = false
    if (term === undefined || index <= snapshot.last.index) return this.step(id, { _tag: "SnapshotTaken", snapshot })
    const configuration = NodeState.configurationAt(this.state(id), index)
    server.captured = { last: { term, index }, configuration, sizeBytes: 1 }
  }

  /** Its end: it is durable, and the latest unless a later one was installed meanwhile. */
  saveSnapshot(id: NodeId): void {
    const server = this.server(id)
    const { captured, disk } = server
    if (captured === undefined) return
    server.captured = undefined
    this.untilPowerLoss(id, () => {
      this.boundary()
      if (captured.last.index > disk.snapshot.last.index) disk.snapshot = captured
      this.boundary()
      this.take(id, { _tag: "SnapshotTaken", snapshot: captured })
    })
  }

  /** All of the latest one at once, as one message. */
  sendSnapshot(from: NodeId, to: NodeId): void {
    const { term } = this.state(from)
    const { snapshot } = this.disk(from)
    if (snapshot.last.index === 0) return
    this.post(from, to, { _tag: "InstallSnapshot", term, snapshot, offset: 0, bytes: Uint8Array.of(1) })
  }

  private restore(id: NodeId, last: EntryId): void {
    const server = this.server(id)
    this.figure3.restored(id, last.index)
    server.appliedIndex = last.index
    server.inbox.push({ _tag: "Applied", index: last.index, logTimeMs: 0 })
  }

  private flushWaiting(id: NodeId, count?: number): void {
    const server = this.server(id)
    if (server.disk.waiting.length > 0) {
      this.boundary()
      for (const released of server.disk.flush(count)) {
        this.boundary()
        this.release(id, released)
      }
    }
    for (let event = server.inbox.shift(); event !== undefined; event = server.inbox.shift()) this.take(id, event)
  }

  private boundary(): void {
    if (this.boundaries++ === this.crashAt) throw new PowerLoss()
  }

  // ---- requests

  propose(id: NodeId, ...values: ReadonlyArray<string | Uint8Array>): ReadonlyArray<RequestId> {
    const proposals = values.map((value) => ({
      requestId: ++this.requests,
      bytes: typeof value === "string" ? bytesOf(value) : value,
      sequenced: undefined
    }))
    this.step(id, { _tag: "Propose", proposals })
    return proposals.map((proposal) => proposal.requestId)
  }

  read(id: NodeId, by: ReadBy = "Round"): RequestId {
    const requestId = ++this.requests
    this.readFloors.set(requestId, this.figure3.committed.length)
    this.readBy.set(requestId, by)
    this.step(id, { _tag: "Read", requestIds: [requestId], by })
    return requestId
  }

  reconfigure(id: NodeId, ...changes: ReadonlyArray<Change>): RequestId {
    const requestId = ++this.requests
    this.step(id, { _tag: "Reconfigure", requestId, changes })
    return requestId
  }

  transfer(id: NodeId, to?: NodeId): RequestId {
    const requestId = ++this.requests
    this.step(id, { _tag: "TransferLeadership", requestId, to })
    return requestId
  }

  // ---- disks

  holdDisk(id: NodeId): void {
    this.disk(id).held = true
  }

  /** Makes what waits durable (or its `count` oldest writes), and goes on holding. */
  flush(id: NodeId, count?: number): void {
    this.untilPowerLoss(id, () => this.flushWaiting(id, count))
  }

  releaseDisk(id: NodeId): void {
    this.disk(id).held = false
    if (this.isUp(id)) this.flush(id)
  }

  crash(id: NodeId): void {
    const server = this.server(id)
    server.state = undefined
    server.disk.lose()
    server.inbox = []
    server.isAskedForSnapshot = false
    server.captured = undefined
    server.applied = []
    server.appliedIndex = 0
    this.observe({ node: id, event: { _tag: "Crashed" }, commands: [] })
  }

  restart(id: NodeId): void {
    const server = this.server(id)
    server.disk.held = false
    this.start(id, server)
    this.observe({ node: id, event: { _tag: "Restarted" }, commands: [] })
  }

  protected abstract post(from: NodeId, to: NodeId, message: PeerMessage): void

  private start(id: NodeId, server: Server): NodeState.NodeState {
    this.figure3.started(id)
    this.seed = (Math.imul(this.seed, 1_664_525) + 1_013_904_223) >>> 0
    server.state = NodeState.make({
      id,
      settings: this.settings,
      configuration: server.disk.configuration,
      hardState: server.disk.hardState,
      snapshot: server.disk.snapshot,
      prev: server.disk.prev,
      entries: server.disk.entries,
      logTimeMs: 0,
      random: this.seed,
      nowMs: this.nowMs
    })
    if (server.state.snapshot.last.index > 0) {
      this.figure3.restored(id, server.state.snapshot.last.index)
      server.appliedIndex = server.state.snapshot.last.index
    }
    const found = checkState(server.state)
    if (found.length > 0) throw new Violation(found.join("; "), `${id} starts`)
    return server.state
  }
}
