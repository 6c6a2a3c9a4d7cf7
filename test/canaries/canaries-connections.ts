/** Connections: between servers (`PeerSocket.ts`, `peer/Callers.ts`), and a client's (`ClientLane.ts`). */
import type { Canary } from "./canaries.ts"

export const canaries: ReadonlyArray<Canary> = [
  {
    id: "W2a",
    rule: "connection",
    bug: "a conversation that a later one has replaced is heard",
    file: "src/layers/peer/Callers.ts",
    find: "    callers.delete(tokenOf.get(peer) ?? \"\")\n",
    replace: "",
    caughtBy: "tests",
    tests: ["test/layers/TransportSocket.test.ts"],
    property: /ends with the next hello of the same server/
  },
  {
    id: "W2b",
    rule: "connection",
    bug: "a caller waits for good for an answer that does not come",
    file: "src/layers/PeerSocket.ts",
    find: "if (hearing.isAwaited) return yield* Effect.fail(\"ping timeout\")",
    replace: "if (hearing.isAwaited) { yield* Effect.sleep(1000); continue }",
    caughtBy: "tests",
    tests: ["test/layers/TransportSocket.test.ts"],
    property: /on which nothing is answered any more is over/
  },
  {
    id: "W2c",
    rule: "connection",
    bug: "a caller is not asked whether it is there",
    file: "src/layers/PeerSocket.ts",
    find: "yield* Effect.forkScoped(Effect.ignore(ask()), { startImmediately: true })",
    replace: "yield* Effect.sleep(1000)",
    caughtBy: "tests",
    tests: ["test/layers/TransportSocket.test.ts"],
    property: /is asked whether it stands/
  },
  {
    id: "W2d",
    rule: "connection",
    bug: "what has not left is kept for a peer that takes nothing",
    file: "src/layers/PeerSocket.ts",
    find: "  yield* Effect.addFinalizer(() => Effect.ignore(writer.write(new Socket.CloseEvent(1000))))\n",
    replace: "",
    caughtBy: "tests",
    tests: ["test/layers/TransportSocket.test.ts"],
    property: /takes no more bytes is over/
  },
  {
    id: "W2e",
    rule: "connection",
    bug: "whoever has not said who it is may send as much as any server",
    file: "src/layers/PeerSocket.ts",
    find: "framed(socket, PeerFrames.introductionBytesMax)",
    replace: "framed(socket, WebSocketRoute.frameBytesMax)",
    caughtBy: "tests",
    tests: ["test/layers/TransportSocket.test.ts"],
    property: /says nothing longer than an introduction/
  },
  {
    id: "W3a",
    rule: "callers",
    bug: "batches that were answered count as under way: the next one never goes",
    file: "src/services/ClientLane.ts",
    find: "    this.#underWay -= batch.items.length\n",
    replace: "",
    caughtBy: "tests",
    tests: ["test/layers/RaftClientReads.test.ts"],
    property: /a read's consistency reaches the node/
  }
]
