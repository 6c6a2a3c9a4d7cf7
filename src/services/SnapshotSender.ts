/**
 * The sender's side of InstallSnapshot (paper §7, Figure 13): one piece at a time to each follower that the core wants to have a snapshot, each
 * after the answer to the one before. The answers say where to go on, so that nothing but one piece is ever repeated; after silence an empty
 * piece asks how far the follower is.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { isSnapshotWanted } from "../domain/Compaction.ts"
import type { LogIndex } from "../domain/Entry.ts"
import type { Event } from "../domain/Event.ts"
import type { NodeId } from "../domain/NodeId.ts"
import type { NodeState } from "../domain/NodeState.ts"
import type { SnapshotReader, Storage, StorageError } from "./Storage.ts"
import type { InstallSnapshotResponse, InstallSnapshotResult, Transport } from "./Transport.ts"

/** A snapshot on its way to a follower. */
export interface Sending {
  readonly to: NodeId
  readonly index: LogIndex
  /** What the follower has. */
  readonly offset: number
  readonly sizeBytes: number
}

export interface SnapshotSender {
  /** Sends the latest snapshot to `to` for as long as the core wants that; goes on with what is under way. */
  readonly start: (to: NodeId) => Effect.Effect<void>
  readonly onResponse: (from: NodeId, response: InstallSnapshotResponse) => void
  readonly sending: () => ReadonlyArray<Sending>
  readonly run: Effect.Effect<never, StorageError>
}

interface Parts {
  readonly storage: Storage["Service"]
  readonly transport: Transport["Service"]
  readonly state: () => NodeState
  readonly offer: (event: Event) => void
  /** Writes the snapshot anew, where what its file says is not what was written. */
  readonly renew: Effect.Effect<unknown>
}

interface Transfer {
  readonly to: NodeId
  readonly answers: Queue.Queue<InstallSnapshotResponse>
  sending: Sending | undefined
}

/** What follows this snapshot is compacted, and there is a later one: it would be sent in vain. */
const isOutdated = ({ log, snapshot }: NodeState, index: LogIndex): boolean =>
  snapshot.last.index > index && log.prev.index > index

const nothing: Uint8Array = new Uint8Array(0)

/** One file to one follower, in one term. Ends when it has all of it, when it is damaged, or when the core wants something else. */
const sendFile = Effect.fnUntraced(function*(parts: Parts, transfer: Transfer, reader: SnapshotReader) {
  const { state, transport } = parts
  const { settings, term } = state()
  const { last, sizeBytes } = reader.snapshot
  const { to } = transfer
  const clock = yield* Clock.Clock
  const nowMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  /** Until then the rate allows nothing more. */
  let pausedUntilMs = 0

  const send = (offset: number, bytes: Uint8Array) =>
    transport.send(to, { _tag: "InstallSnapshot", term, snapshot: reader.snapshot, offset, bytes })

  /** The answer of this file's receiver that tells something new. */
  const answer = Effect.fnUntraced(function*(offset: number, length: number) {
    for (;;) {
      const { last: of, result, term: in_ } = yield* Queue.take(transfer.answers)
      if (in_ !== term || of.index !== last.index || of.term !== last.term) continue
      // Of an empty piece sent before: this one is still on its way.
      const isOld = result._tag === "Expects" && length > 0 && result.offset === offset
      if (!isOld) return result
    }
  })

  const exchange = (offset: number, bytes: Uint8Array): Effect.Effect<InstallSnapshotResult | undefined> =>
    Effect.andThen(
      send(offset, bytes),
      Effect.timeoutOption(answer(offset, bytes.length), Duration.millis(settings.electionTimeoutMsMax)).pipe(
        Effect.map(Option.getOrUndefined)
      )
    )

  let bytes = nothing
  let offset = 0
  while (isSnapshotWanted(state(), to) && state().term === term) {
    transfer.sending = { to, index: last.index, offset, sizeBytes }
    const result = yield* exchange(offset, bytes)
    if (
      (result === undefined || (result._tag === "Expects" && result.offset === 0)) && isOutdated(state(), last.index)
    ) {
      return "Outdated"
    }
    if (result === undefined) {
      bytes = nothing
      continue
    }
    if (result._tag !== "Expects") return result._tag
    offset = Math.min(result.offset, sizeBytes)
    bytes = yield* reader.read(offset, settings.snapshotChunkBytes)
    const waitMs = pausedUntilMs - nowMs()
    if (waitMs > 1) yield* Effect.sleep(waitMs)
    pausedUntilMs = Math.max(pausedUntilMs, nowMs()) + (bytes.length / settings.snapshotBytesPerSecondMax) * 1000
  }
  return "Unwanted" as const
})

