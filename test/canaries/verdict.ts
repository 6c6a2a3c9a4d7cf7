/**
 * What a canary's run is worth: caught by the check that should catch it, or anything else.
 */
import type { Canary, Check } from "./canaries.ts"
import type { Finding, Report } from "./hunt.ts"

export type Outcome =
  | { readonly _tag: "Reported"; readonly report: Report }
  /** The child ended without a report: the check itself broke, so it proves nothing. */
  | { readonly _tag: "Crashed"; readonly detail: string }
  | { readonly _tag: "TimedOut"; readonly afterMs: number }
  | { readonly _tag: "Stale"; readonly occurrences: number }

export interface Verdict {
  readonly isCaught: boolean
  /** What was found, or why the canary is not caught. */
  readonly found: string
  /** How much it took, where that was counted. */
  readonly needed: string
}

/** Not the words of a check but of a program that fell over what the bug left behind, or of a watch that ran out. */
const fault = /\b(?:TypeError|ReferenceError|SyntaxError|RangeError)\b|\btimed out\b|^cannot be loaded/

export const isFault = (finding: Finding): boolean => fault.test(finding.detail) || fault.test(finding.property)

const units = { simulation: "seeds", model: "states" } as const

const neededBy = (check: Check, { findings, runs }: Report): string =>
  check.caughtBy === "tests"
    ? `${findings.length} of ${runs} tests`
    : `${runs.toLocaleString("en")} ${units[check.caughtBy]}`

const textOf = ({ detail, property }: Finding): string => detail === "" ? property : `${property} (${detail})`

const survived = (found: string, needed = ""): Verdict => ({ isCaught: false, found, needed })

const judge = (canary: Canary, report: Report): Verdict => {
  const needed = neededBy(canary, report)
  if (!report.isLoaded) return survived(`never in place: the check does not load ${canary.file}`, needed)
  const [first] = report.findings
  if (first === undefined) return survived(`SURVIVED: nothing notices`, needed)
  const meant = report.findings.find((finding) => canary.property.test(finding.property) && !isFault(finding))
  if (meant !== undefined) return { isCaught: true, found: meant.property, needed }
  return survived(`found by the wrong check, not by ${String(canary.property)}: ${textOf(first)}`, needed)
}

export const verdict = (canary: Canary, outcome: Outcome): Verdict => {
  switch (outcome._tag) {
    case "Reported":
      return judge(canary, outcome.report)
    case "Crashed":
      return survived(`the check broke: ${outcome.detail}`)
    case "TimedOut":
      return survived(`the check did not end within ${outcome.afterMs / 1000} s`)
    case "Stale":
      return survived(`stale: ${canary.file} has its text ${outcome.occurrences} times`)
    default:
      return outcome satisfies never
  }
}

/** What is wrong with a run without any bug; `undefined` when it is clean, as it must be. */
export const problemOf = (outcome: Outcome): string | undefined => {
  if (outcome._tag === "Crashed") return `the check broke: ${outcome.detail}`
  if (outcome._tag === "TimedOut") return `the check did not end within ${outcome.afterMs / 1000} s`
  if (outcome._tag === "Stale") return undefined
  const { findings, runs } = outcome.report
  const [first] = findings
  return first !== undefined ? textOf(first) : runs === 0 ? "nothing was run" : undefined
}
