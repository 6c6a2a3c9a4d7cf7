/**
 * A connection to a peer as `PeerTransport.ts` uses it, whatever it is made of: opened once, used until something ends it, never repaired.
 */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import type * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as PeerRpc from "../PeerRpc.ts"
import * as WebSocketRoute from "../WebSocketRoute.ts"

/** A peer's url is none. `message` quotes it. */
export class AddressError extends Data.TaggedError("AddressError")<{ readonly message: string }> {}

export interface Conversation {
  /** Delivers a frame of messages, given in pieces, and ends when it and all before it have been heard. */
  readonly deliver: (messages: ReadonlyArray<Uint8Array>) => Effect.Effect<void, unknown>
  /** The same without an answer, which spares both sides a message: ends as soon as it is on its way. */
  readonly notify: (messages: ReadonlyArray<Uint8Array>) => Effect.Effect<void, unknown>
  readonly welcome: PeerRpc.Welcome
  /** What it is made of, for the log. */
  readonly protocol: "rpc" | "frames"
  /** Fails with whatever ends the connection. */
  readonly broken: Deferred.Deferred<never, unknown>
}

export interface ConnectOptions {
  readonly url: string
  readonly hello: PeerRpc.Greeting
  readonly pingIntervalMs: number
  readonly pingTimeoutMs: number
  /** So often the called says something while messages flow. */
  readonly answerIntervalMs: number
  readonly connectTimeoutMs: number
}

/** Where a peer at `base` is called. */
export const addressOf = (base: string): Effect.Effect<WebSocketRoute.Address, AddressError> => {
  const found = WebSocketRoute.address(base, PeerRpc.path)
  return "problem" in found ? Effect.fail(new AddressError({ message: found.problem })) : Effect.succeed(found)
}

/**
 * A fresh connection to `url`, with `Hello` answered, that lasts as long as the scope. Fails with `PeerRpc.Refused`, `AddressError`, a timeout, or
 * whatever the connection fails with.
 */
export type Connect = (options: ConnectOptions) => Effect.Effect<Conversation, unknown, Scope.Scope>

/** The refusal in `cause`, if that is what it is. */
export const refusalOf = (cause: Cause.Cause<unknown>): PeerRpc.Refused | undefined => {
  const error = Cause.squash(cause)
  return error instanceof PeerRpc.Refused ? error : undefined
}

/** Why a connection ended, for the log: the innermost cause says most, as `connect ECONNREFUSED 127.0.0.1:7102`. */
export const describe = (cause: Cause.Cause<unknown>): string => {
  if (Cause.hasInterruptsOnly(cause)) return "the other side is shutting down"
  let error: unknown = Cause.squash(cause)
  let text = String(error)
  for (let depth = 0; depth < 8 && typeof error === "object" && error !== null; depth++) {
    if ("message" in error && typeof error.message === "string" && error.message !== "") text = error.message
    error = "reason" in error
      ? error.reason
      : "error" in error
      ? error.error
      : "cause" in error
      ? error.cause
      : undefined
  }
  return text
}
