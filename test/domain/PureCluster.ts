/**
 * A cluster of real `NodeState`s in one thread, without Effect: the test is the network, the clock and the disks.
 * Every step of every server is checked by `checkState`, `checkStep` and `Figure3`.
 *
 * ```ts
 * const cluster = new PureCluster({ voters: ["n1", "n2", "n3"] })
 * cluster.elect("n1")
 * cluster.propose("n1", "a")
 * cluster.settle()
 * ```
 */
import { isSnapshotWanted } from "../../src/domain/Compaction.ts"
import { members } from "../../src/domain/Configuration.ts"
import { ticked } from "../../src/domain/Event.ts"
import * as Log from "../../src/domain/Log.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import type * as NodeState from "../../src/domain/NodeState.ts"
import { none } from "../../src/domain/Snapshot.ts"
import { nextDeadlineMs } from "../../src/domain/Step.ts"
import type { InstallSnapshot, PeerMessage } from "../../src/services/Transport.ts"
import { Violation } from "../../src/testing/Figure3.ts"
import { Servers } from "./Servers.ts"

export type { Observed, Reply } from "./Servers.ts"

export interface Packet {
  readonly from: NodeId
  readonly to: NodeId
  readonly message: PeerMessage
}

export type Where = (packet: Packet) => boolean

export class PureCluster extends Servers {
  packets: Array<Packet> = []
  private readonly cuts = new Set<string>()

  // ---- network

  protected override post(from: NodeId, to: NodeId, message: PeerMessage): void {
    this.watch(() => this.figure3.sawMessage(from, to, message))
    if (!this.cuts.has(`${from}>${to}`)) this.packets.push({ from, to, message })
  }

  /** Messages from `from` to `to` are lost until `heal`, those under way too. */
  cutOneWay(from: NodeId, to: NodeId): void {
    this.cuts.add(`${from}>${to}`)
    this.drop((packet) => packet.from === from && packet.to === to)
  }

  cut(a: NodeId, b: NodeId): void {
    this.cutOneWay(a, b)
    this.cutOneWay(b, a)
  }

  isolate(id: NodeId): void {
    for (const other of this.ids) if (other !== id) this.cut(id, other)
  }

  /** Nothing more comes or goes, but what is under way still arrives, however late. */
  silence(id: NodeId): void {
    for (const other of this.ids) this.cuts.add(`${id}>${other}`).add(`${other}>${id}`)
  }

  heal(): void {
    this.cuts.clear()
  }

  drop(where: Where = () => true): ReadonlyArray<Packet> {
    const dropped = this.packets.filter(where)
    this.packets = this.packets.filter((packet) => !where(packet))
    return dropped
  }

  /** Hands over a message, whether it is still in the pool or a copy of an earlier one. */
  hand({ from, message, to }: Packet): void {
    if (!this.isUp(to)) return
    if (message._tag === "InstallSnapshotResponse") return
    if (message._tag !== "InstallSnapshot") return this.step(to, { _tag: "Received", from, message })
    this.step(to, { _tag: "SnapshotPieceReceived", from, term: message.term })
    if (this.isUp(to)) this.receiveSnapshot(to, from, message)
  }

  /** Delivers the oldest message that matches; false when there is none. */
  deliverOne(where: Where = () => true): boolean {
    const at = this.packets.findIndex(where)
    const [packet] = at < 0 ? [] : this.packets.splice(at, 1)
    if (packet === undefined) return false
    this.hand(packet)
    return true
  }

  /** Delivers in order of sending until nothing that matches is left. Says how many messages that took. */
  settle(where: Where = () => true): number {
    for (let count = 0; count < 100_000; count++) if (!this.deliverOne(where)) return count
    throw new Violation("Liveness", "messages never end")
  }

  // ---- snapshots

  /** Of what is applied: durable at once. */
  takeSnapshot(id: NodeId): void {
    this.captureSnapshot(id)
    this.saveSnapshot(id)
  }

