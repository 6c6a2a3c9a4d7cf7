/**
 * What servers say to each other (paper Figure 2, thesis §3.10, §6.4, §9.6). `term` is the sender's term unless said otherwise.
 */
import type { Entry, EntryId, LogIndex, Term } from "./Entry.ts"

export interface RequestVote {
  readonly _tag: "RequestVote"
  readonly term: Term
  /** The candidate's last entry (paper: lastLogIndex, lastLogTerm). */
  readonly last: EntryId
  /** The leader itself has asked the candidate to stand: nobody is to be loyal to that leader (thesis §3.10, §4.2.3; rule M7). */
  readonly isTransfer: boolean
}

export interface RequestVoteResponse {
  readonly _tag: "RequestVoteResponse"
  readonly term: Term
  readonly voteGranted: boolean
}

export interface RequestPreVote {
  readonly _tag: "RequestPreVote"
  /** The term the sender *would* campaign in: its own plus one. */
  readonly term: Term
  readonly last: EntryId
}

export interface RequestPreVoteResponse {
  readonly _tag: "RequestPreVoteResponse"
  /** Granted: the proposed term, echoed. Denied: the voter's own term (rule V6). */
  readonly term: Term
  readonly voteGranted: boolean
}

/** Without entries it is a heartbeat, and a round of heartbeats confirms reads (thesis §6.4). */
export interface AppendEntries {
  readonly _tag: "AppendEntries"
  readonly term: Term
  /** The entry before `entries` (paper: prevLogIndex, prevLogTerm). */
  readonly prev: EntryId
  readonly entries: ReadonlyArray<Entry>
  readonly leaderCommit: LogIndex
  /** The leader's latest read round when this was sent; the answer echoes it (rule R2). */
  readonly round: number
}

/** Where a follower's log parts from `prev`: the term it holds there and the first index of that term (paper §5.3). */
export interface Conflict {
  /** `undefined` when the log ends before `prev`; then `index` is one past its end. */
  readonly term: Term | undefined
  readonly index: LogIndex
}

export type AppendEntriesResult =
  /** The log holds the leader's entries up to `matchIndex`, durably. */
  | { readonly _tag: "Matched"; readonly matchIndex: LogIndex }
  /** The log does not hold `prev`; nothing was changed. */
  | { readonly _tag: "Rejected"; readonly prevIndex: LogIndex; readonly conflict: Conflict }
  /** The state up to `prevIndex` is lost here, and only a snapshot from there or later brings it back. The log is whole. */
  | { readonly _tag: "NeedsSnapshot"; readonly prevIndex: LogIndex }
  /** The message was of an older term than the answer. It tells the sender the term, and confirms nothing. */
  | { readonly _tag: "Stale" }

export interface AppendEntriesResponse {
  readonly _tag: "AppendEntriesResponse"
  readonly term: Term
  readonly round: number
  readonly result: AppendEntriesResult
}

/** A server that is not the leader asks for the index that its own readers must see (thesis §6.4). */
export interface RequestReadIndex {
  readonly _tag: "RequestReadIndex"
  readonly term: Term
  /** Rises with every question of a server, from a number drawn when it started: a question of an earlier life is another one. */
  readonly ask: number
}

export interface RequestReadIndexResponse {
  readonly _tag: "RequestReadIndexResponse"
  readonly term: Term
  readonly ask: number
  /** `undefined`: it does not lead. */
  readonly readIndex: LogIndex | undefined
}

/** The leader of `term` hands over: "start an election now" (thesis §3.10). */
export interface TimeoutNow {
  readonly _tag: "TimeoutNow"
  readonly term: Term
}

export type Message =
  | RequestVote
  | RequestVoteResponse
  | RequestPreVote
  | RequestPreVoteResponse
  | AppendEntries
  | AppendEntriesResponse
  | RequestReadIndex
  | RequestReadIndexResponse
  | TimeoutNow
