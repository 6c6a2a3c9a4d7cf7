/**
 * The properties of the paper's Figure 3 between servers, and what a promise that leaves a server must find on its
 * disk. Each is checked as things happen, so that a finding names the step that broke it.
 */
import type { Entry, EntryId } from "../../src/domain/Entry.ts"
import * as Log from "../../src/domain/Log.ts"
import type { Message } from "../../src/domain/Message.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import { isLeader, type NodeState } from "../../src/domain/NodeState.ts"
import { majority } from "../../src/domain/Quorum.ts"
import type { Disk } from "./Disk.ts"

export class Violation extends Error {
  override readonly name = "Violation"
}

const demand = (holds: boolean, property: string, detail: () => string): void => {
  if (!holds) throw new Violation(`${property}: ${detail()}`)
}

interface Committed extends EntryId {
  /** The term of the server that was first to know it committed. */
  readonly knownIn: number
}

export class Figure3 {
  readonly leaders = new Map<number, NodeId>()
  readonly votes = new Map<string, NodeId>()
  /** By position: what any server ever held committed. */
  readonly committed: Array<Committed> = []
  readonly applied: Array<Entry> = []
  readonly known = new Map<string, { readonly entry: Entry; readonly previousTerm: number }>()

  /** Log Matching: an (index, term) names one entry with one predecessor, hence one whole prefix. */
  sawEntries(id: NodeId, log: Log.Log, entries: ReadonlyArray<Entry>): void {
    for (const entry of entries) {
      const previousTerm = Log.termAt(log, entry.index - 1) ?? -1
      const key = `${entry.term}.${entry.index}`
      const known = this.known.get(key)
      if (known === undefined) {
        this.known.set(key, { entry, previousTerm })
        continue
      }
      const same = known.entry.payload === entry.payload && known.previousTerm === previousTerm
      demand(same, "Log Matching", () => `${id} holds another entry, or another log before it, at ${key}`)
    }
  }

  sawStep(before: NodeState, after: NodeState, disks: ReadonlyMap<NodeId, Disk>): void {
    if (isLeader(after) && !isLeader(before)) this.sawLeader(after)
    if (after.commitIndex > before.commitIndex) this.sawCommit(before, after, disks)
  }

  private sawLeader(leader: NodeState): void {
    const other = this.leaders.get(leader.term)
    demand(
      other === undefined || other === leader.id,
      "Election Safety",
      () => `${other} and ${leader.id} lead term ${leader.term}`
    )
    this.leaders.set(leader.term, leader.id)
    for (const entry of this.committed) {
      demand(
        entry.knownIn >= leader.term || Log.matches(leader.log, entry),
        "Leader Completeness",
        () => `${leader.id} leads term ${leader.term} without ${entry.term}.${entry.index}`
      )
    }
  }

  private sawCommit(before: NodeState, after: NodeState, disks: ReadonlyMap<NodeId, Disk>): void {
    for (let index = before.commitIndex + 1; index <= after.commitIndex; index++) {
      const term = Log.termAt(after.log, index) ?? -1
      const known = this.committed[index - 1]
      if (known === undefined) this.committed[index - 1] = { term, index, knownIn: after.term }
      else {
        demand(
          known.term === term,
          "State Machine Safety",
          () => `${after.id} commits ${term}.${index}, but ${known.term}.${index} was committed`
        )
      }
    }
    if (isLeader(after)) this.sawLeaderCommit(after, disks)
  }

  private sawLeaderCommit(leader: NodeState, disks: ReadonlyMap<NodeId, Disk>): void {
    const { voters } = leader.configuration
    const term = Log.termAt(leader.log, leader.commitIndex)
    const durable = voters.filter((id) => disks.get(id)?.entries[leader.commitIndex - 1]?.term === term)
    demand(
      durable.length >= majority(voters.length),
      "Durability (rule L6)",
      () =>
        `${leader.id} commits ${term}.${leader.commitIndex}, which is on the disks of ${durable.join(", ") || "none"}`
    )
  }

  /** State Machine Safety: every server applies the same entry at each index. */
  sawApply(id: NodeId, entry: Entry): void {
    const known = this.applied[entry.index - 1]
    if (known === undefined) {
      demand(this.applied.length === entry.index - 1, "State Machine Safety", () => `${id} skips before ${entry.index}`)
      this.applied.push(entry)
      return
    }
    demand(
      known.term === entry.term && known.payload === entry.payload,
      "State Machine Safety",
      () => `${id} applies ${entry.term}.${entry.index}, another server applied ${known.term}.${known.index}`
    )
  }

  /** A message leaves a server: what it promises must be on that server's disk. */
  sawMessage(from: NodeId, to: NodeId, message: Message, disk: Disk): void {
    const { entries, hardState } = disk
    const detail = () => `${from} sends ${message._tag} of term ${message.term} to ${to}`
    switch (message._tag) {
      case "RequestVote":
      case "AppendEntries":
        return demand(hardState.term >= message.term, "its term is durable first (rule V1)", detail)
      case "RequestVoteResponse":
        return message.voteGranted ? this.sawVote(from, to, message.term, disk) : undefined
      case "AppendEntriesResponse": {
        if (message.result._tag !== "Matched" || hardState.term > message.term) return
        return demand(entries.length >= message.result.matchIndex, "a match is durable first (rule L6)", detail)
      }
      case "RequestPreVote":
      case "RequestPreVoteResponse":
        return
      default:
        return message satisfies never
    }
  }

  private sawVote(from: NodeId, to: NodeId, term: number, { hardState }: Disk): void {
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
