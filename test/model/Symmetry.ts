/**
 * Servers are interchangeable: a state with its servers renamed behaves as the state does. A renaming is a permutation; what follows renames
 * servers wherever one is named.
 */
import type { Write } from "../../src/domain/Command.ts"
import type { Configuration, InForce } from "../../src/domain/Configuration.ts"
import type { Entry } from "../../src/domain/Entry.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import type { NodeState } from "../../src/domain/NodeState.ts"
import type { Ask, Role } from "../../src/domain/Role.ts"
import type { Snapshot } from "../../src/domain/Snapshot.ts"
import * as Configurations from "./Configurations.ts"
import type { Disk } from "./Disk.ts"
import { idOf, numberOf } from "./numbering.ts"
import type { Packet, Released, Server } from "./Server.ts"

/** `permutation[i]` is the new number of server `i`. */
export type Permutation = ReadonlyArray<number>

/** Every permutation of `size` servers; the first one changes nothing. */
export const permutations = (size: number): ReadonlyArray<Permutation> => {
  if (size === 0) return [[]]
  return permutations(size - 1)
    .flatMap((shorter) =>
      Array.from(
        { length: size },
        (_, i) => [...shorter.slice(0, size - 1 - i), size - 1, ...shorter.slice(size - 1 - i)]
      )
    )
    .toSorted((a, b) => a.join("").localeCompare(b.join("")))
}

export const inverse = (permutation: Permutation): Permutation => permutation.map((_, i) => permutation.indexOf(i))

/** Those after which each server is still in the same one of `classes`. */
export const within = (
  all: ReadonlyArray<Permutation>,
  classes: ReadonlyArray<unknown>
): ReadonlyArray<Permutation> => all.filter((permutation) => permutation.every((to, i) => classes[to] === classes[i]))

export interface Rename {
  readonly id: (id: NodeId) => NodeId
  /** The same value for the same value. */
  readonly configuration: (configuration: Configuration) => Configuration
}

export const renaming = (permutation: Permutation): Rename => {
  const id = (old: NodeId): NodeId => idOf(permutation[numberOf(old)] ?? 0)
  const renamed = (ids: ReadonlyArray<NodeId>): ReadonlyArray<NodeId> => ids.map(id)
  const configuration = (old: Configuration): Configuration => {
    const { addresses, joining, learners, outgoing, voters } = old
    const code = Configurations.codeOf({
      voters: renamed(voters),
      learners: renamed(learners),
      joining: renamed(joining),
      outgoing: renamed(outgoing),
      addresses
    })
    return code === Configurations.codeOf(old) ? old : Configurations.configurationOf(code)
  }
  return { id, configuration }
}

/** Nobody is renamed, and every configuration lists its voters the other way round: whoever takes the first of several takes the last. */
export const turning = (): Rename => {
  const known = new Map<Configuration, Configuration>()
  const configuration = (old: Configuration): Configuration => {
    const turned = known.get(old) ?? { ...old, voters: old.voters.toReversed() }
    known.set(old, turned)
    return turned
  }
  return { id: (id) => id, configuration }
}

const optional = (rename: Rename, id: NodeId | undefined): NodeId | undefined =>
  id === undefined ? undefined : rename.id(id)

const keys = <A>(map: ReadonlyMap<NodeId, A>, rename: Rename): ReadonlyMap<NodeId, A> =>
  new Map(
    [...map].map(([id, value]) => [rename.id(id), value] as const).toSorted(([a], [b]) => numberOf(a) - numberOf(b))
  )

const isConfiguration = ({ payload }: Entry): boolean => payload._tag === "Configuration"

const renameEntry = (entry: Entry, rename: Rename): Entry => {
  const { payload } = entry
  if (payload._tag !== "Configuration") return entry
  return { ...entry, payload: { ...payload, configuration: rename.configuration(payload.configuration) } }
}

const renameEntries = (entries: ReadonlyArray<Entry>, rename: Rename): ReadonlyArray<Entry> =>
  entries.some(isConfiguration) ? entries.map((entry) => renameEntry(entry, rename)) : entries