  /** What the disk of a server that is down has of a snapshot is damaged. */
  damageSnapshot(id: NodeId): void {
    const { disk } = this.server(id)
    disk.snapshot = none(disk.configuration)
  }

  isDamaged(id: NodeId): boolean {
    return this.disk(id).prev.index > this.disk(id).snapshot.last.index
  }

  /** A snapshot has come in whole. */
  receiveSnapshot(id: NodeId, from: NodeId, { snapshot, term }: Pick<InstallSnapshot, "snapshot" | "term">): void {
    this.disk(id).received.set(snapshot.last.index, snapshot)
    this.step(id, { _tag: "SnapshotReceived", from, term, snapshot })
    const sender = this.isUp(from) ? this.state(from) : undefined
    if (sender?.role._tag === "Leader" && sender.role.progress.get(id)?.needsState === true) {
      this.step(from, { _tag: "SnapshotSent", peer: id })
    }
  }

  // ---- time

  /** Ticks only `id`, at its deadline or later. */
  timeout(id: NodeId): void {
    this.nowMs = Math.max(this.nowMs, nextDeadlineMs(this.state(id)))
    this.step(id, ticked)
  }

  /** Makes `id` the leader: nobody believes in another one any more, and only `id` runs for it. */
  elect(id: NodeId): NodeState.LeaderState {
    this.nowMs += this.settings.electionTimeoutMsMax
    this.step(id, ticked)
    this.settle()
    return this.leaderState(id)
  }

  /** Lets `ms` pass: everybody acts at its deadline, and messages arrive at once. */
  run(ms: number, where: Where = () => true): void {
    const end = this.nowMs + ms
    for (;;) {
      this.settle(where)
      const due = this.ids.filter((id) => this.isUp(id)).map((id) => nextDeadlineMs(this.state(id)))
      const next = Math.max(this.nowMs, Math.min(...due))
      if (next > end || due.length === 0) break
      this.nowMs = next
      for (const id of this.ids) {
        if (this.isUp(id) && nextDeadlineMs(this.state(id)) <= this.nowMs) {
          this.step(id, ticked)
          this.sendSnapshotsAgain(id)
        }
        this.endSnapshots(id)
      }
    }
    this.nowMs = end
  }

  /** Those that are being written, and those that were asked for. */
  private endSnapshots(id: NodeId): void {
    if (!this.isUp(id)) return
    this.saveSnapshot(id)
    if (this.server(id).isAskedForSnapshot) this.takeSnapshot(id)
  }

  /** As the driver does until the core no longer wants it. */
  sendSnapshotsAgain(id: NodeId): void {
    const state = this.isUp(id) ? this.state(id) : undefined
    if (state?.role._tag !== "Leader") return
    for (const peer of state.role.progress.keys()) if (isSnapshotWanted(state, peer)) this.sendSnapshot(id, peer)
  }

  /** The cluster is whole again: within `ms` one server leads, and all logs and state machines are equal. */
  converge(ms = 20_000): NodeId {
    this.heal()
    for (const id of this.ids) {
      if (this.isUp(id)) this.releaseDisk(id)
      else this.restart(id)
    }
    for (let left = ms; left > 0; left -= 100) {
      this.run(100)
      const leader = this.agreed()
      if (leader !== undefined) return leader
    }
    throw new Violation("Liveness", `after ${ms} ms without faults the servers do not agree`)
  }

  private agreed(): NodeId | undefined {
    const [leader, ...others] = this.leaders()
    if (leader === undefined || others.length > 0) return undefined
    const last = Log.lastId(this.state(leader).log)
    const equal = members(this.state(leader).configuration.latest).every((id) =>
      Log.matches(this.state(id).log, last) && this.state(id).log.lastIndex === last.index
      && this.server(id).appliedIndex === last.index
    )
    return equal ? leader : undefined
  }
}
