/**
 * One server of the model: the state that the core steps, its disk, the writes that wait for it, and what its state machine holds. An action of
 * a server is a function of this value and the event alone, so that it is computed once however many states of the whole system it occurs in.
 *
 * Time is left out. Every deadline is due, whoever leads was just heard by everybody, a lease is either running or over, and nobody counts how
 * many rounds a learner takes to catch up.
 */
import type { Command, Write } from "../../src/domain/Command.ts"
import type { Entry } from "../../src/domain/Entry.ts"
import type { Event } from "../../src/domain/Event.ts"
import type { Message } from "../../src/domain/Message.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import * as NodeState from "../../src/domain/NodeState.ts"
import * as Random from "../../src/domain/Random.ts"
import type { Role } from "../../src/domain/Role.ts"
import type { Settings } from "../../src/domain/Settings.ts"
import type { Snapshot } from "../../src/domain/Snapshot.ts"
import type { step } from "../../src/domain/Step.ts"
import type { Code } from "./Configurations.ts"
import type { Disk } from "./Disk.ts"
import type { LogCode } from "./LogCode.ts"
import { numberOf } from "./numbering.ts"
import type { Seen, Tally } from "./Properties.ts"
import { renameState, turning } from "./Symmetry.ts"

export const nowMs = 1000

export type Released = Extract<Command, { readonly _tag: "Send" | "Apply" | "Restore" }>

export interface Job {
  readonly write: Write
  readonly then: ReadonlyArray<Released>
}

export interface Server {
  readonly id: NodeId
  /** `undefined` while it is down. */
  readonly state: NodeState.NodeState | undefined
  readonly disk: Disk
  /** Oldest first. */
  readonly jobs: ReadonlyArray<Job>
  /** What its state machine was given since it was empty: 0 while the server is down. */
  readonly applied: LogCode
  /** The lowest and the highest number of its lives. */
  readonly lives: readonly [number, number]
}

/** All pieces of a snapshot: what the driver makes of them is one event, or one for each piece that says that the leader is alive. */
export interface InstallSnapshot {
  readonly _tag: "InstallSnapshot"
  readonly term: number
  readonly snapshot: Snapshot
}

/** A message on its way. */
export interface Packet {
  readonly from: NodeId
  readonly to: NodeId
  readonly message: Message | InstallSnapshot
}

/** A server starts as usual, in a life of a lower number than all before it, or without its snapshot, which is damaged. */
export type Start = "as usual" | "lower" | "damaged"

export type Action =
  /** The core hears `event`; with `isLate` a lease that was running has ended before, and a question is overdue. */
  | { readonly _tag: "Step"; readonly event: Event; readonly isLate: boolean }
  /** The same, where the voters are listed the other way round: of two successors that are as good as each other, it takes the other one. */
  | { readonly _tag: "Turned"; readonly event: Event }
  /** A leader's deadline comes when it has heard nobody for an election timeout. */
  | { readonly _tag: "QuorumLost" }
  /** A leader's deadline comes when it has waited for its successor for an election timeout. */
  | { readonly _tag: "TransferOver" }
  /** The `count` oldest writes reach the disk as one, and what waited for them happens. */
  | { readonly _tag: "Flush"; readonly count: number }
  | { readonly _tag: "Start"; readonly how: Start }
  /** A snapshot that was begun when `index` had been applied is durable. */
  | { readonly _tag: "Snapshot"; readonly index: number }
  /** The snapshot goes to `to` once more, since no answer came. */
  | { readonly _tag: "Resend"; readonly to: NodeId }

/** A leader has found that all up to `index` is committed, while `configuration` was in force. */
export interface Commit {
  readonly index: number
  readonly configuration: Code
}

/** What a crash leaves once the first `left` messages have left. */
export interface Cut {
  readonly disk: Disk
  readonly left: number
}

export interface Outcome {
  readonly server: Server
  /** In the order in which they leave. */
  readonly sent: ReadonlyArray<Packet>
  /** Crashes in the middle of the action. */
  readonly cuts: ReadonlyArray<Cut>
  readonly commits: ReadonlyArray<Commit>
  /** Which of `sometimes` were seen. */
  readonly seen: Seen
}

/** What all servers have in common. */
export interface Rules {
  readonly settings: Settings
  readonly step: typeof step
  readonly start: typeof NodeState.make
  /** Whether a server waits for its disk at every write. */
  readonly waitsForDisk: boolean
  /** Whether the configuration stays as it is. */
  readonly isFixed: boolean
  /** Whether servers ask for read indices, so that their lives must differ. */
  readonly hasLives: boolean
  /** Whether `checkState`, `checkStep` and `checkMembership` are asked too, or only what is seen from outside. */
  readonly invariants: boolean
  readonly tally: Tally
}

