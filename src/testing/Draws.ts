/**
 * Draws from a seed, one after the other: what a test or a simulation decides at random. The same seed gives the same draws.
 */
import * as Random from "../domain/Random.ts"

export class Draws {
  #state: Random.RandomState

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** A whole number in [0, max). */
  below(max: number): number {
    const drawn = Random.nextInt(this.#state, { min: 0, max })
    this.#state = drawn.state
    return drawn.value
  }

  /** A whole number in [min, max]. */
  between(min: number, max: number): number {
    return min + this.below(max - min + 1)
  }

  /** A number in [0, 1). */
  unit(): number {
    return this.below(2 ** 32) / 2 ** 32
  }

  /** True with this probability. */
  happens(probability: number): boolean {
    return this.unit() < probability
  }

  /** One of `items`, which must not be empty. */
  pick<A>(items: readonly [A, ...ReadonlyArray<A>] | ReadonlyArray<A>): A {
    const item = items[this.below(items.length)]
    if (item === undefined) throw new Error("there is nothing to pick from")
    return item
  }

  /** The items in any order. */
  shuffled<A>(items: ReadonlyArray<A>): ReadonlyArray<A> {
    return items.map((item) => ({ item, at: this.unit() })).toSorted((a, b) => a.at - b.at).map(({ item }) => item)
  }

  /** A generator of its own, so that what one part draws does not move what another one draws. */
  fork(): Draws {
    return new Draws(this.below(2 ** 32))
  }
}
