/**
 * How messages reach other servers. Raft asks for little (paper §5.5): messages may be lost, delayed, duplicated and reordered; they
 * may not be altered or come from another cluster. `test/contracts/transport.ts` is the contract.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Event } from "../domain/Event.ts"
import type { Message } from "../domain/Message.ts"
import type { NodeId } from "../domain/NodeId.ts"

/** What a transport reports to its node. */
export type Inbound = Extract<Event, { readonly _tag: "Received" | "PeerLost" }>

export class Transport extends Context.Service<Transport, {
  /** Hands `message` over for delivery and returns at once. Never fails: loss is silence, and `PeerLost` is only a hint. */
  readonly send: (to: NodeId, message: Message) => Effect.Effect<void>
  /** Calls `deliver` synchronously for everything that arrives, until the scope closes. One receiver at a time. */
  readonly inbound: (deliver: (event: Inbound) => void) => Effect.Effect<void, never, Scope.Scope>
}>()("titan/Transport") {}
