/**
 * Rules V4 to V8 as properties of single steps: what a voter answers, and what an election is won with. Each is decided from what the servers
 * were told, never from what they made of it.
 */
import type { Command, Send } from "../domain/Command.ts"
import { isMember } from "../domain/Configuration.ts"
import { isUpToDate } from "../domain/Entry.ts"
import * as Log from "../domain/Log.ts"
import type { Message, RequestPreVote, RequestVote } from "../domain/Message.ts"
import type { NodeId } from "../domain/NodeId.ts"
import { isLeader, leaderIdOf, type NodeState } from "../domain/NodeState.ts"
import { demand } from "./Figure3.ts"
import { decide, votersText } from "./Majorities.ts"
import type { Observed } from "./Watch.ts"

/** What one server was told since it started. */
interface Told {
  /** Until then it may not help to replace a leader (thesis §4.2.3). */
  loyalUntilMs: number
  /** Who granted this server the vote of which term. */
  readonly votes: Map<number, Set<NodeId>>
  /** Who granted it the pre-vote that it asked for last, and for which term. */
  preVotes: { readonly term: number; readonly by: Set<NodeId> }
}

const sendsOf = (commands: ReadonlyArray<Command>): ReadonlyArray<Send> =>
  commands.flatMap((command) => command._tag === "Send" ? [command] : command._tag === "Persist" ? command.then : [])

const isLoyal = (state: NodeState, told: Told, nowMs: number): boolean =>
  state.settings.leaderStickiness && (isLeader(state) || nowMs < told.loyalUntilMs)

/**
 * An answer of a server that is no member, and none of those that this one sends entries to: it was asked by an earlier leader, or long ago.
 */
const isForeign = (state: NodeState, from: NodeId, message: Message): boolean => {
  switch (message._tag) {
    case "RequestVoteResponse":
    case "RequestPreVoteResponse":
    case "RequestReadIndexResponse":
      return !isMember(state.configuration.latest, from)
    case "AppendEntriesResponse":
      return !isMember(state.configuration.latest, from) && !(isLeader(state) && state.role.progress.has(from))
    default:
      return false
  }
}

export class VoteRules {
  readonly #told = new Map<NodeId, Told>()
  readonly #startedMs = new Map<NodeId, number>()

  /** `nowMs`: of the server's own clock. */
  started(id: NodeId, nowMs: number): void {
    this.#told.delete(id)
    this.#startedMs.set(id, nowMs)
  }

