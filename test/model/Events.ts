/**
 * What can happen to a server, each as a number; what can be several follows the first of its kind.
 */
import type { Change } from "../../src/domain/Configuration.ts"
import { isLeader } from "../../src/domain/NodeState.ts"
import { type Wish, wishes } from "./bound.ts"
import { idOf } from "./numbering.ts"
import { type Action, bytesAt, type Packet, type Server } from "./Server.ts"
import type { Permutation } from "./Symmetry.ts"

export const tick = 0
export const quorumLost = 1
export const propose = 2
export const start = 3
/** In a life of a lower number than all before it. */
export const startLower = 4
/** Without its snapshot, which is damaged. */
export const startDamaged = 5
/** A snapshot that was asked for could not be taken. */
export const snapshotFailed = 6
/** Its successor has not taken over in time. */
export const transferOver = 7
/** By peer. */
export const loseFirst = 8
export const resendFirst = 12
export const sentFirst = 16
export const transferFirst = 20
/** By what is committed. */
export const readFirst = 24
export const askFirst = 32
/** By the last index of the snapshot. */
export const snapshotFirst = 40
/** By how many writes. */
export const flushFirst = 48
/** By wish, and by the servers that it is about. */
const changeFirst = 64
const nodesMax = 4
const changesOfWish = nodesMax * nodesMax
/** By message. */
const deliverFirst = changeFirst + wishes.length * changesOfWish

/** `other` is only part of a wish that is about two servers. */
export const change = (wish: Wish, node: number, other: number): number =>
  changeFirst + wishes.indexOf(wish) * changesOfWish + node * nodesMax + other

export const isAboutTwo = (wish: Wish): boolean => wish === "remove one and promote another"

export const isChange = (event: number): boolean => event >= changeFirst && event < deliverFirst

export const changesOf = (event: number): ReadonlyArray<Change> => {
  const wish = wishes[Math.floor((event - changeFirst) / changesOfWish)]
  const id = idOf(Math.floor((event - changeFirst) % changesOfWish / nodesMax))
  switch (wish) {
    case "add a voter":
    case "add a learner":
      return [{ _tag: "Add", id, address: undefined, becomes: wish === "add a voter" ? "Voter" : "Learner" }]
    case "promote":
      return [{ _tag: "Promote", id }]
    case "demote":
      return [{ _tag: "Demote", id }]
    case "remove":
      return [{ _tag: "Remove", id }]
    case "remove one and promote another":
      return [{ _tag: "Remove", id }, { _tag: "Promote", id: idOf((event - changeFirst) % nodesMax) }]
    default:
      throw new Error(`${event} is no change`)
  }
}

export const deliver = (packet: number, isLate: boolean): number => deliverFirst + 2 * packet + (isLate ? 1 : 0)

export const isDelivery = (event: number): boolean => event >= deliverFirst

export const isStart = (event: number): boolean => event >= start && event <= startDamaged

/** The message that arrives; -1 where none does. */
export const packetIn = (event: number): number => isDelivery(event) ? (event - deliverFirst) >> 1 : -1

export const isLate = (event: number): boolean => isDelivery(event) && (event & 1) === 1

/** The event with the servers renamed; what arrives is given its name by `renamePacket`. */
export const renamed = (event: number, permutation: Permutation, renamePacket: (packet: number) => number): number => {
  if (isDelivery(event)) return deliver(renamePacket(packetIn(event)), isLate(event))
  if (isChange(event)) {
    const pair = (event - changeFirst) % changesOfWish
    const [node, other] = [Math.floor(pair / nodesMax), pair % nodesMax]
    return event - pair + (permutation[node] ?? 0) * nodesMax + (permutation[other] ?? 0)
  }
  if (event < loseFirst || event >= readFirst) return event
  const first = event - event % nodesMax
  return first + (permutation[event - first] ?? 0)
}

const delivery = ({ from, message }: Packet, isLate: boolean): Action => {
  if (message._tag !== "InstallSnapshot") {
    const event = { _tag: "Received", from, message } as const
    return isLate && message._tag === "AppendEntriesResponse"
      ? { _tag: "Turned", event }
      : { _tag: "Step", event, isLate }
  }
  const { snapshot, term } = message
  return {
    _tag: "Step",
    event: isLate
      ? { _tag: "SnapshotPieceReceived", from, term }
      : { _tag: "SnapshotReceived", from, term, snapshot },
    isLate: false
  }
}

export const actionOf = (
  { state }: Server,
  event: number,
  packetOf: (packet: number) => Packet
): Action => {
  if (isDelivery(event)) return delivery(packetOf(packetIn(event)), isLate(event))
  if (isChange(event)) {
    return { _tag: "Step", event: { _tag: "Reconfigure", requestId: 0, changes: changesOf(event) }, isLate: false }
  }
  if (event >= flushFirst) return { _tag: "Flush", count: event - flushFirst }
  if (event >= snapshotFirst) return { _tag: "Snapshot", index: event - snapshotFirst }
  if (event >= readFirst) {
    const isAsk = event >= askFirst
    const floor = event - (isAsk ? askFirst : readFirst)
    return { _tag: "Step", event: { _tag: "Read", requestIds: [floor], by: isAsk ? "Leader" : "Round" }, isLate: false }
  }
  if (event >= transferFirst) {
    const to = idOf(event - transferFirst)
    return { _tag: "Step", event: { _tag: "TransferLeadership", requestId: 0, to }, isLate: false }
  }
  if (event >= sentFirst) {
    return { _tag: "Step", event: { _tag: "SnapshotSent", peer: idOf(event - sentFirst) }, isLate: false }
  }
  if (event >= resendFirst) return { _tag: "Resend", to: idOf(event - resendFirst) }
  if (event >= loseFirst) {
    return { _tag: "Step", event: { _tag: "PeerLost", peer: idOf(event - loseFirst) }, isLate: false }
  }
  switch (event) {
    case quorumLost:
      return { _tag: "QuorumLost" }
    case start:
      return { _tag: "Start", how: "as usual" }
    case startLower:
      return { _tag: "Start", how: "lower" }
    case startDamaged:
      return { _tag: "Start", how: "damaged" }
    case transferOver:
      return { _tag: "TransferOver" }
    case snapshotFailed:
      return { _tag: "Step", event: { _tag: "SnapshotFailed" }, isLate: false }
    case propose: {
      const bytes = bytesAt(state?.term ?? 0, (state?.log.lastIndex ?? 0) + 1)
      const proposals = [{ requestId: 0, bytes, sequenced: undefined }]
      return { _tag: "Step", event: { _tag: "Propose", proposals }, isLate: false }
    }
    default:
      // Whoever's election timeout has come has heard of no leader for at least as long as a lease lasts.
      return { _tag: "Step", event: { _tag: "Ticked" }, isLate: state !== undefined && !isLeader(state) }
  }
}
