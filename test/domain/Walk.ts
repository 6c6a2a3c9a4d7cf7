/**
 * A random walk: what the network, the clocks, the disks, the power and the callers do to a cluster, as a function of a seed.
 */
import type { Change } from "../../src/domain/Configuration.ts"
import { type ReadBy, ticked } from "../../src/domain/Event.ts"
import type { Settings } from "../../src/domain/Settings.ts"
import { nextDeadlineMs } from "../../src/domain/Step.ts"
import { randomBelow } from "./Given.ts"
import { PureCluster } from "./PureCluster.ts"

type Below = (max: number) => number

const pick = <A>(items: ReadonlyArray<A>, below: Below): A | undefined => items[below(items.length)]

/** Any message of the pool, so that the order of delivery is anybody's guess. */
const disturb = (cluster: PureCluster, below: Below): void => {
  const packet = pick(cluster.packets, below)
  if (packet === undefined) return
  const isIt = (other: unknown) => other === packet
  const fate = below(10)
  if (fate === 0) cluster.drop(isIt)
  else if (fate === 1) cluster.hand(packet)
  else cluster.deliverOne(isIt)
}

const network = (cluster: PureCluster, below: Below): void => {
  const [from, to] = [pick(cluster.ids, below), pick(cluster.ids, below)]
  const what = below(5)
  if (from === undefined || to === undefined || from === to || what < 2) cluster.heal()
  else if (what === 2) cluster.cut(from, to)
  else if (what === 3) cluster.cutOneWay(from, to)
  // A deposed leader that does not know of its successor is where stale reads come from.
  else cluster.silence(pick(cluster.leaders(), below) ?? from)
}

const disks = (cluster: PureCluster, id: string, below: Below): void => {
  const what = below(4)
  if (what === 0) cluster.holdDisk(id)
  else if (what === 1) cluster.releaseDisk(id)
  else cluster.flush(id, 1 + below(2))
}

const timePasses = (cluster: PureCluster, below: Below): void => {
  cluster.nowMs += below(below(8) === 0 ? 400 : 40)
  for (const id of cluster.ids) {
    if (cluster.isUp(id) && nextDeadlineMs(cluster.state(id)) <= cluster.nowMs) cluster.step(id, ticked)
  }
}

/**
 * A snapshot begins, ends, is sent once more, or is found damaged by a server that starts: one server at a time, and not where the membership
 * changes. Of two voters the one that lost its state cannot lead, and the other one may lack what is committed.
 */
const snapshots = (cluster: PureCluster, id: string, below: Below, mayDamage: boolean): void => {
  const what = below(8)
  if (what < 3) cluster.captureSnapshot(id)
  else if (what < 6) cluster.saveSnapshot(id)
  else if (what === 6) cluster.sendSnapshotsAgain(id)
  else if (mayDamage && below(4) === 0 && !cluster.ids.some((other) => cluster.isDamaged(other))) {
    cluster.crash(id)
    cluster.damageSnapshot(id)
  }
}

/** Servers that no cluster begins with: added at some time, removed, added again. */
const newcomers = ["n6", "n7"]

const changesOf = (cluster: PureCluster, leader: string, below: Below): ReadonlyArray<Change> => {
  const { learners, voters } = cluster.state(leader).configuration.latest
  const any = pick(cluster.ids, below) ?? leader
  const [learner, voter] = [pick(learners, below) ?? any, pick(voters, below) ?? any]
  switch (below(7)) {
    case 0:
    case 1:
      return [{ _tag: "Add", id: any, address: undefined, becomes: below(3) === 0 ? "Learner" : "Voter" }]
    case 2:
      return [{ _tag: "Promote", id: learner }]
    case 3:
      return [{ _tag: below(2) === 0 ? "Demote" : "Remove", id: voter }]
    case 4:
      return [{ _tag: "Promote", id: learner }, { _tag: "Remove", id: voter }]
    default:
      return [{ _tag: "Demote", id: voter }, { _tag: "Demote", id: pick(voters, below) ?? any }]
  }
}

/** Whoever leads, or believes so, changes the membership or hands over. */
const membership = (cluster: PureCluster, leader: string, below: Below): void => {
  for (const id of newcomers) if (!cluster.ids.includes(id) && below(20) === 0) cluster.add(id)
  if (below(3) === 0) cluster.transfer(leader, below(2) === 0 ? pick(cluster.ids, below) : undefined)
  else cluster.reconfigure(leader, ...changesOf(cluster, leader, below))
}

const ways: ReadonlyArray<ReadBy> = ["Round", "Leader", "Lease"]

const act = (cluster: PureCluster, below: Below, changes: boolean): void => {
  const id = pick(cluster.ids, below)
  if (id === undefined) return
  const action = below(200)
  if (action < 20) return timePasses(cluster, below)
  if (!cluster.isUp(id)) return action < 60 ? cluster.restart(id) : disturb(cluster, below)
  const leader = pick(cluster.leaders(), below) ?? id
  if (action < 21) cluster.crash(id)
  else if (action < 24) network(cluster, below)
  else if (action < 40) disks(cluster, id, below)
  else if (action < 52) cluster.propose(leader, ...Array.from({ length: 1 + below(3) }, (_, i) => `v${i}`))
  else if (action < 60) cluster.read(leader, pick(ways, below))
  else if (action < 64) cluster.read(id, "Leader")
  else if (action < 66) cluster.step(leader, { _tag: "PeerLost", peer: id })
  else if (action < 72) cluster.settle()
  else if (action < 78) snapshots(cluster, below(2) === 0 ? leader : id, below, !changes)
  else if (action < 84 && changes) membership(cluster, leader, below)
  else disturb(cluster, below)
}

/** Safety needs neither pre-vote nor check-quorum nor, without leases, stickiness; a quarter of the walks do without. */
const settingsOf = (seed: number): Partial<Settings> => ({
  ...(seed % 4 === 1 ? { preVote: false, checkQuorum: false, leaderStickiness: false } : { leaseReads: seed % 4 > 1 }),
  ...(seed % 2 === 0 ? { inflightMessagesMax: 2, appendEntriesMax: 2 } : {}),
  logTailEntriesMax: seed % 7 === 0 ? 5000 : seed % 5,
  snapshotEntries: 2 + seed % 11,
  snapshotGrowthPercent: 0
})

export const walk = (seed: number, actions: number): PureCluster => {
  const below = randomBelow(seed)
  const cluster = new PureCluster({
    voters: seed % 3 === 0 ? ["n1", "n2", "n3", "n4", "n5"] : ["n1", "n2", "n3"],
    learners: seed % 5 === 0 ? ["n9"] : [],
    settings: settingsOf(seed),
    seed
  })
  for (let i = 0; i < actions; i++) act(cluster, below, seed % 2 === 1)
  return cluster
}