  /** Since its first step: before that it does not know whom it had heard, and stays loyal for as long as it may have promised. */
  #of({ before }: Observed): Told {
    const known = this.#told.get(before.id)
    if (known !== undefined) return known
    const startedMs = before.term === 0 ? -Infinity : this.#startedMs.get(before.id) ?? -Infinity
    const loyalUntilMs = Math.max(before.leaseUntilMs, startedMs + before.settings.electionTimeoutMsMin)
    const told: Told = { loyalUntilMs, votes: new Map(), preVotes: { term: 0, by: new Set() } }
    this.#told.set(before.id, told)
    return told
  }

  saw(observed: Observed): void {
    const { event } = observed
    const told = this.#of(observed)
    if (event._tag === "Received") {
      const { from, message } = event
      if (message._tag === "RequestPreVote") this.#preVoteAsked(observed, from, message, told)
      if (message._tag === "RequestVote") this.#voteAsked(observed, from, message, told)
      this.#heard(observed, from, message, told)
    }
    if (event._tag === "SnapshotPieceReceived" && event.term >= observed.before.term) {
      told.loyalUntilMs = observed.nowMs + observed.before.settings.electionTimeoutMsMin
    }
    this.#roleChanged(observed, told)
    this.#preVoteBegins(observed, told)
  }

  #preVoteAsked({ after, before, commands, nowMs }: Observed, from: NodeId, message: RequestPreVote, told: Told): void {
    const who = () => `${before.id}, asked by ${from} for term ${message.term}`
    const isSame = after.term === before.term && after.votedFor === before.votedFor && after.role === before.role
      && after.deadlineMs === before.deadlineMs && after.leaseUntilMs === before.leaseUntilMs &&
      after.log === before.log
    demand(isSame, "a pre-vote changes nothing at the voter (V5)", who)
    const isDue = message.term > before.term && !isLoyal(before, told, nowMs)
      && isUpToDate(message.last, Log.lastId(before.log))
    const answers = sendsOf(commands).filter(({ to }) => to === from)
    const answer = answers[0]?.message
    demand(
      answers.length === 1 && answer?._tag === "RequestPreVoteResponse" && answer.voteGranted === isDue,
      "term, log and loyalty decide a pre-vote, and nothing else (V4, V5, V8)",
      () => `${who()}: should be ${isDue ? "granted" : "denied"}`
    )
    const term = isDue ? message.term : before.term
    demand(answer?.term === term, "a grant echoes the proposed term, a denial says the voter's (V6)", who)
  }

  #voteAsked({ after, before, commands, nowMs }: Observed, from: NodeId, message: RequestVote, told: Told): void {
    const who = () => `${before.id}, asked by ${from} for term ${message.term}`
    // Where the leader itself has asked the candidate to stand, nobody is loyal to it (M7).
    const isBound = !message.isTransfer && isLoyal(before, told, nowMs)
    if (message.term > before.term && isBound) {
      const isIgnored = after.term === before.term && sendsOf(commands).length === 0
      demand(isIgnored, "who hears a leader helps nobody to replace it (V8)", who)
      return
    }
    const isNewTerm = message.term > before.term
    demand(after.term >= message.term, "a higher term is adopted (§5.1, V6)", who)
    const votedFor = isNewTerm ? undefined : before.votedFor
    const isFree = votedFor === undefined && (isNewTerm || leaderIdOf(before) === undefined) && !isBound
    const isDue = message.term >= before.term
      && (votedFor === from || (isFree && isUpToDate(message.last, Log.lastId(before.log))))
    const granted = sendsOf(commands).some(({ message: sent, to }) =>
      to === from && sent._tag === "RequestVoteResponse" && sent.voteGranted
    )
    demand(
      granted === isDue,
      "term, log and the one vote decide a vote, and nothing else (V3, V4)",
      () => `${who()}: should be ${isDue ? "granted" : "denied"}`
    )
  }

  #heard({ after, before, nowMs }: Observed, from: NodeId, message: Message, told: Told): void {
    if (isForeign(before, from, message)) {
      demand(after === before, "an answer of a stranger changes nothing (V7, M6)", () => `${before.id}, from ${from}`)
      return
    }
    if (message._tag === "AppendEntries" && message.term >= before.term) {
      told.loyalUntilMs = nowMs + before.settings.electionTimeoutMsMin
    }
    if (message._tag === "RequestVoteResponse" && message.voteGranted) {
      const by = told.votes.get(message.term) ?? new Set()
      told.votes.set(message.term, by.add(from))
    }
    if (message._tag === "RequestPreVoteResponse" && message.voteGranted) {
      if (message.term === told.preVotes.term) told.preVotes.by.add(from)
      return
    }
    // Whom it is loyal to it does not leave for a RequestVote: `#voteAsked` says when.
    if (message._tag === "RequestPreVote" || message._tag === "RequestVote") return
    demand(
      after.term >= message.term,
      "a higher term is adopted (§5.1, V6)",
      () => `${before.id}, told of term ${message.term} by ${from}, ${message._tag}`
    )
  }

  #preVoteBegins({ after, commands }: Observed, told: Told): void {
    if (!sendsOf(commands).some(({ message }) => message._tag === "RequestPreVote")) return
    told.preVotes = { term: after.term + 1, by: new Set([after.id]) }
  }

  #roleChanged({ after, before }: Observed, told: Told): void {
    const { latest } = before.configuration
    const votes = told.votes.get(before.term) ?? new Set()
    const isElected = decide(latest, (id) => votes.has(id))
    const stood = before.role._tag === "Candidate"
    const byWhom = (granted: ReadonlySet<NodeId>) =>
      `of ${[...granted].join(", ") || "nobody"}, in ${votersText(latest)}`
    if (isLeader(after) && !isLeader(before)) {
      const detail = () => `${after.id} leads term ${after.term} with votes ${byWhom(votes)}`
      demand(stood && isElected, "an election is won with the votes of a majority (V7)", detail)
    } else if (stood && after.role._tag === "Candidate" && after.term === before.term) {
      const detail = () => `${after.id}, term ${after.term}, has votes ${byWhom(votes)}`
      demand(!isElected, "the votes of a majority win an election (V7)", detail)
    }
    // Who was told to stand by its leader needs no pre-vote; a single voter is its own majority.
    const isPreVoted = before.role._tag === "PreCandidate" && after.role._tag === "Candidate" && !after.role.isTransfer
    if (!isPreVoted || decide(latest, (id) => id === after.id)) return
    const grants = told.preVotes.term === after.term ? told.preVotes.by : new Set<NodeId>()
    demand(
      decide(latest, (id) => grants.has(id)),
      "a pre-vote is won with the grants of a majority, for this term (V7)",
      () => `${after.id} stands in term ${after.term} with grants ${byWhom(grants)}`
    )
  }
}
