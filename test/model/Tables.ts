/**
 * Every server, message and action of a server that the search meets, each once and by number. A state of the whole system is then a few
 * numbers, and what an action does to a server is looked up: the core steps each (server, event) pair once.
 */
import type { Message } from "../../src/domain/Message.ts"
import { isLeader } from "../../src/domain/NodeState.ts"
import { keyOfPacket, keyOfServer } from "./Encoding.ts"
import { PairMap } from "./PairMap.ts"
import { bitOf, demand, type Finding, Violation } from "./Properties.ts"
import { act, type Action, bytesAt, crashed, nowMs, type Packet, type Rules, type Server } from "./Server.ts"
import { idOf, numberOf, type Permutation, type Rename, renamePacket, renameServer, renaming } from "./Symmetry.ts"

/** The entries' terms, four bits each, the first entry lowest; at most seven. */
export type LogCode = number

const logCode = (terms: ReadonlyArray<number>): LogCode => terms.reduce((code, term, i) => code | (term << (4 * i)), 0)

export const roles = ["Down", "Follower", "PreCandidate", "Candidate", "Leader"] as const
export const down = 0
export const leading = roles.indexOf("Leader")

/** What the search asks of a server, as plain numbers. */
export interface ServerFacts {
  readonly server: Server
  readonly node: number
  readonly role: number
  readonly term: number
  readonly log: LogCode
  readonly logLength: number
  readonly commitIndex: number
  readonly jobs: number
  readonly hasLease: boolean
  readonly diskTerm: number
  /** 0 is nobody, else the server's number plus 1. */
  readonly diskVote: number
  readonly disk: LogCode
  /** The lowest term it can still act in, be it after a crash. */
  readonly lowestTerm: number
}

export interface PacketFacts {
  readonly packet: Packet
  readonly from: number
  readonly to: number
  readonly term: number
  readonly asksForVote: boolean
  readonly awaitedBy: Awaited
}

/** Which role at which term, relative to the message's, an answer can still mean something to. */
type Awaited = "any" | "none" | "candidate" | "pre-candidate" | "leader"

const awaitedBy = (message: Message): Awaited => {
  switch (message._tag) {
    case "RequestVoteResponse":
      return "candidate"
    case "RequestPreVoteResponse":
      return message.voteGranted ? "none" : "pre-candidate"
    case "AppendEntriesResponse":
      return message.result._tag === "Stale" ? "none" : "leader"
    case "RequestVote":
    case "RequestPreVote":
    case "AppendEntries":
      return "any"
    default:
      return message satisfies never
  }
}

export interface Transition {
  readonly to: number
  readonly sent: ReadonlyArray<number>
  readonly seen: number
  readonly finding: Finding | undefined
  /** By how many messages have left: the server as a crash there leaves it. */
  readonly crashes: ReadonlyArray<number>
}

/** A power loss in the middle of an action. */
export interface Interrupted {
  readonly to: number
  readonly sent: ReadonlyArray<number>
  readonly seen: number
}

/** Numbers of events; what can be several follows the first of its kind. */
export const tick = 0
export const quorumLost = 1
export const propose = 2
export const start = 3
export const loseFirst = 4
export const readFirst = 8
export const flushFirst = 16
export const deliverFirst = 64

export const deliver = (packet: number, leaseEnded: boolean): number => deliverFirst + 2 * packet + (leaseEnded ? 1 : 0)

export class Tables {
  readonly servers: Array<ServerFacts> = []
  readonly packets: Array<PacketFacts> = []
  readonly transitions: Array<Transition> = []
  readonly permutations: ReadonlyArray<Permutation>
  private readonly rules: Rules
  private readonly torn: boolean
  private readonly renames: ReadonlyArray<Rename>
  private readonly serverKeys = new Map<string, number>()
  private readonly packetKeys = new Map<string, number>()
  private readonly steps = new PairMap()
  /** By permutation, then by number; -1 where nobody asked yet. */
  private readonly renamedServers: Array<Array<number>>
  private readonly renamedPackets: Array<Array<number>>
  private readonly orbits: Array<number> = []
  private readonly wrecks: Array<ReadonlyArray<number> | undefined> = []
  private readonly interruptions: Array<ReadonlyArray<Interrupted> | undefined> = []

  constructor(options: { rules: Rules; torn: boolean; permutations: ReadonlyArray<Permutation> }) {
    this.rules = options.rules
    this.torn = options.torn
    this.permutations = options.permutations
    this.renames = options.permutations.map(renaming)
    this.renamedServers = options.permutations.map(() => [])
    this.renamedPackets = options.permutations.map(() => [])
  }

  server(server: Server): number {
    const key = keyOfServer(server)
    const known = this.serverKeys.get(key)
    if (known !== undefined) return known
    const number = this.servers.length
    this.serverKeys.set(key, number)
    this.servers.push(factsOf(server))
    for (const renamed of this.renamedServers) renamed.push(-1)
    this.orbits.push(-1)
    this.wrecks.push(undefined)
    return number
  }

