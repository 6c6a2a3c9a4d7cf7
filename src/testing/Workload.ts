/**
 * What the clients of a simulation ask, and how what they were told is judged.
 */
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { StateMachine } from "../services/StateMachine.ts"
import type { Client, Outcome } from "./Clients.ts"
import type { Draws } from "./Draws.ts"

/** The requests of one run, and their history. */
export interface Session {
  /** What every node runs. */
  readonly stateMachine: Layer.Layer<StateMachine>
  /** One request of one client, a read or a write. */
  readonly request: (client: Client, isRead: boolean) => Effect.Effect<Outcome<unknown>>
  /** What a state machine holds, asked through its own `query`: two that hold the same give the same text. */
  readonly contents: (machine: StateMachine["Service"]) => Effect.Effect<string>
  /** Everything in the history that could not have happened. */
  readonly findings: () => ReadonlyArray<string>
  readonly counts: () => { readonly done: number; readonly notApplied: number; readonly unknown: number }
  /** The history as JSON lines. */
  readonly history: () => string
}

export interface Workload {
  /** `nowNs` rises with every call: the time of a request's call and return. */
  readonly start: (options: { readonly draws: Draws; readonly nowNs: () => number }) => Session
}
