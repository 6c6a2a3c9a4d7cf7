/**
 * Changes of the membership as tests ask for them, of n1, which leads.
 */
import type * as Configuration from "../../src/domain/Configuration.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import { PureCluster } from "./PureCluster.ts"
import type { Reply } from "./Servers.ts"

export const add = (id: NodeId, becomes: "Voter" | "Learner" = "Voter"): Configuration.Change => ({
  _tag: "Add",
  id,
  address: `http://${id}`,
  becomes
})
export const remove = (id: NodeId): Configuration.Change => ({ _tag: "Remove", id })
export const promote = (id: NodeId): Configuration.Change => ({ _tag: "Promote", id })
export const demote = (id: NodeId): Configuration.Change => ({ _tag: "Demote", id })

/** `n1` leads `size` servers, and has committed its no-op. */
export const leading = (size = 3, settings = {}) => {
  const voters = Array.from({ length: size }, (_, i) => `n${i + 1}`)
  const cluster = new PureCluster({ voters, settings })
  cluster.elect("n1")
  cluster.run(100)
  return cluster
}

/** `n1` leads three; `n4` and `n5` are learners that have everything. */
export const leadingWithLearners = (settings = {}): PureCluster => {
  const cluster = leading(3, settings)
  for (const id of ["n4", "n5"]) {
    cluster.add(id)
    cluster.reconfigure("n1", add(id, "Learner"))
    cluster.run(500)
  }
  return cluster
}

/** Both take the places of two voters, which only both majorities can do. */
export const swap = [promote("n4"), promote("n5"), remove("n2"), remove("n3")]

export const configurationOf = (cluster: PureCluster, id: NodeId = "n1") => cluster.state(id).configuration.latest

export const votersOf = (cluster: PureCluster, id: NodeId = "n1") => configurationOf(cluster, id).voters

export const refusal = (reply: Reply | undefined): string =>
  reply?._tag !== "Refused"
    ? reply?._tag ?? "waits"
    : "reason" in reply.refusal
    ? reply.refusal.reason
    : reply.refusal._tag

/** What becomes of `changes` that n1 is asked for: why they are refused, or that they wait, or are done. */
export const ask = (cluster: PureCluster, ...changes: ReadonlyArray<Configuration.Change>): string => {
  const request = cluster.reconfigure("n1", ...changes)
  return refusal(cluster.replies.get(request))
}
