/**
 * `Storage` in a directory: a write-ahead log of segments.
 *
 * - `wal/Record.ts`: the format of a record, and how a torn tail is told from damage
 * - `wal/Segment.ts`: the format of a file, and what a crash can leave of one
 * - `wal/Recovery.ts`, `wal/Writer.ts`: reading it back, and appending
 * - `wal/Lock.ts`: what keeps a second process out
 *
 * `docs/decisions/0002-write-ahead-log.md` says why it is made like this.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Path from "node:path"
import { isEmptyWrite, type Write } from "../domain/Command.ts"
import type { Configuration } from "../domain/Configuration.ts"
import type { NodeId } from "../domain/NodeId.ts"
import { type Identity, type Recovered, Storage, StorageError } from "../services/Storage.ts"
import * as File from "./wal/File.ts"
import { lock } from "./wal/Lock.ts"
import * as Recovery from "./wal/Recovery.ts"
import * as Segment from "./wal/Segment.ts"
import * as Writer from "./wal/Writer.ts"

export interface Options {
  /** Created, with those above it, unless it exists. */
  readonly directory: string
  /** Used only when the storage is first made; from then on the stored one counts. */
  readonly clusterId: string
  /** Must be the stored one, once there is one. */
  readonly nodeId: NodeId
  /** The size of a segment file, in bytes. A larger write gets a larger file. Default 16 MiB. */
  readonly segmentBytes?: number
}

const segmentBytesDefault = 16 << 20
const segmentBytesMin = Segment.headerBytes + 1024
const segmentBytesMax = 1 << 30

const failed = (path: string, message: string): StorageError => new StorageError({ reason: "Failed", path, message })

/** The headers of all segments; makes the first one, and with it the identity, where there is none. */
const openDirectory = Effect.fnUntraced(function*(directory: string, wanted: Identity, segmentBytes: number) {
  yield* File.makeDirectory(directory)
  yield* lock(directory)
  const found = yield* Segment.list(directory)
  if (found.segments.length === 0) {
    // A crash may have come between making the directory and syncing its parent; where that cannot be read, it was not ours to make.
    yield* Effect.ignore(File.syncDirectory(Path.dirname(directory)))
    for (const path of found.blanks) yield* File.unlink(path)
    const blank = yield* Segment.makeBlank(directory, 0, segmentBytes)
    yield* Effect.ensuring(Segment.open(blank, wanted, 1), File.close(blank.fd))
  }
  const { blanks, segments } = found.segments.length > 0 ? found : yield* Segment.list(directory)
  const stored = yield* Recovery.readHeaders(segments, wanted.nodeId)
  const identity = stored[0]?.header.identity ?? wanted
  if (identity.clusterId !== wanted.clusterId) {
    yield* Effect.logInfo("the cluster's name or its servers' addresses are not those of the first start; its id stays")
      .pipe(
        Effect.annotateLogs({ directory, cluster: identity.clusterId })
      )
  }
  return { blanks, identity, stored }
})

const make = Effect.fnUntraced(function*(options: Options) {
  const directory = Path.resolve(options.directory)
  const segmentBytes = Math.min(Math.max(options.segmentBytes ?? segmentBytesDefault, segmentBytesMin), segmentBytesMax)
  const wanted: Identity = { clusterId: options.clusterId, nodeId: options.nodeId }
  const problem = Segment.identityProblem(wanted)
  if (problem !== undefined) return yield* failed(directory, problem)
  const { blanks, identity, stored } = yield* openDirectory(directory, wanted, segmentBytes)
  const scope = yield* Effect.scope
  const oneAtATime = Semaphore.makeUnsafe(1)
  let writer: Writer.Writer | undefined

  const recoverOnce = Effect.fnUntraced(function*(initial: Configuration) {
    if (writer !== undefined) return yield* failed(directory, `${directory} was recovered already; that is done once`)
    const recovery = yield* Recovery.recover(stored)
    const opened = Writer.make({ directory, identity, segmentBytes, scope }, recovery)
    yield* Scope.addFinalizer(scope, oneAtATime.withPermit(opened.close))
    for (const path of blanks) yield* File.unlink(path)
    if (recovery.configuration === undefined) {
      yield* opened.append({ hardState: undefined, configuration: initial, entries: [] })
    }
    writer = opened
    return {
      hardState: recovery.hardState ?? { term: 0, votedFor: undefined },
      configuration: recovery.configuration ?? initial,
      entries: recovery.entries
    } satisfies Recovered
  })

  const persist = (write: Write): Effect.Effect<void, StorageError> => {
    if (writer === undefined) {
      return Effect.fail(failed(directory, `nothing can be written to ${directory} before it is recovered`))
    }
    if (isEmptyWrite(write)) return writer.barrier
    const { entries, hardState } = write
    return oneAtATime.withPermit(writer.append({ hardState, configuration: undefined, entries }))
  }

  return Storage.of({
    identity,
    recover: (initial) => oneAtATime.withPermit(Effect.uninterruptible(recoverOnce(initial))),
    persist: (write) => Effect.suspend(() => persist(write))
  })
})

/**
 * A layer that keeps a server's state in `directory`, and every other process out of it until its scope closes. Its
 * bytes survive `kill -9` and power loss. Building it fails with reason "Locked", "Foreign", "Unsupported", "Corrupt"
 * (a header), "DiskFull" or "Failed"; `recover` with "Corrupt" (a record) and the last two. A directory refused for one
 * of the first four reasons is left as it was.
 */
export const layer = (options: Options): Layer.Layer<Storage, StorageError> => Layer.effect(Storage, make(options))
