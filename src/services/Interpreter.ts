/**
 * One function from what the core asks to what is done about it.
 */
import * as Effect from "effect/Effect"
import { type Command, emptyWrite } from "../domain/Command.ts"
import type { Event } from "../domain/Event.ts"
import type { NodeId } from "../domain/NodeId.ts"
import type { Applier } from "./Applier.ts"
import type { Compactor } from "./Compactor.ts"
import type { Persister, Released } from "./Persister.ts"
import type { Requests } from "./Requests.ts"
import type { SnapshotSender } from "./SnapshotSender.ts"
import type { Transport } from "./Transport.ts"

export interface Parts {
  readonly id: NodeId
  readonly transport: Transport["Service"]
  readonly requests: Requests
  readonly applier: Applier
  readonly compactor: Compactor
  readonly sender: SnapshotSender
  readonly offer: (event: Event) => void
}

/** What a durable write releases: messages, a node's own among them, and entries to apply. */
export const release =
  (parts: Pick<Parts, "id" | "transport" | "applier" | "offer">) => (command: Released): Effect.Effect<void> => {
    switch (command._tag) {
      case "Send":
        if (command.to !== parts.id) return parts.transport.send(command.to, command.message)
        return Effect.sync(() => parts.offer({ _tag: "Received", from: parts.id, message: command.message }))
      case "Apply":
        return Effect.sync(() => parts.applier.apply(command.to))
      case "Restore":
        return Effect.sync(() => parts.applier.restore(command.last))
    }
  }

export const interpreter = (parts: Parts, persister: Persister) => (command: Command): Effect.Effect<void> => {
  switch (command._tag) {
    case "Persist":
      return persister.submit(command.write, command.then)
    case "Send":
      return parts.transport.send(command.to, command.message)
    case "Apply":
    case "Restore":
      return persister.submit(emptyWrite, [command])
    case "TakeSnapshot":
    case "Compact":
    case "DiscardSnapshot":
      return Effect.sync(() => parts.compactor.offer(command))
    case "SendSnapshot":
      return parts.sender.start(command.to)
    case "Accept":
      return Effect.sync(() => parts.requests.accept(command.requestIds, command.first))
    case "Refuse":
      return Effect.sync(() => parts.requests.refuse(command.requestIds, command.refusal))
    case "ServeRead":
      return Effect.sync(() => parts.applier.serve(command.requestIds, command.index))
    case "AnnounceRole":
      return announce(parts.id, command)
    default:
      return command satisfies never
  }
}

const announce = (node: NodeId, change: Extract<Command, { _tag: "AnnounceRole" }>): Effect.Effect<void> => {
  const { leaderId, role, term } = change
  const line = role === "Leader"
    ? Effect.logInfo("leads the cluster")
    : leaderId === undefined
    ? Effect.logDebug("knows no leader")
    : Effect.logInfo("follows a leader")
  return line.pipe(Effect.annotateLogs({ node, role, term, leader: leaderId ?? "none" }))
}
