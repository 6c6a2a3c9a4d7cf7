/**
 * The membership of a cluster (paper §6). "Configuration" always means membership here; knobs are `Settings`.
 */
import type { NodeId } from "./NodeId.ts"

export interface Configuration {
  /** Servers whose votes and acknowledgements count. Distinct, at least one. */
  readonly voters: ReadonlyArray<NodeId>
  /** Servers that receive the log and never count (thesis §4.2.1). */
  readonly learners: ReadonlyArray<NodeId>
}

/** The configuration of the given voters. Example: `ofVoters(["n1", "n2", "n3"])`. */
export const ofVoters = (voters: ReadonlyArray<NodeId>): Configuration => ({ voters, learners: [] })

export const isVoter = (configuration: Configuration, id: NodeId): boolean => configuration.voters.includes(id)

/** Every server that receives the log: voters first, then learners. */
export const members = (configuration: Configuration): ReadonlyArray<NodeId> =>
  configuration.learners.length === 0 ? configuration.voters : [...configuration.voters, ...configuration.learners]

/** Why this is no configuration, or `undefined` when it is one. */
export const problem = (configuration: Configuration): string | undefined => {
  const all = members(configuration)
  if (configuration.voters.length === 0) return "a cluster needs at least one voter"
  if (new Set(all).size !== all.length) return `a server is named twice: ${all.join(", ")}`
  return undefined
}
