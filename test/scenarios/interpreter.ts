/**
 * Scenarios: a script of commands, and the whole of what they make happen. Lines that start with `>` are commands,
 * `#` lines say why; everything else is printed, one line per thing that happens to a server and per answer to a
 * caller:
 *
 * ```
 * node  role      term commit last  what
 * ```
 *
 * The columns show the server after what happened: its role, its term, its commit index and its last entry as
 * term.index.
 *
 * Commands: `cluster n1 n2 (n3) [setting=value …]` (n3 is a learner) · `disk ID TERM terms…` (before `start`) ·
 * `start` · `timeout ID` · `elect ID` · `wait MS` · `settle` · `deliver A>B [KIND]` (all that match) · `drop A>B
 * [KIND]` · `propose ID values…` · `read ID [BY]` · `take ID` (a snapshot) · `send A>B` (A's snapshot) · `damage ID`
 * (its snapshot, while it is down) · `isolate ID` · `heal` · `hold ID` · `flush ID` · `release ID` · `crash ID` ·
 * `restart ID` · `new ID` (a server that waits to be added) · `change ID add:n4 learner:n5 promote:n5 demote:n2
 * remove:n1` (all of them at once) · `transfer ID [TO]` · `logs` · `committed`. `*` stands for any server.
 *
 * `break BUG` (before `start`) puts a core in place that is broken on purpose (`test/model/plantedBugs.ts`). What then does not hold between
 * servers is printed, and the scenario goes on.
 */
import type { Command, Refusal } from "../../src/domain/Command.ts"
import type { Change } from "../../src/domain/Configuration.ts"
import type { EntryId } from "../../src/domain/Entry.ts"
import type { ReadBy } from "../../src/domain/Event.ts"
import * as Log from "../../src/domain/Log.ts"
import type { PeerMessage } from "../../src/services/Transport.ts"
import { configurationText } from "../../src/testing/Operator.ts"
import { entriesOf } from "../domain/Given.ts"
import { type Observed, type Packet, PureCluster } from "../domain/PureCluster.ts"
import { plantedBugs } from "../model/plantedBugs.ts"

type Given = ConstructorParameters<typeof PureCluster>[0]

const roles: Readonly<Record<string, string>> = {
  Follower: "follower",
  PreCandidate: "asks",
  Candidate: "candidate",
  Leader: "leader"
}

const ways: ReadonlyArray<ReadBy> = ["Round", "Lease", "Leader"]

const at = ({ index, term }: EntryId): string => `${term}.${index}`

const messageText = (message: PeerMessage): string => {
  switch (message._tag) {
    case "RequestVote":
    case "RequestPreVote":
      return `${message._tag} last ${at(message.last)}`
    case "RequestVoteResponse":
    case "RequestPreVoteResponse":
      return `${message._tag} ${message.voteGranted ? "granted" : "denied"}`
    case "AppendEntries": {
      const entries = message.entries.map(at).join(" ")
      return `AppendEntries prev ${at(message.prev)} [${entries}] commit ${message.leaderCommit} round ${message.round}`
    }
    case "AppendEntriesResponse": {
      const { result, round } = message
      if (result._tag === "Matched") return `Matched ${result.matchIndex} round ${round}`
      if (result._tag === "Stale") return "Stale"
      if (result._tag === "NeedsSnapshot") return `NeedsSnapshot from ${result.prevIndex} round ${round}`
      const { conflict } = result
      const where = conflict.term === undefined
        ? `ends before ${conflict.index}`
        : `has term ${conflict.term} from ${conflict.index}`
      return `Rejected prev ${result.prevIndex}: ${where}`
    }
    case "RequestReadIndex":
    case "TimeoutNow":
      return message._tag
    case "RequestReadIndexResponse":
      return `${message._tag} ${message.readIndex ?? "none"}`
    case "InstallSnapshot":
      return `InstallSnapshot last ${at(message.snapshot.last)}`
    case "InstallSnapshotResponse":
      return `${message._tag} last ${at(message.last)}`
    default:
      return message satisfies never
  }
}

const refusalText = (refusal: Refusal): string => refusal._tag === "Impossible" ? refusal.reason : refusal._tag

