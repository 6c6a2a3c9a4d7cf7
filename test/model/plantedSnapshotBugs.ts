/**
 * Cores whose snapshots, or whose followers' reads, are broken on purpose.
 */
import type { Command, Install } from "../../src/domain/Command.ts"
import * as Log from "../../src/domain/Log.ts"
import { configurationAt, isLeader, make, type NodeState } from "../../src/domain/NodeState.ts"
import type { Snapshot } from "../../src/domain/Snapshot.ts"
import { step } from "../../src/domain/Step.ts"
import { after, type Core, early, hearing } from "./planting.ts"

const logIsCompactedPastItsSnapshot = after((_, event, { commands, state }) => {
  const index = state.commitIndex
  if (event._tag !== "SnapshotTaken" || index <= state.log.prev.index) return { commands, state }
  const log = Log.compact(state.log, index)
  const configuration = configurationAt(state, index)
  const others = commands.filter((command) => command._tag !== "Compact")
  return {
    state: { ...state, log },
    commands: [...others, { _tag: "Compact", start: { prev: log.prev, configuration } }]
  }
})

const withInstall = (commands: ReadonlyArray<Command>, change: (install: Install) => Install): ReadonlyArray<Command> =>
  commands.map((command) =>
    command._tag === "Persist" && command.write.install !== undefined
      ? { ...command, write: { ...command.write, install: change(command.write.install) } }
      : command
  )

const conflictingLogStays = after((before, event, { commands, state }) => {
  const isLonger = event._tag === "SnapshotReceived" && before.log.lastIndex >= event.snapshot.last.index
  if (!isLonger || before.snapshot === state.snapshot) return { commands, state }
  return {
    state: { ...state, log: before.log },
    commands: withInstall(commands, (install) => ({ ...install, keepsLog: true }))
  }
})

const everyLogGivesWay = after((_, event, { commands, state }) => {
  const isInstalled = commands.some((command) => command._tag === "Restore")
  if (event._tag !== "SnapshotReceived" || !isInstalled) return { commands, state }
  return {
    state: { ...state, log: Log.empty(event.snapshot.last) },
    commands: withInstall(commands, (install) => ({ ...install, keepsLog: false }))
  }
})

const received = (change: (before: NodeState, snapshot: Snapshot, term: number) => Snapshot): Core => ({
  step: (before, event, nowMs) =>
    step(
      before,
      event._tag === "SnapshotReceived"
        ? { ...event, snapshot: change(before, event.snapshot, event.term) }
        : event,
      nowMs
    )
})

const olderSnapshotIsInstalled: Core = {
  step: (before, event, nowMs) => {
    const isOlder = event._tag === "SnapshotReceived" && event.snapshot.last.index < before.commitIndex
    return step(isOlder ? { ...before, commitIndex: event.snapshot.last.index - 1 } : before, event, nowMs)
  }
}

const everySnapshotThatIsNotInstalledIsDiscarded = after((before, event, { commands, state }) => {
  const isInstalled = commands.some((command) => command._tag === "Restore")
  if (event._tag !== "SnapshotReceived" || isInstalled || event.term < before.term) return { commands, state }
  return { state, commands: [...commands, { _tag: "DiscardSnapshot", last: event.snapshot.last }] }
})

const lostStateIsNotAskedFor = hearing((_, message) =>
  message._tag === "AppendEntriesResponse" && message.result._tag === "NeedsSnapshot"
    ? { ...message, result: { _tag: "Stale" } }
    : message
)

const questionWithoutOwnEntry = after((_, event, { commands, state }) => {
  if (event._tag !== "Received" || event.message._tag !== "RequestReadIndex" || !isLeader(state)) {
    return { commands, state }
  }
  const pendingReads = state.role.pendingReads.map((read) => ({ ...read, readIndex: state.commitIndex }))
  const lax: NodeState = { ...state, role: { ...state.role, pendingReads } }
  return { state: lax, commands }
})

const answerToAnEarlierLifeCounts = hearing((before, message) =>
  message._tag === "RequestReadIndexResponse"
    ? { ...message, ask: Math.min(message.ask, before.askedReads.ask) }
    : message
)

export const snapshotBugs = {
  "a log is compacted past its snapshot": logIsCompactedPastItsSnapshot,
  "a log that went another way stays": conflictingLogStays,
  "a log that holds more gives way": everyLogGivesWay,
  "a snapshot older than what is committed is installed": olderSnapshotIsInstalled,
  "an install is acknowledged before it is durable": early((_, { install }) => install !== undefined),
  "a snapshot ends in the term of its sender": received((_, snapshot, term) => ({
    ...snapshot,
    last: { term, index: snapshot.last.index }
  })),
  "a snapshot that waits to be installed is discarded": everySnapshotThatIsNotInstalledIsDiscarded,
  "a state that was lost is asked for by nobody": lostStateIsNotAskedFor,
  "a server goes on as if its state were not lost": {
    start: (options: Parameters<typeof make>[0]) =>
      options.snapshot.last.index >= options.prev.index
        ? make(options)
        : make({ ...options, snapshot: { ...options.snapshot, last: options.prev } })
  },
  "a question does not wait for an entry of the own term": questionWithoutOwnEntry,
  "an answer to an earlier life confirms reads": answerToAnEarlierLifeCounts,
  "every life asks the same questions": {
    start: (options: Parameters<typeof make>[0]) => make({ ...options, random: 1 })
  }
} as const satisfies Record<string, Core>
