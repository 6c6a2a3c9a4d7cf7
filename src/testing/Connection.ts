/**
 * How a `RaftClient` reaches the nodes of a cluster in memory: the node's name is its URL.
 */
import * as Effect from "effect/Effect"
import type { NodeId } from "../domain/NodeId.ts"
import { ofNode } from "../services/Connection.ts"
import * as RaftClient from "../services/RaftClient.ts"
import type * as RaftNode from "../services/RaftNode.ts"

/** The nodes of a cluster, those of them that are up. */
export interface Nodes {
  readonly running: () => ReadonlyArray<NodeId>
  readonly node: (id: NodeId) => RaftNode.RaftNode["Service"]
}

/** A connection to the node whose name is `url`; `Unreachable` while it is down. */
export const connect = (nodes: Nodes): RaftClient.Connect => (url) =>
  Effect.suspend(() =>
    nodes.running().includes(url)
      ? Effect.succeed(ofNode(nodes.node(url), (id) => id))
      : Effect.fail(new RaftClient.Unreachable({ reason: `${url} is down` }))
  )
