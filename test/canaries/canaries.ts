/**
 * Canaries: each puts one bug back that a real implementation had or could have, by a substitution in one source file as it is loaded; some
 * check must notice. A check that notices nothing when a rule is gone guards nothing.
 *
 * `npm run canaries` runs them all; `substitute.ts` puts them in place, `hunt.ts` runs the check, `main.ts` judges.
 */
import { canaries as answers } from "./canaries-answers.ts"
import { canaries as compaction } from "./canaries-compaction.ts"
import { canaries as connections } from "./canaries-connections.ts"
import { canaries as damage } from "./canaries-damage.ts"
import { canaries as driver } from "./canaries-driver.ts"
import { canaries as expiry } from "./canaries-expiry.ts"
import { canaries as joint } from "./canaries-joint.ts"
import { canaries as leadership } from "./canaries-leadership.ts"
import { canaries as leases } from "./canaries-leases.ts"
import { canaries as log } from "./canaries-log.ts"
import { canaries as membership } from "./canaries-membership.ts"
import { inModel } from "./canaries-model.ts"
import { canaries as progress } from "./canaries-progress.ts"
import { canaries as reads } from "./canaries-reads.ts"
import { canaries as removal } from "./canaries-removal.ts"
import { canaries as sessions } from "./canaries-sessions.ts"
import { canaries as snapshots } from "./canaries-snapshots.ts"
import { canaries as timers } from "./canaries-timers.ts"
import { canaries as transfer } from "./canaries-transfer.ts"
import { canaries as votes } from "./canaries-votes.ts"

/** How many seeds a canary has to be found in. */
export const seedsMax = 500

interface Substitution {
  readonly id: string
  /** Of the table in docs/GLOSSARY.md; D1 to D5 and the loops' own promises are those of `canaries-driver.ts` and `canaries-connections.ts`. */
  readonly rule: string
  /** What is broken, as a claim. */
  readonly bug: string
  readonly file: string
  /** Occurs exactly once in `file`. */
  readonly find: string
  readonly replace: string
}

/** The check that must notice, and what it must say: `property` matches the name of what it found. */
export type Check =
  /** Seeded runs of the real driver. */
  | { readonly caughtBy: "simulation"; readonly property: RegExp }
  /** Breadth-first search of a small cluster within a named bound. */
  | { readonly caughtBy: "model"; readonly property: RegExp; readonly bound: string }
  /** Directed tests, for what no search can call wrong: costs, defaults, errors. `property` matches the title of one that fails. */
  | { readonly caughtBy: "tests"; readonly property: RegExp; readonly tests: ReadonlyArray<string> }

export type Canary = Substitution & Check

const single: ReadonlyArray<Canary> = [
  ...votes,
  ...answers,
  ...timers,
  ...log,
  ...progress,
  ...compaction,
  ...connections,
  ...damage,
  ...reads,
  ...leases,
  ...driver,
  ...snapshots,
  ...transfer,
  ...membership,
  ...joint,
  ...removal,
  ...leadership,
  ...sessions,
  ...expiry
]

export const canaries: ReadonlyArray<Canary> = [...single, ...inModel(single)]

/** Not a bug: a run that calls it caught is worth nothing. Only by name is it part of one. */
export const innocent: Canary = {
  id: "innocent",
  rule: "none",
  bug: "none: a comment",
  file: "src/domain/Quorum.ts",
  find: "let granted = 0",
  replace: "let granted = 0 // Nothing is broken.",
  caughtBy: "tests",
  tests: ["test/domain/quorum.test.ts"],
  property: /./
}

export const byId = (id: string): Canary | undefined => [...canaries, innocent].find((canary) => canary.id === id)
