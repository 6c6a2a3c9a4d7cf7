/** One server under a test's hand, what a test is told of it, and what it starts from. */
import type { Command, Refusal } from "../../src/domain/Command.ts"
import type { Configuration } from "../../src/domain/Configuration.ts"
import type { Entry, EntryId } from "../../src/domain/Entry.ts"
import type { Event } from "../../src/domain/Event.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import type { NodeState } from "../../src/domain/NodeState.ts"
import type { Settings } from "../../src/domain/Settings.ts"
import type { Snapshot } from "../../src/domain/Snapshot.ts"
import type { Disk } from "./Disk.ts"

/** What a command meant for the caller of a request. */
export type Reply =
  | { readonly _tag: "Accepted"; readonly id: EntryId }
  | { readonly _tag: "Served"; readonly index: number }
  | { readonly _tag: "Completed" }
  | { readonly _tag: "Refused"; readonly refusal: Refusal }

export interface Server {
  state: NodeState | undefined
  readonly disk: Disk
  /** What its own state machine has applied since it started, beyond what a snapshot stands for. */
  applied: Array<Entry>
  appliedIndex: number
  /** The core has asked for a snapshot. */
  isAskedForSnapshot: boolean
  /** A snapshot that is being written. */
  captured: Snapshot | undefined
  inbox: Array<Event>
}

export interface Observed {
  readonly node: NodeId
  readonly event: Event | { readonly _tag: "Crashed" | "Restarted" | "Flushed" }
  readonly commands: ReadonlyArray<Command>
}

export interface Given {
  readonly voters: ReadonlyArray<NodeId>
  readonly learners?: ReadonlyArray<NodeId>
  readonly settings?: Partial<Settings>
  readonly seed?: number
  readonly disks?: Readonly<Record<NodeId, Pick<Disk, "hardState"> & { readonly entries: ReadonlyArray<Entry> }>>
  /** What single servers believe to be the membership. */
  readonly beliefs?: Readonly<Record<NodeId, Configuration>>
}
