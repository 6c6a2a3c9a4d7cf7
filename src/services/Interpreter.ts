/**
 * One function from what the core asks to what is done about it.
 */
import * as Effect from "effect/Effect"
import { type Command, emptyWrite } from "../domain/Command.ts"
import * as Configuration from "../domain/Configuration.ts"
import type { LogIndex } from "../domain/Entry.ts"
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
    case "Complete":
      return Effect.sync(() => parts.requests.complete(command.requestId))
    case "HandedOver":
      return Effect.sync(() => parts.requests.handedOver(command.requestId))
    case "ServeRead":
      return Effect.sync(() => parts.applier.serve(command.requestIds, command.index))
    case "AnnounceRole":
      return Effect.andThen(Effect.sync(() => parts.requests.led(command.leaderId)), announce(parts.id, command))
    case "AnnounceConfiguration":
      return Effect.andThen(
        parts.transport.reconfigure(command.configuration, command.committed),
        announceConfiguration(parts.id, command.configuration, command.index, command.wasMember)
      )
    case "ReportLearner": {
      const text =
        "a learner has not caught up and is not promoted: it does not run, or entries come in faster than it takes them"
      const fields = { node: parts.id, learner: command.id, missing: command.missing }
      return Effect.annotateLogs(Effect.logWarning(text), fields)
    }
    default:
      return command satisfies never
  }
}

/** What a server is told that it is no member of. `wasMember`: it may be older than its own addition. */
const notMember = (wasMember: boolean): Effect.Effect<void> =>
  wasMember
    ? Effect.logWarning("this server is no member of the cluster any more: it can be stopped")
    : Effect.logInfo("another configuration is in force, and this server waits to be added to it")

const announceConfiguration = (
  node: NodeId,
  configuration: Configuration.Configuration,
  index: LogIndex,
  wasMember: boolean
): Effect.Effect<void> => {
  const { learners, outgoing, voters } = configuration
  const fields = {
    node,
    index,
    voters: voters.join(","),
    ...(learners.length === 0 ? {} : { learners: learners.join(",") }),
    ...(outgoing.length === 0 ? {} : { outgoing: outgoing.join(",") })
  }
  const line = Configuration.isMember(configuration, node)
    ? Effect.logInfo("another configuration is in force")
    : notMember(wasMember)
  return Effect.annotateLogs(line, fields)
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
