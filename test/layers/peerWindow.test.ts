import { assert, describe, it } from "@effect/vitest"
import { Window } from "../../src/layers/peer/Window.ts"

const limits = { answerIntervalMs: 50, unansweredBatchesMax: 8, unansweredBytesMax: 1000 }

/** Adds batches of so many bytes at the same moment; which of them ask for an answer. */
const asks = (window: Window, sizes: ReadonlyArray<number>, nowMs: number): ReadonlyArray<boolean> =>
  sizes.map((bytes) => window.add(bytes, nowMs))

describe("what is under way to a peer", () => {
  it("asks for an answer at first, then after a while, and for a quarter of what may be unanswered", () => {
    const window = new Window(limits)
    assert.deepStrictEqual(asks(window, [1, 1], 0), [true, false])
    window.answered()
    assert.deepStrictEqual(asks(window, [1], 49), [true])
    window.answered()
    assert.deepStrictEqual(asks(window, [1], 60), [false])
    assert.deepStrictEqual(asks(window, [249], 70), [true])
    window.answered()
    assert.deepStrictEqual(asks(window, [1], 71), [false])
    assert.deepStrictEqual(asks(window, [1], 121), [true])
  })

  it("has room until so many batches, or bytes, are unanswered; an answer speaks for all before it", () => {
    const batches = new Window(limits)
    for (let i = 0; i < 8; i++) {
      assert.isTrue(batches.hasRoom, `batch ${i}`)
      assert.strictEqual(batches.add(1, 0), i === 0)
    }
    assert.isFalse(batches.hasRoom)
    batches.answered()
    assert.isTrue(batches.hasRoom)
    const bytes = new Window(limits)
    asks(bytes, [500, 499], 0)
    assert.isTrue(bytes.hasRoom)
    asks(bytes, [1], 0)
    assert.isFalse(bytes.hasRoom)
  })

  it("never waits for an answer that nobody has asked for", () => {
    const window = new Window(limits)
    asks(window, [1, 5000], 0)
    assert.isFalse(window.hasRoom)
    window.answered()
    // More than may be unanswered is, and no answer is on its way: the next batch asks for one.
    assert.isTrue(window.hasRoom)
    assert.deepStrictEqual(asks(window, [1], 0), [true])
    assert.isFalse(window.hasRoom)
  })
})
