/**
 * The turn loop alone, with a core of the test's own.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Command } from "../../src/domain/Command.ts"
import { type Event, ticked } from "../../src/domain/Event.ts"
import type { step } from "../../src/domain/Step.ts"
import { Requests } from "../../src/services/Requests.ts"
import * as TurnLoop from "../../src/services/TurnLoop.ts"
import { node, received } from "../domain/Given.ts"

const heard = received("n2", { _tag: "RequestVoteResponse", term: 1, voteGranted: true })

/** A loop whose steps do nothing but command `commands`, and the events they were given. */
const looping = Effect.fnUntraced(function*(commands: ReadonlyArray<Command>) {
  const seen: Array<Event> = []
  const taking: typeof step = (state, event) => {
    seen.push(event)
    return { state, commands }
  }
  const requests = new Requests({ timeoutMs: 1000, waitingMax: 10 })
  const loop = yield* TurnLoop.make({ initial: node(), step: taking, now: () => 0, requests })
  return { loop, seen }
})

const announce: Command = { _tag: "AnnounceRole", role: "Follower", term: 1, leaderId: undefined }

describe("a turn", () => {
  it.effect("tells the time after what arrived while the process was held up", () =>
    Effect.gen(function*() {
      const { loop, seen } = yield* looping([])
      for (const event of [ticked, heard, { _tag: "Read", requestIds: [1], by: "Round" } as const]) loop.offer(event)
      yield* Effect.forkChild(loop.run(() => Effect.void), { startImmediately: true })
      yield* Effect.yieldNow
      assert.deepEqual(seen.map(({ _tag }) => _tag), ["Received", "Read", "Ticked"])
    }))

  it.effect("ends where the node stops: what was commanded after that is not done", () =>
    Effect.gen(function*() {
      const { loop } = yield* looping([announce, announce])
      let done = 0
      const interpret = () =>
        Effect.sync(() => {
          done++
          loop.close()
        })
      loop.offer(heard)
      yield* Effect.forkChild(loop.run(interpret), { startImmediately: true })
      yield* Effect.yieldNow
      assert.strictEqual(done, 1)
    }))
})