const commandText = (command: Command): string | undefined => {
  switch (command._tag) {
    case "Accept":
      return `accepts ${command.requestIds.map((id) => `#${id}`).join(" ")} from ${at(command.first)}`
    case "ServeRead":
      return `serves ${command.requestIds.map((id) => `#${id}`).join(" ")} at ${command.index}`
    case "Refuse":
      return `refuses ${command.requestIds.map((id) => `#${id}`).join(" ")}: ${refusalText(command.refusal)}`
    case "Complete":
      return `completes #${command.requestId}`
    case "HandedOver":
      return `has handed over for #${command.requestId}`
    case "AnnounceConfiguration":
      return `goes by ${configurationText(command.configuration)}`
    case "ReportLearner":
      return `reports that ${command.id} does not catch up`
    case "Apply":
      return command.from === command.to ? `commits ${command.to}` : `commits ${command.from} to ${command.to}`
    case "Restore":
      return `restores ${at(command.last)}`
    case "TakeSnapshot":
      return "asks for a snapshot"
    case "SendSnapshot":
      return `sends ${command.to} its snapshot`
    case "DiscardSnapshot":
      return `discards the snapshot of ${at(command.last)}`
    case "Compact":
      return `gives up all before ${command.start.prev.index + 1}`
    default:
      return undefined
  }
}

const eventText = ({ event, node }: Observed): string | undefined => {
  switch (event._tag) {
    case "Received":
      return `← ${event.from === node ? "self" : event.from} t${event.message.term} ${messageText(event.message)}`
    case "SnapshotReceived":
      return `← ${event.from} t${event.term} InstallSnapshot last ${at(event.snapshot.last)}`
    case "SnapshotTaken":
      return `snapshot of ${at(event.snapshot.last)}`
    case "Reconfigure":
      return `#${event.requestId} ${event.changes.map(({ _tag, id }) => `${_tag.toLowerCase()} ${id}`).join(", ")}`
    case "TransferLeadership":
      return `#${event.requestId} transfer to ${event.to ?? "the best"}`
    case "Applied":
    case "SnapshotPieceReceived":
      return undefined
    default:
      return event._tag.toLowerCase()
  }
}

const learnerIn = (word: string): string | undefined => /^\((.+)\)$/.exec(word)?.[1]

/** `add:n4`, `learner:n4`, `promote:n4`, `demote:n4` or `remove:n4`. */
const changeOf = (word: string): Change => {
  const [verb = "", id = ""] = word.split(":")
  const address = `http://${id}`
  const changes: Readonly<Record<string, Change>> = {
    add: { _tag: "Add", id, address, becomes: "Voter" },
    learner: { _tag: "Add", id, address, becomes: "Learner" },
    promote: { _tag: "Promote", id },
    demote: { _tag: "Demote", id },
    remove: { _tag: "Remove", id }
  }
  const change = changes[verb]
  if (change === undefined) throw new Error(`unknown change: ${word}`)
  return change
}

class Scenario {
  readonly lines: Array<string> = []
  private given: Given = { voters: [] }
  private started: PureCluster | undefined
  private bug: PureCluster["core"] | undefined

  private get cluster(): PureCluster {
    if (this.started === undefined) throw new Error("the cluster has not been started")
    return this.started
  }

  private line(id: string, what: string): void {
    const state = this.cluster.isUp(id) ? this.cluster.state(id) : undefined
    const columns = state === undefined ? ["down", "", "", ""] : [
      roles[state.role._tag] ?? "",
      `t${state.term}`,
      `c${state.commitIndex}`,
      at(Log.lastId(state.log))
    ]
    const [role = "", term = "", commit = "", last = ""] = columns
    this.lines.push(
      `  ${id.padEnd(3)} ${role.padEnd(9)} ${term.padEnd(3)} ${commit.padEnd(3)} ${last.padEnd(5)} ${what}`.trimEnd()
    )
  }

  private observe(observed: Observed): void {
    const { commands, node } = observed
    const what = eventText(observed)
    if (what !== undefined) this.line(node, what)
    for (const command of commands) {
      const text = commandText(command)
      if (text !== undefined) this.line(node, `  ${text}`)
    }
  }

  private where(link: string, kind: string | undefined): (packet: Packet) => boolean {
    const [from, to] = link.split(">")
    return (packet) =>
      (from === "*" || packet.from === from) && (to === "*" || packet.to === to)
      && (kind === undefined || packet.message._tag === kind)
  }

  private begin(words: ReadonlyArray<string>): void {
    const settings = words.filter((word) => word.includes("="))
    const servers = words.filter((word) => !word.includes("="))
    this.given = {
      voters: servers.filter((word) => learnerIn(word) === undefined),
      learners: servers.flatMap((word) => learnerIn(word) ?? []),
      settings: Object.fromEntries(settings.map((word) => {
        const [name = "", value = ""] = word.split("=")
        return [name, value === "true" || (value === "false" ? false : Number(value))]
      }))
    }
  }

