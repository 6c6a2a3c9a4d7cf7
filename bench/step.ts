/**
 * The pure core alone: three servers in this process, whose messages, disks and state machines take no time. Proposals per second that are applied
 * at the leader, at a number outstanding.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import type { Command } from "../src/domain/Command.ts"
import { type Configuration, ofVoters } from "../src/domain/Configuration.ts"
import { origin } from "../src/domain/Entry.ts"
import { type Event, ticked } from "../src/domain/Event.ts"
import type { NodeId } from "../src/domain/NodeId.ts"
import * as NodeState from "../src/domain/NodeState.ts"
import type { Settings } from "../src/domain/Settings.ts"
import * as Snapshot from "../src/domain/Snapshot.ts"
import { step } from "../src/domain/Step.ts"
import { settingsWith } from "../test/domain/Given.ts"

const outstandings = [1, 16, 64, 256, 1024]
const valueBytes = 256
const ids = ["n1", "n2", "n3"]
const leaderId = "n1"

interface Waiting {
  readonly id: NodeId
  readonly event: Event
}

/** Servers, and what waits for them, first come first served. */
class Servers {
  readonly #states: Map<NodeId, NodeState.NodeState>
  readonly #configuration: Configuration
  #waiting: Array<Waiting> = []
  /** Of the leader. */
  applied = 0
  steps = 0

  constructor(settings: Settings) {
    this.#configuration = ofVoters(ids)
    this.#states = new Map(ids.map((id, i) => [
      id,
      NodeState.make({
        id,
        settings,
        configuration: this.#configuration,
        hardState: { term: 0, votedFor: undefined },
        snapshot: Snapshot.none(this.#configuration),
        prev: origin,
        entries: [],
        logTimeMs: 0,
        random: i + 1,
        nowMs: 0
      })
    ]))
  }

  offer(id: NodeId, event: Event): void {
    this.#waiting.push({ id, event })
  }

  isLeading(): boolean {
    return this.#states.get(leaderId)?.role._tag === "Leader"
  }

  /** Until nothing waits. */
  run(nowMs: number): void {
    while (this.#waiting.length > 0) {
      const waiting = this.#waiting
      this.#waiting = []
      for (const { event, id } of waiting) {
        const before = this.#states.get(id)
        if (before === undefined) throw new Error(`there is no ${id}`)
        const { commands, state } = step(before, event, nowMs)
        this.#states.set(id, state)
        this.steps++
        for (const command of commands) this.#perform(id, command)
      }
    }
  }

  #perform(id: NodeId, command: Command): void {
    switch (command._tag) {
      case "Send":
        return this.offer(command.to, { _tag: "Received", from: id, message: command.message })
      case "Persist":
        for (const released of command.then) this.#perform(id, released)
        return
      case "Apply":
        if (id === leaderId) this.applied = command.to
        return this.offer(id, { _tag: "Applied", index: command.to, logTimeMs: 0 })
      case "TakeSnapshot": {
        const state = this.#states.get(id)
        if (state === undefined) return
        const last = { term: state.term, index: state.lastApplied }
        return this.offer(id, {
          _tag: "SnapshotTaken",
          snapshot: { last, configuration: this.#configuration, sizeBytes: 1 }
        })
      }
      case "Refuse":
        throw new Error(`refused: ${command.refusal._tag}`)
      default:
    }
  }
}

/** As the driver does: all callers that have been answered ask again, in one batch. */
const measure = (outstanding: number, seconds: number) => {
  const servers = new Servers(settingsWith({}))
  let nowMs = 10_000
  servers.offer(leaderId, ticked)
  servers.run(nowMs)
  if (!servers.isLeading()) throw new Error(`${leaderId} was not elected`)
  const bytes = new Uint8Array(valueBytes)
  const round = (): void => {
    const proposals = Array.from(
      { length: outstanding },
      (_, requestId) => ({ requestId, bytes, sequenced: undefined })
    )
    servers.offer(leaderId, { _tag: "Propose", proposals })
    servers.run(nowMs)
    nowMs += 0.01
  }
  const until = (ms: number): { readonly perSecond: number; readonly steps: number } => {
    const [startMs, applied, steps] = [performance.now(), servers.applied, servers.steps]
    let lastMs = startMs
    while (lastMs - startMs < ms) {
      for (let i = 0; i < 16; i++) round()
      lastMs = performance.now()
    }
    const done = servers.applied - applied
    return { perSecond: 1000 * done / (lastMs - startMs), steps: (servers.steps - steps) / done }
  }
  until(seconds * 500)
  return { outstanding, ...until(seconds * 1000) }
}

export const bench = Effect.fnUntraced(function*({ seconds }: { readonly seconds: number }) {
  yield* Console.log(`the core alone, three servers, ${valueBytes}-byte commands, ${seconds} s a row`)
  yield* Console.log("outstanding   per second   steps per proposal")
  const rows: Array<ReturnType<typeof measure>> = []
  for (const outstanding of outstandings) {
    const row = measure(outstanding, seconds)
    rows.push(row)
    const perSecond = Math.round(row.perSecond).toLocaleString("en").padStart(12)
    yield* Console.log(`${String(outstanding).padStart(11)} ${perSecond} ${row.steps.toFixed(2).padStart(20)}`)
  }
  return { valueBytes, seconds, rows }
})
