/** What a check finds. */
import { Violation } from "../../src/testing/Figure3.ts"

/** The property that `check` finds broken, or that it found nothing. */
export const propertyOf = (check: () => void): string => {
  try {
    check()
  } catch (error) {
    if (error instanceof Violation) return error.property
    throw error
  }
  return "nothing"
}