  packet(packet: Packet): number {
    const key = keyOfPacket(packet)
    const known = this.packetKeys.get(key)
    if (known !== undefined) return known
    const number = this.packets.length
    this.packetKeys.set(key, number)
    const { from, message, to } = packet
    this.packets.push({
      packet,
      from: numberOf(from),
      to: numberOf(to),
      term: message.term,
      asksForVote: message._tag === "RequestVote" || message._tag === "RequestPreVote",
      awaitedBy: awaitedBy(message)
    })
    for (const renamed of this.renamedPackets) renamed.push(-1)
    return number
  }

  factsOf(server: number): ServerFacts {
    const facts = this.servers[server]
    if (facts === undefined) throw new Error(`no server ${server}`)
    return facts
  }

  packetOf(packet: number): PacketFacts {
    const facts = this.packets[packet]
    if (facts === undefined) throw new Error(`no packet ${packet}`)
    return facts
  }

  /** Server `server` under permutation number `p`. */
  renamedServer(p: number, server: number): number {
    if (p === 0) return server
    const known = this.renamedServers[p]?.[server] ?? -1
    if (known >= 0) return known
    const rename = this.renames[p]
    const row = this.renamedServers[p]
    if (rename === undefined || row === undefined) throw new Error(`no permutation ${p}`)
    const renamed = this.server(renameServer(this.factsOf(server).server, rename))
    row[server] = renamed
    return renamed
  }

  renamedPacket(p: number, packet: number): number {
    if (p === 0) return packet
    const known = this.renamedPackets[p]?.[packet] ?? -1
    if (known >= 0) return known
    const rename = this.renames[p]
    const row = this.renamedPackets[p]
    if (rename === undefined || row === undefined) throw new Error(`no permutation ${p}`)
    const renamed = this.packet(renamePacket(this.packetOf(packet).packet, rename))
    row[packet] = renamed
    return renamed
  }

  /** The same number for a server however it and its peers are named. */
  orbit(server: number): number {
    const known = this.orbits[server] ?? -1
    if (known >= 0) return known
    const all = this.permutations.map((_, p) => this.renamedServer(p, server))
    const least = Math.min(...all)
    for (const renamed of all) this.orbits[renamed] = least
    return least
  }

  transition(server: number, event: number): Transition {
    const known = this.steps.get(server, event)
    const number = known >= 0 ? known : this.step(server, event)
    const transition = this.transitions[number]
    if (transition === undefined) throw new Error(`no transition ${number}`)
    return transition
  }

  private step(server: number, event: number): number {
    const number = this.transitions.length
    this.steps.set(server, event, number)
    this.interruptions.push(undefined)
    this.transitions.push(this.computed(server, event))
    return number
  }

  private computed(number: number, event: number): Transition {
    const { server } = this.factsOf(number)
    try {
      const outcome = act(this.rules, server, this.action(server, event))
      return {
        to: this.server(outcome.server),
        sent: outcome.sent.map((packet) => this.packet(packet)),
        seen: outcome.seen,
        finding: undefined,
        crashes: outcome.disks.map((disk) => this.server({ id: server.id, state: undefined, disk, jobs: [] }))
      }
    } catch (error) {
      if (!(error instanceof Violation)) throw error
      return { to: number, sent: [], seen: 0, finding: error.finding, crashes: [] }
    }
  }

  private action({ state }: Server, event: number): Action {
    if (event === quorumLost) return { _tag: "QuorumLost" }
    if (event === start) return { _tag: "Start" }
    if (event >= flushFirst && event < deliverFirst) return { _tag: "Flush", count: event - flushFirst }
    if (event >= deliverFirst) {
      const { from, message } = this.packetOf((event - deliverFirst) >> 1).packet
      return { _tag: "Step", event: { _tag: "Received", from, message }, leaseEnded: (event & 1) === 1 }
    }
    if (event === tick) {
      // Whoever's election timeout has come has heard of no leader for at least as long as a lease lasts.
      return { _tag: "Step", event: { _tag: "Ticked" }, leaseEnded: state !== undefined && !isLeader(state) }
    }
    if (event === propose) {
      const bytes = bytesAt(state?.term ?? 0, (state?.log.lastIndex ?? 0) + 1)
      return { _tag: "Step", event: { _tag: "Propose", proposals: [{ requestId: 0, bytes }] }, leaseEnded: false }
    }
    if (event >= readFirst) {
      return { _tag: "Step", event: { _tag: "Read", requestIds: [event - readFirst] }, leaseEnded: false }
    }
    return { _tag: "Step", event: { _tag: "PeerLost", peer: idOf(event - loseFirst) }, leaseEnded: false }
  }

