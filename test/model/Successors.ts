/**
 * Every action that can follow a state, and the state it leads to. A state is flat: the number of each server, the history, what is left of
 * each budget, then the messages in flight, sorted.
 *
 * A message that never arrives may as well be lost; `drops` only make room for others.
 */
import * as Configuration from "../../src/domain/Configuration.ts"
import { type Bounds, type Budget, budgets } from "./bound.ts"
import { Canonical } from "./Canonical.ts"
import { type Code, codeOf, configurationOf, unknown } from "./Configurations.ts"
import { newDisk } from "./Disk.ts"
import * as Events from "./Events.ts"
import { down, leading, type ServerFacts } from "./Facts.ts"
import { budgetsAt, committedAt, History, historyLength } from "./History.ts"
import { lengthOf } from "./LogCode.ts"
import { idOf } from "./numbering.ts"
import { bitOf, either, type Finding, type Seen, Violation } from "./Properties.ts"
import { type Commit, noLives, type Rules } from "./Server.ts"
import type { Tables } from "./Tables.ts"

export const strideOf = (bounds: Bounds): number => bounds.nodes + historyLength + bounds.messages

type Kind = "voter" | "learner" | "newcomer"

/** What each server is at first. */
export const kindsOf = ({ learners, newcomers, nodes }: Bounds): ReadonlyArray<Kind> =>
  Array.from(
    { length: nodes },
    (_, i) => i >= nodes - newcomers ? "newcomer" : i >= nodes - newcomers - learners ? "learner" : "voter"
  )

const configurationAtFirst = (bounds: Bounds): Code => {
  const kinds = kindsOf(bounds)
  const of = (kind: Kind) => kinds.flatMap((one, i) => one === kind ? [idOf(i)] : [])
  return codeOf(Configuration.make({ voters: of("voter"), learners: of("learner") }))
}

/** What happened, for whoever writes it down. */
export interface Taken {
  readonly node: number
  readonly event: number | "crash" | "drop"
  readonly packet: number
  /** How many messages left before power was lost in the middle; -1 where it was not. */
  readonly left: number
  readonly isCopy: boolean
}

const none: ReadonlyArray<number> = []
const noCommits: ReadonlyArray<Commit> = []
const bitsPerBudget = 3
const budgetsPerWord = 10

export type Cut = Budget | "terms" | "log" | "messages"

/** In which of the integers that hold budgets, and from which bit on. */
const places = Object.fromEntries(
  budgets.map((budget, i) => [budget, {
    word: budgetsAt + Math.floor(i / budgetsPerWord),
    shift: (i % budgetsPerWord) * bitsPerBudget
  }])
) as Record<Budget, { readonly word: number; readonly shift: number }>

export class Successors {
  /** The state that an action leads to, where there is one, while `visit` runs. */
  readonly next: Int32Array
  readonly cut: Record<Cut, number>
  /** The position of the action among all that follow the state. */
  ordinal = 0
  seen: Seen = 0
  /** What actions show that change nothing. */
  seenInVain: Seen = 0
  taken: Taken = { node: 0, event: 0, packet: -1, left: -1, isCopy: false }
  readonly tables: Tables
  readonly canonical: Canonical
  private readonly bounds: Bounds
  private readonly history: History
  private readonly state: Int32Array
  private readonly work: Int32Array
  private readonly packets = new Int32Array(64)
  private visit: (finding: Finding | undefined) => void = () => {}

  constructor(bounds: Bounds, tables: Tables, { isFixed, tally }: Pick<Rules, "isFixed" | "tally">) {
    const stride = strideOf(bounds)
    this.bounds = bounds
    this.tables = tables
    const configuration = configurationAtFirst(bounds)
    this.history = new History(tables, { nodes: bounds.nodes, tally, configuration, isFixed })
    this.canonical = new Canonical(tables, kindsOf(bounds), stride)
    this.next = new Int32Array(stride)
    this.state = new Int32Array(stride)
    this.work = new Int32Array(bounds.nodes + historyLength)
    const cut: Partial<Record<Cut, number>> = { terms: 0, log: 0, messages: 0 }
    for (const budget of budgets) cut[budget] = 0
    this.cut = cut as Record<Cut, number>
  }

