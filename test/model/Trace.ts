/**
 * How a state was reached, one line per action in fixed columns. States were renamed on the way; here every server keeps its name.
 */
import type { Message } from "../../src/domain/Message.ts"
import type { Successors, Taken } from "./Successors.ts"
import { idOf } from "./Symmetry.ts"
import * as Tables from "./Tables.ts"
import type { Visited } from "./Visited.ts"

const termsOf = (entries: ReadonlyArray<{ readonly term: number }>): string => entries.map((e) => e.term).join(" ")

const textOf = (message: Message): string => {
  switch (message._tag) {
    case "RequestVote":
    case "RequestPreVote":
      return `${message._tag} t${message.term} last ${message.last.term}.${message.last.index}`
    case "RequestVoteResponse":
    case "RequestPreVoteResponse":
      return `${message._tag} t${message.term} ${message.voteGranted ? "granted" : "denied"}`
    case "AppendEntries":
      return `AppendEntries t${message.term} prev ${message.prev.term}.${message.prev.index} [${
        termsOf(message.entries)
      }] commit ${message.leaderCommit} round ${message.round}`
    case "AppendEntriesResponse": {
      const { result } = message
      const said = result._tag === "Matched"
        ? `Matched ${result.matchIndex}`
        : result._tag === "Rejected"
        ? `Rejected ${result.prevIndex}, conflict ${result.conflict.term ?? "-"}.${result.conflict.index}`
        : "Stale"
      return `AppendEntriesResponse t${message.term} ${said} round ${message.round}`
    }
    default:
      return message satisfies never
  }
}

/** What the server is after the action. */
const header = ["step", "node", "role", "term", "commit", "last", "jobs", "action"]
const widths = [4, 4, 12, 4, 6, 4, 4, 0]

const columns = (cells: ReadonlyArray<string | number>): string =>
  cells.map((cell, i) => String(cell).padEnd(widths[i] ?? 0)).join("  ").trimEnd()

export interface Traced {
  readonly trace: ReadonlyArray<string>
  /** The finding, with the servers named as in the trace. */
  readonly detail: string
}

export class Tracer {
  private readonly successors: Successors
  private readonly visited: Visited

  constructor(successors: Successors, visited: Visited) {
    this.successors = successors
    this.visited = visited
  }

  /** The way to state number `state`, and then its action number `ordinal`, in which `detail` was found. */
  to(state: number, ordinal: number, detail: string): Traced {
    const ordinals = [ordinal]
    for (let at = state; at > 0;) {
      const { ordinal, parent } = this.visited.parentOf(at)
      ordinals.push(ordinal)
      at = parent
    }
    return this.replay(ordinals.toReversed(), detail)
  }

  private replay(ordinals: ReadonlyArray<number>, detail: string): Traced {
    const { canonical, next, tables } = this.successors
    this.successors.initial()
    const current = new Int32Array(next)
    const following = new Int32Array(next)
    /** By position in the canonical state, the name that the server started with. */
    let names = tables.permutations[0]?.map((_, i) => i) ?? []
    let named = detail
    const lines = [columns(header)]
    ordinals.forEach((wanted, i) => {
      let line = ""
      let renamed = names
      this.successors.each(current, 0, (finding) => {
        if (this.successors.ordinal !== wanted) return
        const { taken } = this.successors
        const text = describe(tables, taken, names)
        if (finding !== undefined) {
          named = detail.replace(/\bn([1-9])\b/g, (_, number) => idOf(names[Number(number) - 1] ?? 0))
          line = columns([i + 1, idOf(names[taken.node] ?? 0), "", "", "", "", "", text])
          return
        }
        const permutation = tables.permutations[canonical.permutation] ?? []
        renamed = names.map((_, position) => names[permutation.indexOf(position)] ?? 0)
        following.set(next)
        const after = tables.factsOf(next[permutation[taken.node] ?? 0] ?? 0)
        const { commitIndex, logLength, role, term } = after
        const name = idOf(names[taken.node] ?? 0)
        line = columns([i + 1, name, Tables.roles[role] ?? "", term, commitIndex, logLength, after.jobs, text])
      })
      names = renamed
      current.set(following)
      lines.push(line)
    })
    return { trace: lines, detail: named }
  }
}

const describe = (tables: Tables.Tables, taken: Taken, names: ReadonlyArray<number>): string => {
  const { event, isCopy, left, packet } = taken
  const name = (node: number) => idOf(names[node] ?? 0)
  const cut = left < 0 ? "" : `, and loses power after ${left} of its messages`
  if (packet >= 0) {
    const { from, packet: { message } } = tables.packetOf(packet)
    if (event === "drop") return `lost: ${textOf(message)} from ${name(from)}`
    const ended = typeof event === "number" && (event & 1) === 1 ? ", its lease over" : ""
    return `hears ${name(from)}: ${textOf(message)}${isCopy ? " (it arrives again later)" : ""}${ended}${cut}`
  }
  if (event === "crash") return `loses power${left > 0 ? `, part of a write survives (${left})` : ""}`
  if (event === "drop") return "lost"
  if (event === Tables.tick) return `its deadline comes${cut}`
  if (event === Tables.quorumLost) return `its deadline comes, and it has heard no majority${cut}`
  if (event === Tables.propose) return `takes a proposal${cut}`
  if (event === Tables.start) return "starts"
  if (event >= Tables.flushFirst) {
    const group = event - Tables.flushFirst
    return `makes its ${group === 1 ? "oldest write" : `${group} oldest writes, as one,`} durable${cut}`
  }
  if (event >= Tables.readFirst) return `takes a read; ${event - Tables.readFirst} are committed${cut}`
  return `hears that messages to ${name(event - Tables.loseFirst)} were lost${cut}`
}