  /** `server` down, in every way that a crash now may leave its disk. */
  crashesOf(server: number): ReadonlyArray<number> {
    const known = this.wrecks[server]
    if (known !== undefined) return known
    const { server: value } = this.factsOf(server)
    const found = crashed(value, this.torn).map((disk) =>
      this.server({ id: value.id, state: undefined, disk, jobs: [] })
    )
    const distinct = [...new Set(found)]
    this.wrecks[server] = distinct
    return distinct
  }

  /**
   * Every crash in the middle of an action: some first messages have left, the rest has not. A server speaks to its peers in the order
   * in which it lists them; to keep servers interchangeable, every order is taken.
   */
  interruptionsOf(server: number, event: number): ReadonlyArray<Interrupted> {
    const transition = this.transition(server, event)
    const number = this.steps.get(server, event)
    const known = this.interruptions[number]
    if (known !== undefined) return known
    const found = new Map<string, Interrupted>()
    const { node } = this.factsOf(server)
    this.permutations.forEach((permutation, p) => {
      if (permutation[node] !== node) return
      const back = this.permutations.findIndex((other) => permutation.every((to, from) => other[to] === from))
      const mirrored = this.transition(this.renamedServer(p, server), this.renamedEvent(p, event))
      if (mirrored.finding !== undefined) return
      const isAlike = this.renamedServer(back, mirrored.to) === transition.to
      demand(
        this.rules.tally,
        "servers are alike",
        isAlike,
        () => `the names of its peers change what ${idOf(node)} does`
      )
      for (const cut of this.interrupted(server, event, mirrored)) {
        const sent = cut.sent.map((packet) => this.renamedPacket(back, packet)).toSorted((a, b) => a - b)
        const to = this.renamedServer(back, cut.to)
        found.set(`${to}:${sent.join()}`, { to, sent, seen: cut.seen })
      }
    })
    const all = [...found.values()]
    this.interruptions[number] = all
    return all
  }

  private interrupted(server: number, event: number, transition: Transition): ReadonlyArray<Interrupted> {
    const isFlush = event >= flushFirst && event < deliverFirst
    const before = this.factsOf(server)
    return transition.crashes.slice(0, -1).flatMap((to, k) => {
      const left = transition.sent.slice(k)
      const isSameDisk = this.factsOf(to).disk === before.disk && this.factsOf(to).diskVote === before.diskVote
        && this.factsOf(to).diskTerm === before.diskTerm
      // Before anything happened it is a crash like any other.
      if (k === 0 && !isFlush && isSameDisk) return []
      const losesVote = !isSameDisk && left.some((packet) => {
        const { message } = this.packetOf(packet).packet
        return message._tag === "RequestVoteResponse" && message.voteGranted
      })
      const seen = losesVote ? bitOf("a voter crashes between its write and its vote") : 0
      return [{ to, sent: transition.sent.slice(0, k), seen }]
    })
  }

  private renamedEvent(p: number, event: number): number {
    if (event >= deliverFirst) {
      return deliverFirst + 2 * this.renamedPacket(p, (event - deliverFirst) >> 1) + (event & 1)
    }
    if (event < loseFirst || event >= readFirst) return event
    return loseFirst + (this.permutations[p]?.[event - loseFirst] ?? 0)
  }

  /**
   * Whether `packet` can never do anything at `server` again, so that it may as well be lost: it answers a question of a term, or of a
   * role in it, that is over for good. It is given up only if the core, asked now, ignores it too.
   */
  isSpent(packet: number, server: number): boolean {
    const { awaitedBy, term } = this.packetOf(packet)
    if (awaitedBy === "any") return false
    const facts = this.factsOf(server)
    if (awaitedBy === "pre-candidate" ? term >= facts.diskTerm : term > facts.diskTerm) return false
    if (facts.role === down) return true
    if (awaitedBy === "candidate" && facts.term === term && roles[facts.role] === "Candidate") return false
    if (awaitedBy === "leader" && facts.term === term && facts.role === leading) return false
    const { finding, sent, to } = this.transition(server, deliver(packet, false))
    return finding === undefined && to === server && sent.length === 0
  }
}

const factsOf = (server: Server): ServerFacts => {
  const { disk, jobs, state } = server
  const terms = Array.from(
    { length: state?.log.lastIndex ?? 0 },
    (_, i) => state?.log.terms.findLast((run) => run.index <= i + 1)?.term ?? 0
  )
  const term = state?.term ?? disk.hardState.term
  return {
    server,
    node: numberOf(server.id),
    role: state === undefined ? down : roles.indexOf(state.role._tag),
    term,
    log: logCode(terms),
    logLength: terms.length,
    commitIndex: state?.commitIndex ?? 0,
    jobs: jobs.length,
    hasLease: state !== undefined && state.leaseUntilMs > nowMs,
    diskTerm: disk.hardState.term,
    diskVote: disk.hardState.votedFor === undefined ? 0 : numberOf(disk.hardState.votedFor) + 1,
    disk: logCode(disk.entries.map((entry) => entry.term)),
    lowestTerm: Math.min(term, disk.hardState.term)
  }
}
