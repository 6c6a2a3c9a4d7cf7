/**
 * What a server holds for clients that have not read it: answers that were computed and are not on their way yet, in bytes, connection by
 * connection. Beyond `unreadBytesMax` nothing more is computed for that connection, and what was is cut off, to be asked for again.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import { answersBytesMax } from "./Connection.ts"

export const unreadBytesMax = 32 << 20

/** Whether there is room for an answer of so many bytes; it is taken then. */
export type Room = (bytes: number) => boolean

type RequestId = string | number

/** A call of a client. */
export interface Call {
  readonly client: { readonly id: number }
  readonly requestId: RequestId
}

interface Connected {
  bytes: number
  readonly byCall: Map<RequestId, { bytes: number }>
}

export class Unread {
  readonly #connected = new Map<number, Connected>()
  readonly #released = Latch.makeUnsafe()

  /** What is held for a connection, in bytes. */
  bytesOf(client: number): number {
    return this.#connected.get(client)?.bytes ?? 0
  }

  /** Runs `call` once there is room for its answers, and tells it how much. */
  answering<A, E>(by: Call, call: (room: Room) => Effect.Effect<A, E>): Effect.Effect<A, E> {
    const isFull = () => this.bytesOf(by.client.id) >= unreadBytesMax
    const whileFull = Effect.whileLoop({
      while: isFull,
      body: () => {
        this.#released.closeUnsafe()
        return this.#released.await
      },
      step: () => {}
    })
    const called = Effect.suspend(() => call(this.#room(by)))
    const answered = Effect.suspend(() => isFull() ? Effect.andThen(whileFull, called) : called)
    return Effect.onExitPrimitive(answered, (exit) => {
      if (Exit.hasInterrupts(exit)) this.sent(by.client.id, by.requestId)
      return undefined
    })
  }

  /** The answers of a call are on their way, or will never be. */
  sent(client: number, requestId: RequestId): void {
    const known = this.#connected.get(client)
    const its = known?.byCall.get(requestId)
    if (known === undefined || its === undefined) return
    known.byCall.delete(requestId)
    known.bytes -= its.bytes
    if (known.byCall.size === 0) this.#connected.delete(client)
    this.#released.openUnsafe()
  }

  /** An answer has room beside others of its message, and beside what the connection was not sent yet; the first one, of whatever size, always has. */
  #room({ client: { id }, requestId }: Call): Room {
    const known = this.#connected.get(id) ?? { bytes: 0, byCall: new Map<RequestId, { bytes: number }>() }
    const its = { bytes: 0 }
    known.byCall.set(requestId, its)
    this.#connected.set(id, known)
    return (bytes) => {
      if (its.bytes > answersBytesMax || (known.bytes > 0 && known.bytes + bytes > unreadBytesMax)) return false
      its.bytes += bytes
      known.bytes += bytes
      return true
    }
  }
}
