/**
 * The servers that have called this one: who may be heard, and what they say. The handling is synchronous up to delivery, so messages reach the node
 * in the order they were sent. (But for the first after its sender became a member: they wait until its disk is remembered.)
 *
 * Nothing that arrives can do more harm than to its own connection: a server of another cluster is refused with a reason, and a malformed message is
 * dropped by itself.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import { isNodeId, type NodeId } from "../../domain/NodeId.ts"
import { type DiskId, isDiskId } from "../../services/Storage.ts"
import * as MessageCodec from "../MessageCodec.ts"
import * as MessageFrame from "../MessageFrame.ts"
import * as PeerRpc from "../PeerRpc.ts"

/** A caller may claim any name; what is quoted is short and on one line. */
const quote = (text: string): string => JSON.stringify(text.slice(0, 64))

const refuse = (reason: PeerRpc.Refused["reason"], message: string) => new PeerRpc.Refused({ reason, message })

const problemOf = (
  inbox: PeerRpc.PeerInbox["Service"],
  hello: PeerRpc.Greeting
): PeerRpc.Refused | undefined => {
  const { clusterId, from, protocolVersion, to } = hello
  if (protocolVersion !== PeerRpc.protocolVersion) {
    return refuse(
      "ProtocolVersion",
      `${inbox.id} speaks peer protocol ${PeerRpc.protocolVersion} and ${quote(from)} speaks ${protocolVersion}: ` +
        "run the same version of Titan on both"
    )
  }
  if (clusterId !== inbox.clusterId) {
    return refuse(
      "ClusterId",
      `${inbox.id} belongs to cluster ${quote(inbox.clusterId)} and ${quote(from)} to ${quote(clusterId)}: ` +
        "check the addresses, and whose data directory each server uses"
    )
  }
  if (to !== inbox.id) return refuse("Target", `this is ${inbox.id}, not ${quote(to)}: check the addresses of both`)
  if (from === inbox.id) {
    return refuse("Self", `${inbox.id} cannot be called by another server of that name: give every server its own`)
  }
  return isNodeId(from) ? undefined : refuse("Malformed", `${quote(from)} is no name of a server`)
}

const unknownToken = refuse(
  "UnknownToken",
  "this conversation is over: a later one took its place, or the server restarted; " +
    "if it happens again and again, two processes run under one server's name"
)

/** Who a token stands for, on which disk. */
interface Caller {
  readonly from: NodeId
  readonly diskId: DiskId
}

export interface Callers {
  /** Opens a conversation: its token, and what the caller is told. A later one of the same server ends it. */
  readonly greet: (hello: PeerRpc.Greeting) => Effect.Effect<typeof PeerRpc.Hello.successSchema.Type, PeerRpc.Refused>
  /** Somebody has called who is no server, or none that can be understood. */
  readonly strange: (problem: string) => Effect.Effect<void>
  /** Delivers a frame of messages in a conversation; `undefined`: done. */
  readonly hear: (token: string, messages: Uint8Array) => Effect.Effect<void, PeerRpc.Refused> | undefined
}

export const make = (inbox: PeerRpc.PeerInbox["Service"]): Callers => {
  const isNews = PeerRpc.makeLogGate()
  // One conversation per peer, so both maps are bounded by the number of members and of strangers. Oldest first.
  const tokenOf = new Map<NodeId, string>()
  const callers = new Map<string, Caller>()

  const warn = (peer: string, text: string, problem: string) =>
    Effect.flatMap(Clock.currentTimeMillis, (nowMs) =>
      isNews(peer, problem, nowMs)
        ? Effect.annotateLogs(Effect.logWarning(text), { node: inbox.id, peer, problem })
        : Effect.void)

  const end = (peer: NodeId): void => {
    callers.delete(tokenOf.get(peer) ?? "")
    tokenOf.delete(peer)
  }

  const open = (caller: Caller): string => {
    const token = randomUUID()
    end(caller.from)
    tokenOf.set(caller.from, token)
    callers.set(token, caller)
    const strangers = [...tokenOf.keys()].filter(inbox.isStranger)
    for (const oldest of strangers.slice(0, -PeerRpc.strangersMax)) end(oldest)
    return token
  }

  const welcome = Effect.fnUntraced(function*(hello: PeerRpc.Greeting) {
    const problem = problemOf(inbox, hello)
    if (problem !== undefined) return yield* problem
    const { diskId = "", from } = hello
    if (!isDiskId(diskId)) return yield* refuse("Malformed", `${from} did not say which disk it has`)
    const welcome = yield* inbox.greet(hello, diskId)
    return { token: open({ from, diskId }), ...welcome }
  })

  const deliver = (from: NodeId, frame: Uint8Array): Effect.Effect<void> | undefined => {
    const messages = MessageFrame.decode(frame)
    if ("problem" in messages) return warn(from, "dropped malformed messages", messages.problem)
    let problem: string | undefined
    for (const wire of messages) {
      const decoded = MessageCodec.fromWire(wire)
      if ("message" in decoded) inbox.deliver({ _tag: "Received", from, message: decoded.message })
      else problem ??= `${wire._tag}: ${decoded.problem}`
    }
    return problem === undefined ? undefined : warn(from, "dropped a malformed message", problem)
  }

  return {
    greet: (hello) =>
      Effect.tapError(
        welcome(hello),
        ({ message }) => warn(hello.from.slice(0, 64), "refused a server that called", message)
      ),
    strange: (problem) =>
      warn("unknown", "ended a connection that did not begin as a server's does", problem.slice(0, 200)),
    hear: (token, messages) => {
      const caller = callers.get(token)
      if (caller === undefined) return Effect.fail(unknownToken)
      const { diskId, from } = caller
      const first = inbox.beforeHearing(from, diskId)
      if (first === undefined) return deliver(from, messages)
      return Effect.andThen(first, Effect.suspend(() => deliver(from, messages) ?? Effect.void))
    }
  }
}
