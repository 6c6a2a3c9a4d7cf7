/**
 * How a `RaftClient` reaches the nodes of a cluster in memory: the node's name is its URL.
 */
import * as Effect from "effect/Effect"
import type { NodeId } from "../domain/NodeId.ts"
import * as RaftClient from "../services/RaftClient.ts"
import type * as RaftNode from "../services/RaftNode.ts"
import * as SnapshotReport from "../services/SnapshotReport.ts"

/** The nodes of a cluster, those of them that are up. */
export interface Nodes {
  readonly running: () => ReadonlyArray<NodeId>
  readonly node: (id: NodeId) => RaftNode.RaftNode["Service"]
}

const redirected = ({ leader }: RaftNode.NotLeader): RaftClient.Redirected =>
  leader === undefined ? new RaftClient.Redirected({}) : new RaftClient.Redirected({ leader, url: leader })

/** A connection to the node whose name is `url`; `Unreachable` while it is down. */
export const connect = (nodes: Nodes) => (url: string): Effect.Effect<RaftClient.Connection, RaftClient.Unreachable> =>
  Effect.suspend(() => {
    if (!nodes.running().includes(url)) return Effect.fail(new RaftClient.Unreachable({ reason: `${url} is down` }))
    const node = nodes.node(url)
    const reason = "a node in memory has no status of a server"
    return Effect.succeed({
      propose: (command) =>
        Effect.catchTag(node.propose(command), "NotLeader", (error) => Effect.fail(redirected(error))),
      read: (query, consistency) =>
        Effect.catchTag(
          node.read(query, consistency === undefined ? {} : { consistency }),
          "NotLeader",
          (error) => Effect.fail(redirected(error))
        ),
      readStale: (query, minIndex) => node.readStale(query, minIndex === undefined ? {} : { minIndex }),
      status: Effect.fail(new RaftClient.Lost({ reason })),
      takeSnapshot: SnapshotReport.take(node)
    })
  })
