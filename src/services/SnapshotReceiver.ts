/**
 * The receiver's side of InstallSnapshot (paper Figure 13), up to the point where all of it is on disk and was checked: then the core decides
 * what becomes of it. One snapshot at a time; a later term, another leader or another snapshot begins anew.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import type { LogIndex, Term } from "../domain/Entry.ts"
import type { Event } from "../domain/Event.ts"
import type { NodeId } from "../domain/NodeId.ts"
import { needsSnapshot, type NodeState } from "../domain/NodeState.ts"
import { isBelievable } from "../domain/Step.ts"
import type { SnapshotWriter, Storage, StorageError } from "./Storage.ts"
import type { InstallSnapshot, InstallSnapshotResult, Transport } from "./Transport.ts"

/** A snapshot that is coming in. */
export interface Receiving {
  readonly from: NodeId
  readonly index: LogIndex
  readonly offset: number
  readonly sizeBytes: number
}

export interface SnapshotReceiver {
  readonly onRequest: (from: NodeId, request: InstallSnapshot) => void
  readonly receiving: () => Receiving | undefined
  readonly run: Effect.Effect<never, StorageError>
}

interface Parts {
  readonly storage: Storage["Service"]
  readonly transport: Transport["Service"]
  readonly state: () => NodeState
  readonly offer: (event: Event) => void
}

/** Pieces that may wait: a sender has one under way, and asks again once in a while. */
const waitingMax = 16

interface Partial {
  readonly key: string
  readonly term: Term
  readonly writer: SnapshotWriter
  readonly scope: Scope.Closeable
  readonly receiving: Receiving
}

const keyOf = (from: NodeId, { snapshot: { last, sizeBytes }, term }: InstallSnapshot): string =>
  [from, term, last.index, last.term, sizeBytes].join(" ")

const expects = (offset: number): InstallSnapshotResult => ({ _tag: "Expects", offset })

/** After so many of the longest election timeouts without a piece a transfer is over. */
const silentTimeouts = 30

/** What has come in so far. */
class Intake {
  partial: Partial | undefined
  /** What was handed to the core last, which may not have looked at it yet. */
  #completed: string | undefined
  readonly #parts: Parts
  readonly #around: Scope.Scope

  constructor(parts: Parts, around: Scope.Scope) {
    this.#parts = parts
    this.#around = around
  }

  /** Takes a piece in, and says what to do next; `undefined` where it is of an older leader. */
  take(from: NodeId, request: InstallSnapshot) {
    return Effect.gen({ self: this }, function*() {
      const key = keyOf(from, request)
      const node = this.#parts.state()
      if (request.term < Math.max(node.term, this.partial?.term ?? 0)) return undefined
      const isHere = !needsSnapshot(node) && request.snapshot.last.index <= node.commitIndex
      if (isHere || key === this.#completed) return { _tag: "Received" } satisfies InstallSnapshotResult
      const current = this.partial?.key === key ? this.partial : yield* this.#begin(from, request)
      const { receiving } = current
      const { bytes, offset } = request
      const isNext = offset === receiving.offset && offset + bytes.length <= receiving.sizeBytes
      if (!isNext || bytes.length === 0) return expects(receiving.offset)
      yield* current.writer.write(bytes)
      const next = { ...current, receiving: { ...receiving, offset: offset + bytes.length } }
      this.partial = next
      if (next.receiving.offset < receiving.sizeBytes) return expects(next.receiving.offset)
      return { _tag: yield* this.#finish(from, request, next) } satisfies InstallSnapshotResult
    })
  }

  readonly drop = Effect.suspend(() => {
    const scope = this.partial?.scope
    this.partial = undefined
    return scope === undefined ? Effect.void : Scope.close(scope, Exit.void)
  })

  /** There is no room for it now. Nothing else has changed, and the leader asks again. */
  giveUp(error: StorageError): Effect.Effect<undefined> {
    const line = Effect.logWarning("no room for a snapshot; it is received from the beginning once there is")
    return Effect.andThen(
      this.drop,
      Effect.annotateLogs(line, { node: this.#parts.state().id, problem: error.message })
    )
      .pipe(Effect.as(undefined))
  }

  #begin(from: NodeId, request: InstallSnapshot) {
    return Effect.gen({ self: this }, function*() {
      yield* this.drop
      const { snapshot, term } = request
      const { last, sizeBytes } = snapshot
      const scope = yield* Scope.fork(this.#around)
      const writer = yield* Scope.provide(this.#parts.storage.receiveSnapshot(snapshot), scope)
      const receiving: Receiving = { from, index: last.index, offset: 0, sizeBytes }
      const begun: Partial = { key: keyOf(from, request), term, writer, scope, receiving }
      this.partial = begun
      const fields = { node: this.#parts.state().id, leader: from, index: last.index, bytes: sizeBytes }
      yield* Effect.annotateLogs(Effect.logInfo("receives a snapshot"), fields)
      return begun
    })
  }

  #finish(from: NodeId, { snapshot, term }: InstallSnapshot, whole: Partial) {
    return Effect.gen({ self: this }, function*() {
      const problem = yield* whole.writer.finish
      yield* this.drop
      const fields = { node: this.#parts.state().id, leader: from, index: snapshot.last.index }
      if (problem !== undefined) {
        const line = Effect.logWarning("a snapshot came in damaged and is not installed")
        yield* Effect.annotateLogs(line, { ...fields, problem })
        return "Damaged" as const
      }
      this.#completed = whole.key
      yield* Effect.annotateLogs(Effect.logInfo("received a snapshot"), fields)
      this.#parts.offer({ _tag: "SnapshotReceived", from, term, snapshot })
      return "Received" as const
    })
  }
}

export const make = Effect.fnUntraced(function*(parts: Parts) {
  const requests = yield* Queue.dropping<{ readonly from: NodeId; readonly request: InstallSnapshot }>(waitingMax)
  let intake: Intake | undefined

  const respond = Effect.fnUntraced(function*(into: Intake) {
    const taken = Queue.take(requests)
    const silenceMs = silentTimeouts * parts.state().settings.electionTimeoutMsMax
    const next = into.partial === undefined
      ? yield* taken
      : Option.getOrUndefined(yield* Effect.timeoutOption(taken, Duration.millis(silenceMs)))
    // Nobody sends it any more: its bytes and its descriptor are of no use.
    if (next === undefined) return yield* into.drop
    const { from, request } = next
    const result = yield* into.take(from, request).pipe(
      Effect.catchIf((error) => error.reason === "DiskFull", (error) => into.giveUp(error))
    )
    if (result === undefined) return
    const { snapshot: { last }, term } = request
    yield* parts.transport.send(from, { _tag: "InstallSnapshotResponse", term, last, result })
  })

  const receiver: SnapshotReceiver = {
    onRequest: (from, request) => {
      if (!isBelievable(parts.state(), request.term)) return
      parts.offer({ _tag: "SnapshotPieceReceived", from, term: request.term })
      Queue.offerUnsafe(requests, { from, request })
    },
    receiving: () => intake?.partial?.receiving,
    run: Effect.scoped(Effect.flatMap(Effect.scope, (around) => {
      const into = new Intake(parts, around)
      intake = into
      return Effect.forever(respond(into), { disableYield: true })
    }))
  }
  return receiver
})
