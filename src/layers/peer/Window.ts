/**
 * What is under way to one peer and not known to be heard: how much more may follow, and which batches ask for an answer. The answer to a batch
 * says that all before it were heard as well.
 */
export interface WindowLimits {
  /** An answer is asked for this long after the last time, in milliseconds… */
  readonly answerIntervalMs: number
  /** …and for a quarter of this much. New batches wait while so much is unanswered. */
  readonly unansweredBatchesMax: number
  readonly unansweredBytesMax: number
}

interface Count {
  readonly batches: number
  readonly bytes: number
}

const none: Count = { batches: 0, bytes: 0 }

const plus = (count: Count, bytes: number): Count => ({ batches: count.batches + 1, bytes: count.bytes + bytes })

export class Window {
  readonly #limits: WindowLimits
  #unanswered = none
  /** Since an answer was last asked for. */
  #unasked = none
  #isAsked = false
  #askedMs = -Infinity

  constructor(limits: WindowLimits) {
    this.#limits = limits
  }

  /** Where no answer is awaited there always is: the next batch may ask for one. */
  get hasRoom(): boolean {
    const { unansweredBatchesMax, unansweredBytesMax } = this.#limits
    return !this.#isAsked
      || (this.#unanswered.batches < unansweredBatchesMax && this.#unanswered.bytes < unansweredBytesMax)
  }

  /** A batch leaves. Whether it is to be answered. */
  add(bytes: number, nowMs: number): boolean {
    const { answerIntervalMs, unansweredBatchesMax, unansweredBytesMax } = this.#limits
    this.#unanswered = plus(this.#unanswered, bytes)
    this.#unasked = plus(this.#unasked, bytes)
    const isDue = nowMs - this.#askedMs >= answerIntervalMs || this.#unasked.batches >= unansweredBatchesMax / 4
      || this.#unasked.bytes >= unansweredBytesMax / 4
    if (this.#isAsked || !isDue) return false
    this.#isAsked = true
    this.#askedMs = nowMs
    this.#unasked = none
    return true
  }

  /** The answer that was asked for is here. */
  answered(): void {
    // What has left since it was asked for is what is unanswered now.
    this.#unanswered = this.#unasked
    this.#isAsked = false
  }
}
