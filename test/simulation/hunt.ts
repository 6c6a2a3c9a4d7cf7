/**
 * The simulation of the key-value store, seed after seed: what the canaries must not survive.
 */
import * as Simulation from "../../src/testing/Simulation.ts"
import { workload } from "./workload.ts"

export interface Found {
  readonly seed: number
  readonly property: string
  readonly detail: string
}

/** Runs seeds until one breaks a property. */
export const hunt = (
  options: { readonly firstSeed: number; readonly seeds: number }
): { readonly runs: number; readonly found?: Found } => {
  const seeds = Array.from({ length: options.seeds }, (_, i) => options.firstSeed + i)
  const { failure, runs } = Simulation.hunt(workload, { seeds, shrink: false })
  if (failure === undefined) return { runs }
  const { detail, property, seed } = failure
  return { runs, found: { seed, property, detail } }
}