  /** Puts the state that the search begins with into `next`. */
  initial(): void {
    const { bounds, tables, work } = this
    const kinds = kindsOf(bounds)
    work.fill(0, bounds.nodes)
    for (let node = 0; node < bounds.nodes; node++) {
      const id = idOf(node)
      const disk = newDisk(configurationOf(kinds[node] === "newcomer" ? unknown : configurationAtFirst(bounds)))
      const off = tables.server({ id, state: undefined, disk, jobs: [], applied: 0, lives: noLives })
      work[node] = tables.transition(off, Events.start).to
    }
    // Elected, and then heard once more: everybody knows that its no-op is committed.
    if (bounds.begins === "led") { for (let i = 0; i < 2; i++) this.settle(0, Events.tick) }
    for (const budget of budgets) {
      const { shift, word } = places[budget]
      const at = bounds.nodes + word
      work[at] = (work[at] ?? 0) | (bounds[budget] << shift)
    }
    this.canonical.write(work, this.packets, 0, this.next)
  }

  /** `event` at `node`, and all that follows from it if nothing is lost or late. */
  private settle(node: number, event: number): void {
    const { history, tables, work } = this
    const queue = [{ node, event }]
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const before = work[next.node] ?? 0
      const { commits, finding, sent, to } = tables.transition(before, next.event)
      if (finding !== undefined) throw new Violation(finding.property, finding.detail)
      work[next.node] = to
      if (to !== before) history.saw(work, next.node, tables.factsOf(before), tables.factsOf(to), commits)
      for (const packet of sent) queue.push({ node: tables.packetOf(packet).to, event: Events.deliver(packet, false) })
      const { groupMax } = tables.factsOf(to)
      if (groupMax > 0) queue.unshift({ node: next.node, event: Events.flushFirst + groupMax })
    }
  }

  /** Calls `visit` after every action that can follow the state at `offset` of `states`. */
  each(states: Int32Array, offset: number, visit: (finding: Finding | undefined) => void): void {
    const { bounds, state } = this
    for (let i = 0; i < state.length; i++) state[i] = states[offset + i] ?? 0
    this.visit = visit
    this.ordinal = 0
    for (let node = 0; node < bounds.nodes; node++) this.eachOf(node)
    const first = bounds.nodes + historyLength
    for (let i = first; i < state.length; i++) {
      const packet = state[i] ?? -1
      if (packet < 0) break
      if (i === first || packet !== state[i - 1]) this.eachOfPacket(packet, i)
    }
  }

  private left(budget: Budget): boolean {
    const { shift, word } = places[budget]
    const left = ((this.state[this.bounds.nodes + word] ?? 0) >>> shift) & 7
    if (left === 0 && this.bounds[budget] > 0) this.cut[budget]++
    return left > 0
  }

  private eachOf(node: number): void {
    const { bounds, tables } = this
    const number = this.state[node] ?? 0
    const facts = tables.factsOf(number)
    if (facts.role === down) return this.eachStart(node, facts)
    const isLeading = facts.role === leading
    if (this.left(isLeading ? "heartbeats" : "timeouts")) {
      this.step(node, Events.tick, -1, isLeading ? "heartbeats" : bounds.timeouts === 7 ? undefined : "timeouts")
    }
    for (let count = 1; count <= facts.groupMax; count++) this.step(node, Events.flushFirst + count, -1, undefined)
    if (isLeading) this.eachOfLeader(node, facts)
    else if (facts.canAsk && this.left("asks")) this.step(node, Events.askFirst + this.committed(), -1, "asks")
    this.eachSnapshot(node, facts)
    if (!this.left("crashes")) return
    tables.crashesOf(number).forEach((to, i) => {
      this.note(node, "crash", -1, i)
      const seen = tables.seenInWreck(to)
      const isTorn = i > 0 && seen === 0
      this.emit(node, to, none, "crashes", isTorn ? bitOf("a write is torn and what is left of it survives") : seen)
    })
  }

  private committed(): number {
    return lengthOf(this.state[this.bounds.nodes + committedAt] ?? 0)
  }

  private eachStart(node: number, facts: ServerFacts): void {
    this.step(node, Events.start, -1, undefined)
    if (this.bounds.asks > 0) this.step(node, Events.startLower, -1, undefined)
    if (facts.diskSnapshot !== 0 && this.left("damages")) this.step(node, Events.startDamaged, -1, "damages")
  }

  /** Any that was begun since the latest: it was as much as had been applied by then. */
  private eachSnapshot(node: number, { applied, diskSnapshot, isTakingSnapshot }: ServerFacts): void {
    if (isTakingSnapshot) this.step(node, Events.snapshotFailed, -1, undefined)
    for (let index = lengthOf(diskSnapshot) + 1; index <= lengthOf(applied); index++) {
      if (!isTakingSnapshot && !this.left("snapshots")) return
      this.step(node, Events.snapshotFirst + index, -1, isTakingSnapshot ? undefined : "snapshots")
    }
  }

  private eachOfLeader(node: number, { isHandingOver, receivers, restoring }: ServerFacts): void {
    const { bounds } = this
    if (isHandingOver) this.step(node, Events.transferOver, -1, undefined)
    this.eachChange(node)
    if (bounds.elections === "pre-vote" && bounds.nodes > 1) this.step(node, Events.quorumLost, -1, undefined)
    if (this.left("proposals")) this.step(node, Events.propose, -1, "proposals")
    if (this.left("reads")) this.step(node, Events.readFirst + this.committed(), -1, "reads")
    for (const peer of receivers) {
      if (this.left("repeats")) this.step(node, Events.resendFirst + peer, -1, "repeats")
    }
    // Too early as well: then the peer says once more what it lacks.
    for (const peer of restoring) this.step(node, Events.sentFirst + peer, -1, undefined)
    if (!this.left("losses")) return
    for (let peer = 0; peer < bounds.nodes; peer++) {
      if (peer !== node) this.step(node, Events.loseFirst + peer, -1, "losses")
    }
  }

  /** Changes and transfers of every kind, to and of every server. */
  private eachChange(node: number): void {
    const { nodes, wishes } = this.bounds
    const isLeft = wishes.length > 0 && this.left("changes")
    for (let one = 0; one < nodes; one++) {
      for (const wish of isLeft ? wishes : []) {
        if (!Events.isAboutTwo(wish)) this.stepUnlessInVain(node, Events.change(wish, one, one), "changes")
        for (let other = 0; other < nodes && Events.isAboutTwo(wish); other++) {
          if (other !== one) this.stepUnlessInVain(node, Events.change(wish, one, other), "changes")
        }
      }
      if (this.left("transfers") && one !== node) {
        this.stepUnlessInVain(node, Events.transferFirst + one, "transfers")
      }
    }
  }

  /** What is refused costs nothing. */
  private stepUnlessInVain(node: number, event: number, budget: Budget): void {
    const server = this.state[node] ?? 0
    const { finding, seen, sent, to } = this.tables.transition(server, event)
    if (finding === undefined && to === server && sent.length === 0) this.seenInVain = either(this.seenInVain, seen)
    else this.step(node, event, -1, budget)
  }

  private eachOfPacket(packet: number, at: number): void {
    const { from, packet: { message }, to } = this.tables.packetOf(packet)
    const receiver = this.tables.factsOf(this.state[to] ?? 0)
    if (receiver.role !== down) {
      this.step(to, Events.deliver(packet, false), at, undefined)
      this.eachLate(packet, at, receiver)
      // What arrives twice arrives once and stays in flight.
      if (this.left("duplicates")) this.step(to, Events.deliver(packet, false), -1, "duplicates")
    }
    if (!this.left("drops")) return
    this.note(to, "drop", packet, -1)
    const isInstall = message._tag === "AppendEntriesResponse" && message.result._tag === "Matched"
      && receiver.receivers.includes(from)
    const seen = isInstall ? bitOf("the acknowledgement of an install is lost") : 0
    this.emit(to, this.state[to] ?? 0, none, "drops", seen, at)
  }

  /** What may have happened by the time that the message arrives. */
  private eachLate(packet: number, at: number, receiver: ServerFacts): void {
    const event = Events.deliver(packet, true)
    const { late, to } = this.tables.packetOf(packet)
    if (late === "lease" && receiver.hasLease) this.step(to, event, at, undefined)
    if (late === "question" && receiver.isAsking && this.left("repeats")) this.step(to, event, at, "repeats")
    // The other pieces are still under way.
    if (late === "preference" && receiver.isRetiring) this.step(to, event, at, undefined)
    if (late === "piece") this.step(to, event, -1, undefined)
  }

  private note(node: number, event: Taken["event"], packet: number, left: number, isCopy = false): void {
    this.taken = { node, event, packet, left, isCopy }
  }

  /** `event` at `node`, which consumes the message at position `at`, whole or with a loss of power in the middle. */
  private step(node: number, event: number, at: number, budget: Budget | undefined): void {
    const { bounds, tables } = this
    const server = this.state[node] ?? 0
    const { commits, crashes, finding, seen, sent, to } = tables.transition(server, event)
    const packet = Events.packetIn(event)
    const isCopy = budget === "duplicates"
    this.note(node, event, packet, -1, isCopy)
    if (finding !== undefined) return this.found(finding)
    const facts = tables.factsOf(to)
    if (facts.term > bounds.terms) this.cut.terms++
    else if (facts.logLength > bounds.log) this.cut.log++
    else {
      this.emit(node, to, sent, budget, seen, at, commits)
      // A crash in the middle costs one of the crashes; a budget of its own action is spared, which only allows more.
      if (crashes.length === 0 || Events.isStart(event) || !this.left("crashes")) return
      try {
        for (const cut of tables.interruptionsOf(server, event)) {
          this.note(node, event, packet, cut.sent.length, isCopy)
          this.emit(node, cut.to, cut.sent, "crashes", cut.seen, at)
        }
      } catch (error) {
        if (!(error instanceof Violation)) throw error
        this.found(error.finding)
      }
    }
  }

  private found(finding: Finding): void {
    this.visit(finding)
    this.ordinal++
  }

  private emit(
    node: number,
    to: number,
    sent: ReadonlyArray<number>,
    budget: Budget | undefined,
    seen: Seen,
    consumed = -1,
    commits = noCommits
  ): void {
    const { bounds, state, tables, work } = this
    const first = bounds.nodes + historyLength
    const before = state[node] ?? 0
    for (let i = 0; i < first; i++) work[i] = state[i] ?? 0
    work[node] = to
    if (budget !== undefined) {
      const { shift, word } = places[budget]
      const at = bounds.nodes + word
      work[at] = (work[at] ?? 0) - (1 << shift)
    }
    const count = this.gather(node, to, sent, consumed)
    if (count > bounds.messages) {
      this.cut.messages++
      return
    }
    this.seen = seen
    if (before !== to) {
      try {
        this.seen = either(seen, this.history.saw(work, node, tables.factsOf(before), tables.factsOf(to), commits))
      } catch (error) {
        if (!(error instanceof Violation)) throw error
        return this.found(error.finding)
      }
    }
    this.canonical.write(work, this.packets, count, this.next)
    this.visit(undefined)
    this.ordinal++
  }

  /** What is in flight after `node` became `to`: without what was consumed, with what was sent, without what is spent. */
  private gather(node: number, to: number, sent: ReadonlyArray<number>, consumed: number): number {
    const { bounds, packets, state, tables } = this
    let count = 0
    for (let i = bounds.nodes + historyLength; i < state.length; i++) {
      const packet = state[i] ?? -1
      if (packet < 0) break
      if (i === consumed) continue
      if (state[node] !== to && tables.packetOf(packet).to === node && tables.isSpent(packet, to)) continue
      packets[count++] = packet
    }
    for (const packet of sent) {
      const receiver = tables.packetOf(packet).to
      if (tables.isSpent(packet, receiver === node ? to : state[receiver] ?? 0)) continue
      packets[count++] = packet
    }
    return count
  }
}
