/**
 * What can happen to a server, each as a number; what can be several follows the first of its kind.
 */
import { isLeader } from "../../src/domain/NodeState.ts"
import { type Action, bytesAt, type Packet, type Server } from "./Server.ts"
import { idOf, type Permutation } from "./Symmetry.ts"

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
/** By peer. */
export const loseFirst = 8
export const resendFirst = 12
export const sentFirst = 16
/** By what is committed. */
export const readFirst = 24
export const askFirst = 32
/** By the last index of the snapshot. */
export const snapshotFirst = 40
/** By how many writes. */
export const flushFirst = 48
/** By message. */
const deliverFirst = 64

export const deliver = (packet: number, isLate: boolean): number => deliverFirst + 2 * packet + (isLate ? 1 : 0)

export const isDelivery = (event: number): boolean => event >= deliverFirst

export const isStart = (event: number): boolean => event >= start && event <= startDamaged

/** The message that arrives; -1 where none does. */
export const packetIn = (event: number): number => isDelivery(event) ? (event - deliverFirst) >> 1 : -1

export const isLate = (event: number): boolean => isDelivery(event) && (event & 1) === 1

/** The event with the servers renamed; what arrives is given its name by `renamePacket`. */
export const renamed = (event: number, permutation: Permutation, renamePacket: (packet: number) => number): number => {
  if (isDelivery(event)) return deliver(renamePacket(packetIn(event)), isLate(event))
  if (event < loseFirst || event >= readFirst) return event
  const first = event < resendFirst ? loseFirst : event < sentFirst ? resendFirst : sentFirst
  return first + (permutation[event - first] ?? 0)
}

const delivery = ({ from, message }: Packet, isLate: boolean): Action => {
  if (message._tag !== "InstallSnapshot") return { _tag: "Step", event: { _tag: "Received", from, message }, isLate }
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
  if (event >= flushFirst) return { _tag: "Flush", count: event - flushFirst }
  if (event >= snapshotFirst) return { _tag: "Snapshot", index: event - snapshotFirst }
  if (event >= readFirst) {
    const isAsk = event >= askFirst
    const floor = event - (isAsk ? askFirst : readFirst)
    return { _tag: "Step", event: { _tag: "Read", requestIds: [floor], by: isAsk ? "Leader" : "Round" }, isLate: false }
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
    case snapshotFailed:
      return { _tag: "Step", event: { _tag: "SnapshotFailed" }, isLate: false }
    case propose: {
      const bytes = bytesAt(state?.term ?? 0, (state?.log.lastIndex ?? 0) + 1)
      return { _tag: "Step", event: { _tag: "Propose", proposals: [{ requestId: 0, bytes }] }, isLate: false }
    }
    default:
      // Whoever's election timeout has come has heard of no leader for at least as long as a lease lasts.
      return { _tag: "Step", event: { _tag: "Ticked" }, isLate: state !== undefined && !isLeader(state) }
  }
}