  private disk(id: string, [term, ...terms]: ReadonlyArray<string>): void {
    const hardState = { term: Number(term), votedFor: undefined }
    this.given = {
      ...this.given,
      disks: { ...this.given.disks, [id]: { hardState, entries: entriesOf(terms.map(Number)) } }
    }
  }

  private start(): void {
    this.started = new PureCluster(this.given)
    if (this.bug !== undefined) this.started.core = this.bug
    this.started.observe = (observed) => this.observe(observed)
  }

  /** A whole election as one line, for scenarios that are about what comes after. */
  private elect(id: string): void {
    this.cluster.observe = () => {}
    this.cluster.elect(id)
    this.cluster.observe = (observed) => this.observe(observed)
    this.line(id, "elected")
  }

  private breakWith(name: string): void {
    const [, core] = Object.entries(plantedBugs).find(([bug]) => bug === name) ?? []
    if (core === undefined || !("step" in core)) throw new Error(`unknown bug: ${name}`)
    this.bug = core.step
  }

  private committed(): void {
    for (const id of this.cluster.ids.filter((id) => this.cluster.isUp(id))) {
      const { commitIndex, log } = this.cluster.state(id)
      const ids = Log.slice(log, { from: Log.firstIndex(log), to: commitIndex }).map(at)
      this.line(id, `has committed ${ids.join(" ") || "nothing"}`)
    }
  }

  private send(link: string): void {
    const [from = "", to = ""] = link.split(">")
    this.cluster.sendSnapshot(from, to)
  }

  private logs(): void {
    for (const id of this.cluster.ids.filter((id) => this.cluster.isUp(id))) {
      this.line(id, `holds ${this.cluster.termsOf(id).join(" ")}`)
    }
  }

  private drop(link: string, kind: string | undefined): void {
    for (const { from, message, to } of this.cluster.drop(this.where(link, kind))) {
      this.line(to, `✗ ${from} t${message.term} ${messageText(message)}`)
    }
  }

  run(words: ReadonlyArray<string>): void {
    const [verb = "", first = "", ...rest] = words
    const actions: Readonly<Record<string, () => void>> = {
      cluster: () => this.begin(words.slice(1)),
      disk: () => this.disk(first, rest),
      start: () => this.start(),
      timeout: () => this.cluster.timeout(first),
      elect: () => this.elect(first),
      wait: () => void (this.cluster.nowMs += Number(first)),
      settle: () => void this.cluster.settle(),
      deliver: () => void this.cluster.settle(this.where(first, rest[0])),
      drop: () => this.drop(first, rest[0]),
      propose: () => void this.cluster.propose(first, ...rest),
      read: () => void this.cluster.read(first, ways.find((way) => way === rest[0])),
      take: () => this.cluster.takeSnapshot(first),
      damage: () => this.cluster.damageSnapshot(first),
      isolate: () => this.cluster.isolate(first),
      heal: () => this.cluster.heal(),
      hold: () => this.cluster.holdDisk(first),
      flush: () => this.cluster.flush(first),
      release: () => this.cluster.releaseDisk(first),
      crash: () => this.cluster.crash(first),
      restart: () => this.cluster.restart(first),
      new: () => this.cluster.add(first),
      change: () => void this.cluster.reconfigure(first, ...rest.map(changeOf)),
      transfer: () => void this.cluster.transfer(first, rest[0]),
      send: () => this.send(first),
      break: () => this.breakWith(words.slice(1).join(" ")),
      logs: () => this.logs(),
      committed: () => this.committed()
    }
    const action = actions[verb]
    if (action === undefined) throw new Error(`unknown command: ${words.join(" ")}`)
    action()
    for (const { message } of this.started?.findings.splice(0) ?? []) this.lines.push(`  !! ${message}`)
  }
}

/** The script of `text` with its whole outcome, whatever outcome it had before. */
export const replay = (text: string): string => {
  const scenario = new Scenario()
  for (const line of text.split("\n")) {
    if (line.startsWith("#")) scenario.lines.push("", line)
    if (!line.startsWith(">")) continue
    const command = line.slice(1).trim()
    scenario.lines.push(`> ${command}`)
    scenario.run(command.split(/\s+/))
  }
  return `${scenario.lines.join("\n").trim()}\n`
}
