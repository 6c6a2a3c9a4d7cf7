/**
 * What a check throws.
 */

/** A property that does not hold. */
export class Violation extends Error {
  override readonly name = "Violation"
  readonly property: string
  constructor(property: string, detail: string) {
    super(`${property}: ${detail}`)
    this.property = property
  }
}

/** Throws `Violation` where a property does not hold. */
export const demand = (holds: boolean, property: string, detail: () => string): void => {
  if (!holds) throw new Violation(property, detail())
}
