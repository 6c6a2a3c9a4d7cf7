/**
 * Every server, message and action of a server that the search meets, each once and by number. A state of the whole system is then a few
 * numbers, and what an action does to a server is looked up: the core steps each (server, event) pair once.
 */
import { act } from "./Acting.ts"
import { crashed } from "./Disk.ts"
import { keyOfPacket, keyOfServer } from "./Encoding.ts"
import * as Events from "./Events.ts"
import { down, factsOf, factsOfPacket, leading, type PacketFacts, roles, type ServerFacts } from "./Facts.ts"
import { idOf } from "./numbering.ts"
import { PairMap } from "./PairMap.ts"
import { bitOf, demand, either, type Finding, type Seen, Violation } from "./Properties.ts"
import { type Commit, lifeOf, type Packet, type Rules, type Server, wreck, writesOf } from "./Server.ts"
import { type Permutation, type Rename, renamePacket, renameServer, renaming } from "./Symmetry.ts"

export interface Transition {
  readonly to: number
  readonly sent: ReadonlyArray<number>
  readonly seen: Seen
  readonly commits: ReadonlyArray<Commit>
  readonly finding: Finding | undefined
  /** The server as a crash in the middle leaves it, after so many messages. */
  readonly crashes: ReadonlyArray<{ readonly to: number; readonly left: number }>
}

/** A power loss in the middle of an action. */
export interface Interrupted {
  readonly to: number
  readonly sent: ReadonlyArray<number>
  readonly seen: Seen
}

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
    this.packets.push(factsOfPacket(packet))
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
      const action = Events.actionOf(server, event, (packet) => this.packetOf(packet).packet)
      const outcome = act(this.rules, server, action)
      return {
        to: this.server(outcome.server),
        sent: outcome.sent.map((packet) => this.packet(packet)),
        seen: outcome.seen,
        commits: outcome.commits,
        finding: undefined,
        crashes: outcome.cuts.map(({ disk, left }) => ({ to: this.server(wreck(outcome.server, disk)), left }))
      }
    } catch (error) {
      if (!(error instanceof Violation)) throw error
      return { to: number, sent: [], seen: 0, commits: [], finding: error.finding, crashes: [] }
    }
  }

  /** `server` down, in every way that a crash now may leave its disk. */
  crashesOf(server: number): ReadonlyArray<number> {
    const known = this.wrecks[server]
    if (known !== undefined) return known
    const { server: value } = this.factsOf(server)
    const disks = crashed(value.disk, writesOf(value.jobs), this.torn)
    const found = disks.map((disk) => this.server(wreck(value, disk)))
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
      for (const cut of this.interrupted(this.renamedServer(p, server), mirrored)) {
        const sent = cut.sent.map((packet) => this.renamedPacket(back, packet)).toSorted((a, b) => a - b)
        const to = this.renamedServer(back, cut.to)
        found.set(`${to}:${sent.join()}`, { to, sent, seen: cut.seen })
      }
    })
    const all = [...found.values()]
    this.interruptions[number] = all
    return all
  }

  private interrupted(server: number, transition: Transition): ReadonlyArray<Interrupted> {
    const before = this.crashesOf(server)[0]
    return transition.crashes.flatMap(({ left, to }) => {
      // Before anything happened it is a crash like any other.
      if (left === 0 && to === before) return []
      const losesVote = to !== before && transition.sent.slice(left).some((packet) => {
        const { message } = this.packetOf(packet).packet
        return message._tag === "RequestVoteResponse" && message.voteGranted
      })
      const seen = losesVote ? bitOf("a voter crashes between its write and its vote") : 0
      return [{ to, sent: transition.sent.slice(0, left), seen: either(seen, this.seenInWreck(to)) }]
    })
  }

  seenInWreck(server: number): Seen {
    return this.factsOf(server).needsRepair ? bitOf("power is lost between an installed snapshot and its log") : 0
  }

  private renamedEvent(p: number, event: number): number {
    return Events.renamed(event, this.permutations[p] ?? [], (packet) => this.renamedPacket(p, packet))
  }

  /**
   * Whether `packet` can never do anything at `server` again, so that it may as well be lost: it answers a question of a term, or of a
   * role in it, that is over for good. It is given up only if the core, asked now, ignores it too.
   */
  isSpent(packet: number, server: number): boolean {
    const { awaitedBy, term } = this.packetOf(packet)
    if (awaitedBy === "any") return false
    const facts = this.factsOf(server)
    if (awaitedBy === "asker" && !this.isAnswered(packet, facts)) return false
    const isEarlier = awaitedBy === "pre-candidate" || awaitedBy === "successor"
    if (isEarlier ? term >= facts.diskTerm : term > facts.diskTerm) return false
    if (facts.role === down) return true
    if (awaitedBy === "candidate" && facts.term === term && roles[facts.role] === "Candidate") return false
    if (awaitedBy === "leader" && facts.term === term && facts.role === leading) return false
    const { finding, sent, to } = this.transition(server, Events.deliver(packet, false))
    return finding === undefined && to === server && sent.length === 0
  }

  /** Whether the question was put in this life of the server, and does not wait any more. What a later life makes of it is to be seen. */
  private isAnswered(packet: number, { server: { state } }: ServerFacts): boolean {
    const { message } = this.packetOf(packet).packet
    if (state === undefined || message._tag !== "RequestReadIndexResponse") return false
    const { ask, asked } = state.askedReads
    return lifeOf(ask) === lifeOf(message.ask) && asked.every((question) => question.ask > message.ask)
  }
}
