/**
 * Servers are interchangeable: a state with its servers renamed behaves as the state does. A renaming is a permutation; what follows renames
 * servers wherever one is named.
 */
import type { NodeId } from "../../src/domain/NodeId.ts"
import type { NodeState } from "../../src/domain/NodeState.ts"
import type { Ask, Role } from "../../src/domain/Role.ts"
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

export const idOf = (number: number): NodeId => `n${number + 1}`

export const numberOf = (id: NodeId): number => Number(id.slice(1)) - 1

export type Rename = (id: NodeId) => NodeId

export const renaming = (permutation: Permutation): Rename => (id) => idOf(permutation[numberOf(id)] ?? 0)

const optional = (rename: Rename, id: NodeId | undefined): NodeId | undefined =>
  id === undefined ? undefined : rename(id)

const keys = <A>(map: ReadonlyMap<NodeId, A>, rename: Rename): ReadonlyMap<NodeId, A> =>
  new Map([...map].map(([id, value]) => [rename(id), value] as const))

export const renamePacket = ({ from, message, to }: Packet, rename: Rename): Packet => ({
  from: rename(from),
  to: rename(to),
  message
})

const renameAsks = (asks: ReadonlyArray<Ask>, rename: Rename): ReadonlyArray<Ask> =>
  asks.map(({ ask, from }) => ({ from: rename(from), ask }))

const renameRole = (role: Role, rename: Rename): Role => {
  switch (role._tag) {
    case "Follower":
      return { _tag: "Follower", leaderId: optional(rename, role.leaderId) }
    case "PreCandidate":
    case "Candidate":
      return { _tag: role._tag, votes: keys(role.votes, rename) }
    case "Leader":
      return {
        ...role,
        progress: keys(role.progress, rename),
        pendingReads: role.pendingReads.map((read) => ({ ...read, asks: renameAsks(read.asks, rename) })),
        waitingAsks: renameAsks(role.waitingAsks, rename)
      }
    default:
      return role satisfies never
  }
}

const renameState = (state: NodeState, rename: Rename): NodeState => ({
  ...state,
  id: rename(state.id),
  votedFor: optional(rename, state.votedFor),
  role: renameRole(state.role, rename)
})

const renameReleased = (released: Released, rename: Rename): Released =>
  released._tag === "Send" ? { ...released, to: rename(released.to) } : released

const renameHardState = <A extends { readonly votedFor: NodeId | undefined }>(hardState: A, rename: Rename): A => ({
  ...hardState,
  votedFor: optional(rename, hardState.votedFor)
})

export const renameServer = (server: Server, rename: Rename): Server => ({
  ...server,
  id: rename(server.id),
  state: server.state === undefined ? undefined : renameState(server.state, rename),
  disk: { ...server.disk, hardState: renameHardState(server.disk.hardState, rename) },
  jobs: server.jobs.map(({ then, write }) => ({
    write: {
      ...write,
      hardState: write.hardState === undefined ? undefined : renameHardState(write.hardState, rename)
    },
    then: then.map((released) => renameReleased(released, rename))
  }))
})
