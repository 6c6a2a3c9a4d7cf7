/**
 * Canaries that the model check must notice as well: those of the core's safety that are within one of its small bounds.
 */
import type { Canary } from "./canaries.ts"

/** The canary, the bound that has it, and the property that must report it. */
const within: ReadonlyArray<readonly [id: string, bound: string, property: RegExp]> = [
  ["V1a", "elections", /^RequestVoteResponse waits for the disk \(L6, V1\)/],
  ["V1b", "elections", /^RequestVote waits for the disk \(L6, V1\)/],
  ["V1c", "elections", /^a changed term or vote is written \(V1\)/],
  ["V1d", "crashes", /^one vote a term \(rules V1, V2\)/],
  ["V1e", "elections", /^merged writes leave what the writes would/],
  ["V1f", "elections", /^merged writes leave what the writes would/],
  ["V1g", "disks", /^RequestVoteResponse waits for the disk \(L6, V1\)/],
  ["V2a", "elections", /^the vote is cleared only when the term grows \(V2\)/],
  ["V2b", "pre-vote", /^the vote is cleared only when the term grows \(V2\)/],
  ["V2d", "elections", /^the vote is cleared only when the term grows \(V2\)/],
  ["V3a", "logs", /^Leader Completeness/],
  ["V3b", "figure-8", /^Leader Completeness/],
  ["V3c", "logs", /^Leader Completeness/],
  ["V3e", "elections", /^Leader Completeness/],
  ["V5b", "pre-vote", /^a pre-vote changes nothing at the voter \(rule V5\)/],
  ["V5c", "pre-vote", /^a pre-vote changes nothing at the voter \(rule V5\)/],
  ["V7a", "pre-vote", /^Leader Completeness/],
  ["V7b", "elections", /^its term is durable first \(rule V1\)/],
  ["V7e", "elections", /^(?:Leader Completeness|a commit is on the disks of a majority)/],
  ["L1a", "elections", /^a leader commits its own term's entries \(L1\)/],
  ["L1b", "elections", /^a leader commits its own term's entries \(L1\)/],
  ["L2a", "crashes", /^State Machine Safety/],
  ["L2b", "elections", /^commitIndex <= lastLogIndex/],
  ["L2d", "figure-8", /^State Machine Safety/],
  ["L3a", "crashes", /^a commit is on the disks of a majority \(rule L6\)/],
  ["L3c", "crashes", /^a changed log is written \(L6\)/],
  ["L3d", "elections", /^a commit is on the disks of a majority \(rule L6\)/],
  ["L3e", "figure-8", /^Log Matching/],
  ["L4a", "crashes", /^a commit is on the disks of a majority \(rule L6\)/],
  ["L4c", "crashes", /^a commit is on the disks of a majority \(rule L6\)/],
  ["L6a", "elections", /^AppendEntriesResponse waits for the disk \(L6, V1\)/],
  ["L6b", "elections", /^a commit is on the disks of a majority \(rule L6\)/],
  ["L6e", "crashes", /^AppendEntriesResponse waits for the disk \(L6, V1\)/],
  ["L6f", "crashes", /^AppendEntriesResponse waits for the disk \(L6, V1\)/],
  ["D4b", "elections", /^merged writes leave what the writes would/],
  ["D4c", "elections", /^(?:merged writes leave what the writes would|no promise is broken)/],
  ["R1a", "crashes", /^reads see the own term's no-op \(R1\)/],
  ["R2a", "reads", /^a read sees everything committed before it \(rules R1, R2\)/],
  ["M1a", "removals", /^the configuration changes when what came before is committed/],
  ["M1b", "removals", /^the configuration changes when what came before is committed/],
  ["M2g", "removals", /^(?:the configuration in force is what the log says|a configuration after the log's start)/],
  ["M2h", "removals", /^(?:the configuration in force is what the log says|a configuration is in force on append)/],
  ["M2i", "removals", /^(?:the configuration in force is what the log says|a configuration is in force on append)/],
  ["M2d", "removals-crashes", /^the configuration in force is what the log says/],
  ["M3a", "removals", /^(?:the configuration changes when|one voter moves at a time)/],
  ["M3c", "joint", /^one voter moves at a time, or all jointly/],
  ["M4a", "joint", /^a commit is on the disks of a majority \(rule L6\)/],
  ["M4b", "joint", /^a commit is on the disks of a majority \(rule L6\)/],
  ["M4e", "joint", /^an election is won by the majorities of the configuration in force/],
  ["M4h", "joint", /^the configuration changes when what came before is committed/],
  ["M5a", "learners", /^a commit is on the disks of a majority \(rule L6\)/],
  ["M5b", "learners", /^who was removed neither leads nor stands/],
  ["M6a", "removals", /^a commit is on the disks of a majority \(rule L6\)/],
  ["M6b", "removals", /^(?:who was removed neither leads nor stands|a leader that is no voter steps down)/],
  ["M6e", "removals", /^who was removed neither leads nor stands/],
  ["M7a", "transfers", /^a successor is told by its leader, and has its log/],
  ["M7f", "transfers", /^nothing is proposed while leadership is handed over/],
  ["R2f", "crashes", /^a read sees everything committed before it \(rules R1, R2\)/]
]

/** The canaries of `all` that the model check is to catch, under names of their own. */
export const inModel = (all: ReadonlyArray<Canary>): ReadonlyArray<Canary> =>
  within.flatMap(([name, bound, property]) =>
    all.filter(({ id }) => id === name).map(({ bug, file, find, replace, rule }) => ({
      id: `${name}-model`,
      rule,
      bug,
      file,
      find,
      replace,
      caughtBy: "model",
      bound,
      property
    }))
  )