const renameSnapshot = (snapshot: Snapshot, rename: Rename): Snapshot => ({
  ...snapshot,
  configuration: rename.configuration(snapshot.configuration)
})

const renameMessage = (message: Packet["message"], rename: Rename): Packet["message"] => {
  if (message._tag === "InstallSnapshot") return { ...message, snapshot: renameSnapshot(message.snapshot, rename) }
  return message._tag === "AppendEntries" && message.entries.some(isConfiguration)
    ? { ...message, entries: renameEntries(message.entries, rename) }
    : message
}

export const renamePacket = ({ from, message, to }: Packet, rename: Rename): Packet => ({
  from: rename.id(from),
  to: rename.id(to),
  message: renameMessage(message, rename)
})

const renameAsks = (asks: ReadonlyArray<Ask>, rename: Rename): ReadonlyArray<Ask> =>
  asks.map(({ ask, from }) => ({ from: rename.id(from), ask }))

const renameRole = (role: Role, rename: Rename): Role => {
  switch (role._tag) {
    case "Follower":
      return { _tag: "Follower", leaderId: optional(rename, role.leaderId) }
    case "PreCandidate":
      return { ...role, votes: keys(role.votes, rename) }
    case "Candidate":
      return { ...role, votes: keys(role.votes, rename) }
    case "Leader":
      return {
        ...role,
        progress: keys(role.progress, rename),
        pendingReads: role.pendingReads.map((read) => ({ ...read, asks: renameAsks(read.asks, rename) })),
        waitingAsks: renameAsks(role.waitingAsks, rename),
        catchUps: keys(role.catchUps, rename),
        transfer: role.transfer === undefined
          ? undefined
          : { ...role.transfer, to: rename.id(role.transfer.to) }
      }
    default:
      return role satisfies never
  }
}

const renameInForce = ({ along, latest, latestIndex }: InForce, rename: Rename): InForce => {
  const [first, ...rest] = along.map(({ configuration, index }) => ({
    index,
    configuration: rename.configuration(configuration)
  }))
  if (first === undefined) throw new Error("no configuration is in force")
  return { latest: rename.configuration(latest), latestIndex, along: [first, ...rest] }
}

export const renameState = (state: NodeState, rename: Rename): NodeState => ({
  ...state,
  id: rename.id(state.id),
  votedFor: optional(rename, state.votedFor),
  log: state.configuration.along.length === 1
    ? state.log
    : { ...state.log, chunks: state.log.chunks.map((chunk) => chunk.map((entry) => renameEntry(entry, rename))) },
  snapshot: renameSnapshot(state.snapshot, rename),
  configuration: renameInForce(state.configuration, rename),
  role: renameRole(state.role, rename)
})

/** What waits for a disk promises something, and carries no entries. */
const renameReleased = (released: Released, rename: Rename): Released =>
  released._tag === "Send" ? { ...released, to: rename.id(released.to) } : released

const renameHardState = <A extends { readonly votedFor: NodeId | undefined }>(hardState: A, rename: Rename): A => ({
  ...hardState,
  votedFor: optional(rename, hardState.votedFor)
})

const renameDisk = (disk: Disk, rename: Rename): Disk => ({
  ...disk,
  hardState: renameHardState(disk.hardState, rename),
  snapshot: renameSnapshot(disk.snapshot, rename),
  configuration: rename.configuration(disk.configuration),
  entries: renameEntries(disk.entries, rename)
})

const renameWrite = ({ entries, hardState, install }: Write, rename: Rename): Write => ({
  hardState: hardState === undefined ? undefined : renameHardState(hardState, rename),
  install: install === undefined ? undefined : { ...install, snapshot: renameSnapshot(install.snapshot, rename) },
  entries: renameEntries(entries, rename)
})

export const renameServer = (server: Server, rename: Rename): Server => ({
  ...server,
  id: rename.id(server.id),
  state: server.state === undefined ? undefined : renameState(server.state, rename),
  disk: renameDisk(server.disk, rename),
  jobs: server.jobs.map(({ then, write }) => ({
    write: renameWrite(write, rename),
    then: then.map((released) => renameReleased(released, rename))
  }))
})