/** By name, whichever order it was learned in: whoever is first is sent to first. */
const byName = <A>(known: ReadonlyMap<NodeId, A>, change: (one: A) => A): ReadonlyMap<NodeId, A> =>
  new Map([...known].toSorted(([a], [b]) => numberOf(a) - numberOf(b)).map(([id, one]) => [id, change(one)] as const))

const timelessRole = (role: Role): Role => {
  if (role._tag !== "Leader") return role
  const { catchUps, progress, transfer } = role
  return {
    ...role,
    progress: byName(progress, (known) => ({ ...known, hasAnswered: true, lastContactMs: nowMs })),
    catchUps: byName(catchUps, (known) => ({ ...known, reportedMs: nowMs })),
    transfer: transfer === undefined ? undefined : { ...transfer, deadlineMs: nowMs + 1 }
  }
}

/** The state with every time made a constant; what depends on time is an action of its own. */
export const timeless = (state: NodeState.NodeState): NodeState.NodeState => {
  const { role, settings } = state
  return {
    ...state,
    role: timelessRole(role),
    deadlineMs: nowMs,
    leaseUntilMs: settings.leaderStickiness && state.leaseUntilMs > nowMs ? nowMs + 1 : nowMs,
    leaderContactMs: undefined,
    askedReads: { ...state.askedReads, sentMs: nowMs },
    random: 1
  }
}

/** The state when what was running out has run out. */
export const late = (state: NodeState.NodeState): NodeState.NodeState => ({
  ...state,
  leaseUntilMs: nowMs,
  askedReads: { ...state.askedReads, sentMs: -Infinity }
})

/** The state of a leader that has heard nobody for an election timeout. */
export const unheard = (state: NodeState.NodeState): NodeState.NodeState => {
  if (!NodeState.isLeader(state)) return state
  const lastContactMs = nowMs - state.settings.electionTimeoutMsMax
  const progress = new Map([...state.role.progress].map(([id, known]) => [id, { ...known, lastContactMs }] as const))
  const silent: NodeState.LeaderState = { ...state, role: { ...state.role, progress } }
  return silent
}

/** The state of a leader whose successor has had an election timeout to take over. */
export const overdue = (state: NodeState.NodeState): NodeState.NodeState => {
  if (!NodeState.isLeader(state) || state.role.transfer === undefined) return state
  const waiting: NodeState.LeaderState = {
    ...state,
    role: { ...state.role, transfer: { ...state.role.transfer, deadlineMs: nowMs } }
  }
  return waiting
}

export const turned = (state: NodeState.NodeState): NodeState.NodeState => renameState(state, turning())

/** The questions of one life: more than any bound allows. */
const asksOfLife = 32

/** Seeds of the random number that a life begins with, in the order of these numbers, which `ask` stands for. */
const seeds = [1, 2, 3, 4, 5, 6, 7]
  .map((seed) => ({ seed, ask: Random.nextInt(seed, { min: 0, max: 2 ** 31 }).value * 2 ** 20 }))
  .toSorted((a, b) => a.ask - b.ask)

const firstLife = 3

/** Of a server that never started. */
export const noLives: Server["lives"] = [firstLife, firstLife - 1]

export const seedOf = (life: number): number => seeds[life]?.seed ?? 0

/** A small number for the first one of a life, with the order of lives kept. */
export const askOf = (drawn: number): number => {
  const life = seeds.findIndex(({ ask }) => ask === drawn)
  if (life < 0) throw new Error(`no life begins with question ${drawn}`)
  return life * asksOfLife
}

export const lifeOf = (ask: number): number => Math.floor(ask / asksOfLife)

/** The payload that a proposal at this place of the log carries, so that a wrong one shows. */
export const bytesAt = (term: number, index: number): Uint8Array => Uint8Array.of(term, index)

/** Configurations are compared where logs are. */
export const isPayloadOf = ({ index, payload, term }: Entry): boolean =>
  payload._tag === "Noop" || payload._tag === "Configuration"
  || (payload._tag === "Command" && payload.bytes[0] === term && payload.bytes[1] === index)

export const writesOf = (jobs: ReadonlyArray<Job>): ReadonlyArray<Write> => jobs.map(({ write }) => write)

/** What is left of a server that is down: its disk. */
export const wreck = ({ id, lives }: Server, disk: Disk): Server => ({
  id,
  state: undefined,
  disk,
  jobs: [],
  applied: 0,
  lives
})
