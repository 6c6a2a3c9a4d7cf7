/**
 * Snapshots as tests save, send and read them.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Configuration } from "../../src/domain/Configuration.ts"
import type { EntryId } from "../../src/domain/Entry.ts"
import type { Snapshot } from "../../src/domain/Snapshot.ts"
import * as SnapshotFormat from "../../src/layers/SnapshotFormat.ts"
import type { Storage, StorageError } from "../../src/services/Storage.ts"
import { initial } from "./storage.ts"

type Service = Storage["Service"]

export const idOf = (term: number, index: number): EntryId => ({ term, index })

export const streamOf = (...pieces: ReadonlyArray<string | Uint8Array>): Stream.Stream<Uint8Array> =>
  Stream.fromIterable(pieces.map((piece) => typeof piece === "string" ? Buffer.from(piece) : piece))

export const save = (storage: Service, last: EntryId, text: string, configuration: Configuration = initial) =>
  storage.saveSnapshot({ last, configuration }, streamOf(text))

export const textOf = (content: Stream.Stream<Uint8Array, StorageError>) =>
  Effect.map(Stream.runCollect(content), (pieces) => Buffer.concat(pieces).toString("latin1"))

/** The latest snapshot and what was saved as it; `undefined` where there is none. */
export const readLatest = (storage: Service) =>
  Effect.scoped(Effect.gen(function*() {
    const reader = yield* storage.openSnapshot
    return reader === undefined
      ? undefined
      : { snapshot: reader.snapshot, text: yield* textOf(reader.content) }
  }))

/** A snapshot as another server of the cluster `c1` would send it. */
export const sent = (last: EntryId, text: string, configuration: Configuration = initial, clusterId = "c1") => {
  const encoder = SnapshotFormat.encoder({ clusterId, takenBy: "n2", last, configuration })
  const content = Buffer.from(text)
  encoder.add(content)
  const bytes = Buffer.concat([encoder.head, content, encoder.trailer()])
  return { snapshot: { last, configuration, sizeBytes: bytes.length } satisfies Snapshot, bytes }
}

/** Receives `bytes` as `snapshot`, in pieces. Gives why that is refused, if it is. */
export const receive = (storage: Service, { bytes, snapshot }: ReturnType<typeof sent>, pieceBytes = 7) =>
  Effect.scoped(Effect.gen(function*() {
    const writer = yield* storage.receiveSnapshot(snapshot)
    for (let at = 0; at < bytes.length; at += pieceBytes) yield* writer.write(bytes.subarray(at, at + pieceBytes))
    return yield* writer.finish
  }))