/** Whether the file is damaged here, or was on its way. */
const onDamaged = Effect.fnUntraced(function*(parts: Parts, { to }: Transfer, reader: SnapshotReader) {
  const fields = { node: parts.state().id, peer: to, index: reader.snapshot.last.index }
  const isWhole = yield* Stream.runDrain(reader.content).pipe(
    Effect.as(true),
    Effect.catchIf((error) => error.reason === "Corrupt", () => Effect.succeed(false))
  )
  const line = Effect.logWarning(
    isWhole ? "a snapshot came in damaged, and is sent again" : "this server's snapshot is damaged, and is taken anew"
  )
  yield* Effect.annotateLogs(line, fields)
  if (!isWhole) yield* parts.renew
})

/** Sends the latest file once, from wherever the follower is. */
const sendLatest = Effect.fnUntraced(function*(parts: Parts, transfer: Transfer) {
  const reader = yield* parts.storage.openSnapshot
  if (reader === undefined) return "Missing"
  const { last, sizeBytes } = reader.snapshot
  const fields = { node: parts.state().id, peer: transfer.to, index: last.index, bytes: sizeBytes }
  yield* Effect.annotateLogs(Effect.logInfo("sends a snapshot to a follower"), fields)
  const outcome = yield* sendFile(parts, transfer, reader).pipe(
    // A file that cannot be read is damaged as one is whose checksum is wrong.
    Effect.catchIf((error) => error.reason === "Corrupt", () => Effect.succeed("Damaged" as const))
  )
  if (outcome === "Damaged") yield* onDamaged(parts, transfer, reader)
  if (outcome === "Received") parts.offer({ _tag: "SnapshotSent", peer: transfer.to })
  if (outcome === "Received") yield* Effect.annotateLogs(Effect.logInfo("a follower has received a snapshot"), fields)
  return outcome
})

const damagedPauses = 5

/** Sends files for as long as the core's progress for the follower is `Snapshot`. */
const serve = Effect.fnUntraced(function*(parts: Parts, transfer: Transfer, isDone: () => boolean) {
  while (!isDone()) {
    const outcome = yield* Effect.scoped(sendLatest(parts, transfer))
    transfer.sending = undefined
    const { electionTimeoutMsMax } = parts.state().settings
    // An answer to a heartbeat tells the core that it is installed. What came in damaged may come so again.
    if (outcome === "Received" || outcome === "Missing") yield* Effect.sleep(electionTimeoutMsMax)
    if (outcome === "Damaged") yield* Effect.sleep(damagedPauses * electionTimeoutMsMax)
  }
})

export const make = Effect.fnUntraced(function*(parts: Parts) {
  const wanted = yield* Queue.unbounded<NodeId>()
  const transfers = new Map<NodeId, Transfer>()

  const begin = Effect.fnUntraced(
    function*(to: NodeId, scope: Scope.Scope, failed: Deferred.Deferred<never, StorageError>) {
      if (transfers.has(to)) return
      const transfer: Transfer = { to, answers: yield* Queue.unbounded<InstallSnapshotResponse>(), sending: undefined }
      transfers.set(to, transfer)
      // Forgotten in the instant in which it is found to be unwanted: whoever wants it again must find it gone.
      const isDone = () => !isSnapshotWanted(parts.state(), to) && transfers.delete(to)
      const ended = Effect.onExit(serve(parts, transfer, isDone), (exit) => {
        if (Exit.isFailure(exit)) Deferred.doneUnsafe(failed, Exit.failCause(exit.cause))
        return Effect.void
      })
      yield* Effect.forkIn(ended, scope)
    }
  )

  const run = Effect.scoped(Effect.gen(function*() {
    const scope = yield* Effect.scope
    const failed = yield* Deferred.make<never, StorageError>()
    const starting = Effect.flatMap(Queue.take(wanted), (to) => begin(to, scope, failed))
    return yield* Effect.raceFirst(Effect.forever(starting, { disableYield: true }), Deferred.await(failed))
  }))

  const sender: SnapshotSender = {
    start: (to) => Effect.sync(() => void Queue.offerUnsafe(wanted, to)),
    onResponse: (from, response) => {
      const transfer = transfers.get(from)
      if (transfer !== undefined) Queue.offerUnsafe(transfer.answers, response)
    },
    sending: () => [...transfers.values()].flatMap(({ sending }) => sending === undefined ? [] : [sending]),
    run
  }
  return sender
})
