/**
 * What a node asks its driver to do, in order. A closed set: `Interpreter.ts` handles each in one place.
 */
import type { Configuration } from "./Configuration.ts"
import type { Entry, EntryId, LogIndex, Term } from "./Entry.ts"
import type { RequestId } from "./Event.ts"
import type { Message } from "./Message.ts"
import type { NodeId } from "./NodeId.ts"
import type { Role } from "./Role.ts"
import type { Snapshot } from "./Snapshot.ts"

/** Figure 2's persistent vote: one atomic record (rule V1). */
export interface HardState {
  readonly term: Term
  readonly votedFor: NodeId | undefined
}

/** A snapshot that a leader sent takes the place of this server's (paper Figure 13). It was received whole, and is durable. */
export interface Install {
  readonly snapshot: Snapshot
  /** Whether the log holds the snapshot's last entry, so that all of it stays; otherwise the log begins anew after that entry. */
  readonly keepsLog: boolean
}

/**
 * A change of what is on disk: first the vote, then the snapshot, then the entries. Entries are contiguous and follow what the log holds;
 * where they overlap it, the log is cut at the first of them. An empty write is a barrier: it is durable once every earlier write is.
 */
export interface Write {
  readonly hardState: HardState | undefined
  readonly install: Install | undefined
  readonly entries: ReadonlyArray<Entry>
}

export interface Send {
  readonly _tag: "Send"
  readonly to: NodeId
  readonly message: Message
}

export type Refusal =
  /** Not the leader (any more); `leaderId` is the best guess at who is. The request had no effect. */
  | { readonly _tag: "NotLeader"; readonly leaderId: NodeId | undefined }
  /** The leader holds too many uncommitted bytes (rule L10). The request had no effect. */
  | { readonly _tag: "Overloaded" }
  /** The configuration cannot be changed so, or not now, or leadership not be transferred; `message` says why. Nothing was changed. */
  | { readonly _tag: "Impossible"; readonly reason: Impossible; readonly message: string }
  /** This server stopped leading before it knew what becomes of the request. */
  | { readonly _tag: "OutcomeUnknown" }

/**
 * Why a change or a transfer is refused. To be tried again: `NotReady` (a new leader has to commit an entry of its own first, rule M1), `Pending`
 * (another one is under way), `NotCaughtUp`. Otherwise: `QuorumLost` (too few of the voters that would be left are heard from), `Invalid`.
 */
export type Impossible = "NotReady" | "Pending" | "NotCaughtUp" | "QuorumLost" | "Invalid"

/** Where a log begins: after `prev`, under `configuration`. All before it is in a snapshot. */
export interface Start {
  readonly prev: EntryId
  readonly configuration: Configuration
}

export type Command =
  /** Make `write` durable; once it and all earlier writes are, send what waits in `then`. */
  | { readonly _tag: "Persist"; readonly write: Write; readonly then: ReadonlyArray<Send> }
  | Send
  /** Hand the committed entries `from`..`to` (inclusive) to the state machine, after every earlier write is durable. */
  | { readonly _tag: "Apply"; readonly from: LogIndex; readonly to: LogIndex }
  /** Replace the state machine's state by the installed snapshot's, which ends at `last`, once every earlier write is durable. */
  | { readonly _tag: "Restore"; readonly last: EntryId }
  /** Snapshot the state machine as it is; `SnapshotTaken` tells when that is durable. */
  | { readonly _tag: "TakeSnapshot" }
  /** Send `to` the latest snapshot, for as long as the leader's progress for it is `Snapshot`. */
  | { readonly _tag: "SendSnapshot"; readonly to: NodeId }
  /** A received snapshot is of no use. */
  | { readonly _tag: "DiscardSnapshot"; readonly last: EntryId }
  /** Give up what the disk holds of the log before `start`: a durable snapshot stands for it. */
  | { readonly _tag: "Compact"; readonly start: Start }
  /** The proposals became the entries from `first` on, one each, in order. */
  | { readonly _tag: "Accept"; readonly requestIds: ReadonlyArray<RequestId>; readonly first: EntryId }
  /** The reads are confirmed: answer each from the state machine, which has applied `index`. */
  | { readonly _tag: "ServeRead"; readonly requestIds: ReadonlyArray<RequestId>; readonly index: LogIndex }
  | { readonly _tag: "Refuse"; readonly requestIds: ReadonlyArray<RequestId>; readonly refusal: Refusal }
  /** What was asked, a change or a transfer, has happened. */
  | { readonly _tag: "Complete"; readonly requestId: RequestId }
  /** The leadership has ended after a successor was told to stand: the transfer has happened if that one leads next. */
  | { readonly _tag: "HandedOver"; readonly requestId: RequestId }
  /** A learner that is to be promoted has not caught up for long: it does not run, or entries come in faster than it takes them. */
  | { readonly _tag: "ReportLearner"; readonly id: NodeId; readonly missing: number }
  /** Another configuration is in force. `committed`: the latest that is known to stay. */
  | {
    readonly _tag: "AnnounceConfiguration"
    readonly configuration: Configuration
    readonly index: LogIndex
    readonly committed: Configuration
    /** Whether this server was a member of the one before. */
    readonly wasMember: boolean
  }
  /** The role, the term or the known leader changed. */
  | {
    readonly _tag: "AnnounceRole"
    readonly role: Role["_tag"]
    readonly term: Term
    readonly leaderId: NodeId | undefined
  }

export const emptyWrite: Write = { hardState: undefined, install: undefined, entries: [] }

export const isEmptyWrite = (write: Write): boolean =>
  write.hardState === undefined && write.install === undefined && write.entries.length === 0

/**
 * One write that leaves on disk what `writes`, one after the other, would. Entries replace everything from their first index on, so that
 * of two that overlap the later one wins. At most the first of them installs a snapshot.
 */
export const mergeWrites = (writes: ReadonlyArray<Write>): Write => {
  const withEntries = writes.filter((write) => write.entries.length > 0)
  const hardState = writes.findLast((write) => write.hardState !== undefined)?.hardState
  const install = writes[0]?.install
  const [only] = withEntries
  if (only === undefined || withEntries.length === 1) return { hardState, install, entries: only?.entries ?? [] }
  const entries: Array<Entry> = []
  for (const write of withEntries) {
    const start = write.entries[0]?.index ?? 0
    while (entries.length > 0 && (entries[entries.length - 1]?.index ?? 0) >= start) entries.pop()
    for (const entry of write.entries) entries.push(entry)
  }
  return { hardState, install, entries }
}
