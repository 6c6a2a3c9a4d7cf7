import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { nothingSaved, Sessions } from "../../src/domain/Session.ts"
import * as SessionContent from "../../src/services/SessionContent.ts"

/** So many sessions with so many answers each. */
const table = (count: number, answers: number, bytes: number): Sessions => {
  const sessions = new Sessions()
  for (let i = 1; i <= count; i++) {
    sessions.open(2 ** 40 + i, { _tag: "OpenSession", timeMs: i, sessionsMax: count, timeoutMs: 1_000_000 })
    for (let sequence = 1; sequence <= answers; sequence++) {
      const admitted = sessions.admit({ session: 2 ** 40 + i, sequence, firstUnanswered: 1 }, i)
      if (admitted._tag === "Execute") sessions.keep(admitted.answer, new Uint8Array(bytes).fill(i + sequence))
    }
  }
  return sessions
}

const machine = Uint8Array.from({ length: 300 }, (_, i) => i)

const bytesOf = (content: Stream.Stream<Uint8Array>) =>
  Effect.map(Stream.runCollect(content), (all) => Buffer.concat(all))

/** Reads what comes in pieces of `size` bytes; gives the sessions and what the state machine got. */
const read = (bytes: Uint8Array, size: number) =>
  Effect.gen(function*() {
    const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
      bytes.subarray(i * size, (i + 1) * size))
    let rest = Buffer.alloc(0)
    const saved = yield* SessionContent.read(Stream.fromIterable(pieces), (content) =>
      Effect.map(bytesOf(content), (all) => {
        rest = all
      }))
    return { saved, rest }
  })

describe("sessions in a snapshot", () => {
  for (const [count, answers, bytes] of [[0, 0, 0], [1, 0, 0], [3, 2, 5], [40, 30, 100]] as const) {
    it.effect(`are those that were there, ${count} of them, and the state machine gets what it wrote, in pieces of any size`, () =>
      Effect.gen(function*() {
        const sessions = table(count, answers, bytes)
        const content = yield* bytesOf(SessionContent.write(sessions.capture(), Stream.succeed(machine)))
        for (const size of [1, 7, 1000, content.length]) {
          const { rest, saved } = yield* read(content, size)
          assert.deepStrictEqual(saved, sessions.save())
          assert.deepStrictEqual([...rest], [...machine])
        }
      }))
  }

  it.effect("leave in pieces, so that a large table holds nobody up", () =>
    Effect.gen(function*() {
      const sessions = table(20, 10, 20_000)
      const pieces = yield* Stream.runCollect(SessionContent.write(sessions.capture(), Stream.empty))
      assert.isAbove(pieces.length, 10)
      for (const { length } of pieces) assert.isAtMost(length, (64 << 10) + 10 * 20_100)
    }))

  it.effect("are as they were when captured, though commands go on while they are written", () =>
    Effect.gen(function*() {
      const sessions = table(5, 5, 10)
      const content = SessionContent.write(sessions.capture(), Stream.succeed(machine))
      const before = sessions.save()
      for (const { id } of before.sessions) sessions.admit({ session: id, sequence: 9, firstUnanswered: 8 }, 10)
      assert.deepStrictEqual((yield* read(yield* bytesOf(content), 100)).saved, before)
    }))

  it.effect("are there also for a state machine that reads nothing of what it restores", () =>
    Effect.gen(function*() {
      const sessions = table(3, 2, 5)
      const content = yield* bytesOf(SessionContent.write(sessions.capture(), Stream.empty))
      assert.deepStrictEqual(yield* SessionContent.read(Stream.succeed(content), () => Effect.void), sessions.save())
    }))

  it.effect("that end too early, or are of another format, are a defect that says so", () =>
    Effect.gen(function*() {
      const content = yield* bytesOf(SessionContent.write(table(3, 2, 5).capture(), Stream.empty))
      for (const end of [0, 1, 16, 20, content.length - 1]) {
        const exit = yield* Effect.exit(read(content.subarray(0, end), 1000))
        assert.include(String(exit), "the snapshot ends within its sessions")
      }
      content[0] = 9
      assert.include(String(yield* Effect.exit(read(content, 1000))), "format 9")
      assert.deepStrictEqual(nothingSaved.sessions, [])
    }))
})
