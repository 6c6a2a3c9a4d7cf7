/**
 * How a state was reached, one line per action in fixed columns. States were renamed on the way; here every server keeps its name.
 */
import type { Entry } from "../../src/domain/Entry.ts"
import { codeOf, shownCode } from "./Configurations.ts"
import * as Events from "./Events.ts"
import { roles } from "./Facts.ts"
import { shown } from "./LogCode.ts"
import { idOf } from "./numbering.ts"
import type { Packet } from "./Server.ts"
import type { Successors, Taken } from "./Successors.ts"
import type { Tables } from "./Tables.ts"
import type { Visited } from "./Visited.ts"

type NameOf = (node: number) => string

const named = (text: string, nameOf: NameOf): string =>
  text.replace(/\bn([1-9])\b/g, (_, number) => nameOf(Number(number) - 1))

/** Their terms, and the configurations among them. */
const shownEntries = (entries: ReadonlyArray<Entry>, nameOf: NameOf): string =>
  entries.map(({ payload, term }) =>
    payload._tag === "Configuration"
      ? `${term}:${named(shownCode(codeOf(payload.configuration)), nameOf)}`
      : String(term)
  ).join(" ")

const textOf = (message: Packet["message"], nameOf: NameOf): string => {
  switch (message._tag) {
    case "RequestVote":
      return `RequestVote t${message.term} last ${message.last.term}.${message.last.index}${
        message.isTransfer ? ", as told" : ""
      }`
    case "RequestPreVote":
      return `${message._tag} t${message.term} last ${message.last.term}.${message.last.index}`
    case "RequestVoteResponse":
    case "RequestPreVoteResponse":
      return `${message._tag} t${message.term} ${message.voteGranted ? "granted" : "denied"}`
    case "AppendEntries":
      return `AppendEntries t${message.term} prev ${message.prev.term}.${message.prev.index} [${
        shownEntries(message.entries, nameOf)
      }] commit ${message.leaderCommit} round ${message.round}`
    case "AppendEntriesResponse": {
      const { result } = message
      const said = result._tag === "Matched"
        ? `Matched ${result.matchIndex}`
        : result._tag === "Rejected"
        ? `Rejected ${result.prevIndex}, conflict ${result.conflict.term ?? "-"}.${result.conflict.index}`
        : result._tag === "NeedsSnapshot"
        ? `NeedsSnapshot ${result.prevIndex}`
        : "Stale"
      return `AppendEntriesResponse t${message.term} ${said} round ${message.round}`
    }
    case "RequestReadIndex":
      return `RequestReadIndex t${message.term} ask ${message.ask}`
    case "RequestReadIndexResponse":
      return `RequestReadIndexResponse t${message.term} ask ${message.ask} index ${message.readIndex ?? "-"}`
    case "TimeoutNow":
      return `TimeoutNow t${message.term}`
    case "InstallSnapshot": {
      const { configuration, last, sizeBytes } = message.snapshot
      const members = named(shownCode(codeOf(configuration)), nameOf)
      return `InstallSnapshot t${message.term} last ${last.term}.${last.index} of [${shown(sizeBytes)}] ${members}`
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
    let said = detail
    const lines = [columns(header)]
    ordinals.forEach((wanted, i) => {
      let line = ""
      let renamed = names
      this.successors.each(current, 0, (finding) => {
        if (this.successors.ordinal !== wanted) return
        const { taken } = this.successors
        const text = describe(tables, taken, names)
        if (finding !== undefined) {
          said = named(detail, (node) => idOf(renamed[node] ?? 0))
          line = columns([i + 1, idOf(names[taken.node] ?? 0), "", "", "", "", "", text])
          return
        }
        const permutation = tables.permutations[canonical.permutation] ?? []
        renamed = names.map((_, position) => names[permutation.indexOf(position)] ?? 0)
        following.set(next)
        const after = tables.factsOf(next[permutation[taken.node] ?? 0] ?? 0)
        const { commitIndex, logLength, role, term } = after
        const name = idOf(names[taken.node] ?? 0)
        line = columns([i + 1, name, roles[role] ?? "", term, commitIndex, logLength, after.jobs, text])
      })
      names = renamed
      current.set(following)
      lines.push(line)
    })
    return { trace: lines, detail: said }
  }
}

const describe = (tables: Tables, taken: Taken, names: ReadonlyArray<number>): string => {
  const { event, isCopy, left, packet } = taken
  const nameOf: NameOf = (node) => idOf(names[node] ?? 0)
  const cut = left < 0 ? "" : `, and loses power after ${left} of its messages`
  if (event === "crash") return `loses power${left > 0 ? `, part of a write survives (${left})` : ""}`
  if (packet < 0) return event === "drop" ? "lost" : `${describeOwn(event, nameOf)}${cut}`
  const { from, late, packet: { message } } = tables.packetOf(packet)
  const text = `${nameOf(from)}: ${textOf(message, nameOf)}`
  if (event === "drop") return `lost, from ${text}`
  if (!Events.isLate(event)) return `hears ${text}${isCopy ? " (it arrives again later)" : ""}${cut}`
  if (late === "piece") return `hears a piece, from ${text}${cut}`
  if (late === "preference") return `hears ${text}, and prefers another one${cut}`
  return `hears ${text}, ${late === "lease" ? "its lease over" : "its question overdue"}${cut}`
}

const describeOwn = (event: number, nameOf: NameOf): string => {
  const starts = event === Events.start
    ? ""
    : event === Events.startLower
    ? ", in a lower life"
    : ", its snapshot damaged"
  if (Events.isStart(event)) return `starts${starts}`
  if (event === Events.tick) return "its deadline comes"
  if (event === Events.quorumLost) return "its deadline comes, and it has heard no majority"
  if (event === Events.snapshotFailed) return "could not take a snapshot"
  if (event === Events.propose) return "takes a proposal"
  if (event === Events.transferOver) return "has waited for its successor long enough"
  if (Events.isChange(event)) {
    return Events.changesOf(event).map(({ _tag, id }) => `is to ${_tag.toLowerCase()} ${named(id, nameOf)}`).join(", ")
  }
  if (event >= Events.flushFirst) {
    const group = event - Events.flushFirst
    return `makes its ${group === 1 ? "oldest write" : `${group} oldest writes, as one,`} durable`
  }
  if (event >= Events.snapshotFirst) return `has taken a snapshot that ends at ${event - Events.snapshotFirst}`
  if (event >= Events.askFirst) return `takes a read for its leader; ${event - Events.askFirst} are committed`
  if (event >= Events.readFirst) return `takes a read; ${event - Events.readFirst} are committed`
  if (event >= Events.transferFirst) return `is to hand over to ${nameOf(event - Events.transferFirst)}`
  if (event >= Events.sentFirst) return `takes the snapshot for sent to ${nameOf(event - Events.sentFirst)}`
  if (event >= Events.resendFirst) return `sends ${nameOf(event - Events.resendFirst)} the snapshot once more`
  return `hears that messages to ${nameOf(event - Events.loseFirst)} were lost`
}
