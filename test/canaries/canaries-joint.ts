/**
 * Two majorities (rule M4), and learners (rule M5): bugs that let too few decide, or those who do not count, or that leave a change undone.
 */
import type { Canary } from "./canaries.ts"

const membership = "test/domain/membership.test.ts"
const learners = "test/domain/learners.test.ts"
const quorum = "src/domain/Quorum.ts"
const core = "src/domain/Membership.ts"
const configuration = "src/domain/Configuration.ts"

const reachedFind = "return outgoing.length === 0 ? reached : Math.min(reached, reachedBy(outgoing, valueOf))"
const tallyFind = `  if (outgoing.length === 0 || outcome === "lost") return outcome`
const readyFind = "if (commitIndex < latestIndex || commitIndex < role.termStartIndex) return current"

export const canaries: ReadonlyArray<Canary> = [
  {
    id: "M4a",
    rule: "M4",
    bug: "the new majority commits alone",
    file: quorum,
    find: reachedFind,
    replace: "return reached",
    caughtBy: "simulation",
    property: /^Durability \(rule L6\)/
  },
  {
    id: "M4b",
    rule: "M4",
    bug: "the old majority commits alone",
    file: quorum,
    find: reachedFind,
    replace: "return outgoing.length === 0 ? reached : reachedBy(outgoing, valueOf)",
    caughtBy: "simulation",
    property: /^Durability \(rule L6\)/
  },
  {
    id: "M4c",
    rule: "M4",
    bug: "either majority commits",
    file: quorum,
    find: reachedFind,
    replace: "return outgoing.length === 0 ? reached : Math.max(reached, reachedBy(outgoing, valueOf))",
    caughtBy: "simulation",
    property: /^Durability \(rule L6\)/
  },
  {
    id: "M4d",
    rule: "M4",
    bug: "a majority of old and new voters together commits",
    file: quorum,
    find: reachedFind,
    replace: "return outgoing.length === 0 ? reached : reachedBy([...new Set([...voters, ...outgoing])], valueOf)",
    caughtBy: "simulation",
    property: /^Durability \(rule L6\)/
  },
  {
    id: "M4e",
    rule: "M4",
    bug: "the new voters elect alone",
    file: quorum,
    find: tallyFind,
    replace: "  if (outgoing.length >= 0) return outcome",
    caughtBy: "simulation",
    property: /^(?:an election|a pre-vote) is won with the (?:votes|grants) of a majority/
  },
  {
    id: "M4f",
    rule: "M4",
    bug: "the old voters elect alone",
    file: quorum,
    find: tallyFind,
    replace: "  if (outgoing.length > 0) return tallyOf(outgoing, votes)\n  if (outgoing.length === 0) return outcome",
    caughtBy: "tests",
    tests: [membership],
    property: /the old majority alone elects nobody/
  },
  {
    id: "M4g",
    rule: "M4",
    bug: "either majority elects",
    file: quorum,
    find: tallyFind,
    replace: `  if (outgoing.length === 0 || outcome === "won") return outcome`,
    caughtBy: "simulation",
    property: /^(?:an election|a pre-vote) is won with the (?:votes|grants) of a majority/
  },
  {
    id: "M4h",
    rule: "M4",
    bug: "a joint configuration is left before it is committed",
    file: core,
    find: readyFind,
    replace:
      "if ((commitIndex < latestIndex && !Configuration.isJoint(latest)) || commitIndex < role.termStartIndex) return current",
    caughtBy: "simulation",
    property: /^(?:one change at a time|the configuration changes when what came before)/
  },
  {
    id: "M4i",
    rule: "M4",
    bug: "a new leader leaves a joint configuration before its no-op is committed",
    file: core,
    find: readyFind,
    replace: "if (commitIndex < latestIndex) return current",
    caughtBy: "tests",
    tests: ["test/domain/changes.test.ts"],
    property: /is not left before an entry of the next leader's own term/
  },
  {
    id: "M4j",
    rule: "M4",
    bug: "a joint configuration is not left",
    file: core,
    find: "if (Configuration.isJoint(latest)) {",
    replace: "if (Configuration.isJoint(latest) && latestIndex < 0) {",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "M4k",
    rule: "M4",
    bug: "a joint configuration is left by whoever began it alone",
    file: core,
    find: "if (Configuration.isJoint(latest)) {",
    replace: "if (Configuration.isJoint(latest) && latestIndex >= role.termStartIndex) {",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "M4l",
    rule: "M4",
    bug: "a joint configuration is left for the old voters",
    file: configuration,
    find: "pruned({ ...joint, outgoing: [] })",
    replace: "pruned({ ...joint, voters: joint.outgoing, learners: [], joining: [], outgoing: [] })",
    caughtBy: "simulation",
    property: /^(?:one voter moves at a time, or all jointly|a joint configuration is left for what was asked)/
  },
  {
    id: "M4m",
    rule: "M4",
    bug: "the new majority alone keeps a leader in office",
    file: "src/domain/Replication.ts",
    find: "  Quorum.reachedByQuorum(\n    state.configuration.latest,\n    (id) => id === state.id ? nowMs",
    replace:
      "  Quorum.reachedByQuorum(\n    Configuration.left(state.configuration.latest),\n    (id) => id === state.id ? nowMs",
    caughtBy: "tests",
    tests: ["test/domain/changes.test.ts"],
    property: /a leader that hears the new majority alone gives up/
  },
  {
    id: "M4n",
    rule: "M4",
    bug: "the new majority alone confirms reads",
    file: "src/domain/ReadIndex.ts",
    find: "const confirmed = Quorum.reachedByQuorum(\n    state.configuration.latest,",
    replace: "const confirmed = Quorum.reachedByQuorum(\n    { ...state.configuration.latest, outgoing: [] },",
    caughtBy: "simulation",
    property: /^a read is confirmed by a majority that was asked after it came/
  },
  {
    id: "M4o",
    rule: "M4",
    bug: "nothing is sent to those that only still vote",
    file: configuration,
    find: "[...new Set([...voters, ...outgoing, ...learners])]",
    replace: "[...voters, ...learners]",
    caughtBy: "tests",
    tests: [membership],
    property: /a leader that finds it in its log leaves it/
  },
  {
    id: "M4p",
    rule: "M4",
    bug: "those that only still vote are asked by nobody, since their answers are a stranger's",
    file: "src/domain/Step.ts",
    find:
      "    case \"RequestReadIndexResponse\":\n      return !Configuration.isMember(state.configuration.latest, from)",
    replace:
      "    case \"RequestReadIndexResponse\":\n      return !Configuration.isMember(Configuration.left(state.configuration.latest), from)",
    caughtBy: "simulation",
    property: /^(?:the votes of a majority win an election|Liveness|a higher term is adopted)/
  },
  {
    id: "M5a",
    rule: "M5",
    bug: "the acknowledgements of learners commit",
    file: "src/domain/Replication.ts",
    find: "  const index = Quorum.reachedByQuorum(\n    state.configuration.latest,\n    (id) => state",
    replace: `  const { learners, voters } = state.configuration.latest
  const index = Quorum.reachedByQuorum(
    { ...state.configuration.latest, voters: [...voters, ...learners] },
    (id) => state`,
    caughtBy: "simulation",
    property: /^Durability \(rule L6\)/
  },
  {
    id: "M5p",
    rule: "M5",
    bug: "learners that are heard keep a leader in office",
    file: quorum,
    find: `export const reachedByQuorum = (
  { outgoing, voters }: Configuration,
  valueOf: (id: NodeId) => number
): number => {`,
    replace: `export const reachedByQuorum = (
  { learners, outgoing, voters: only }: Configuration,
  valueOf: (id: NodeId) => number
): number => {
  const voters = [...only, ...learners]`,
    caughtBy: "simulation",
    property: /^(?:a leader gives up once it has heard no majority|a read is confirmed by a majority|Durability)/
  },
  {
    id: "M5b",
    rule: "M5",
    bug: "a learner stands for election",
    file: "src/domain/NodeState.ts",
    find: "if (isSelfVoter(state)) return true",
    replace: "if (Configuration.isMember(state.configuration.latest, state.id)) return true",
    caughtBy: "simulation",
    property: /^who knows that it is removed asks for no votes \(M6\)/
  },
  {
    id: "M5c",
    rule: "M5",
    bug: "whoever is promoted by hand need not have caught up",
    file: core,
    find: "if (progress !== undefined && isClose(state, progress)) continue",
    replace: "if (progress !== undefined) continue",
    caughtBy: "simulation",
    property: /^who becomes a voter has caught up \(M5\)/
  },
  {
    id: "M5d",
    rule: "M5",
    bug: "a learner is promoted as soon as it answers",
    file: core,
    find: "const ready = latest.joining.find((id) => hasCaughtUp(state, id))",
    replace: "const ready = latest.joining.find((id) => state.role.progress.get(id)?.matchIndex !== 0)",
    caughtBy: "simulation",
    property: /^who becomes a voter has caught up \(M5\)/
  },
  {
    id: "M5e",
    rule: "M5",
    bug: "a learner is promoted that kept up for a round and has fallen behind since",
    file: core,
    find: "state.role.catchUps.get(id)?.hasKeptUp === true && isClose(state, progress)",
    replace: "state.role.catchUps.get(id)?.hasKeptUp === true",
    caughtBy: "tests",
    tests: [learners],
    property: /has fallen behind again/
  },
  {
    id: "M5f",
    rule: "M5",
    bug: "a learner is promoted that is close at the end of a round, and was not at its beginning",
    file: core,
    find: "hasKeptUp: wasClose && known.wasClose",
    replace: "hasKeptUp: wasClose",
    caughtBy: "tests",
    tests: [learners],
    property: /if it was not when the round began/
  },
  {
    id: "M5o",
    rule: "M5",
    bug: "only a learner is promoted that has all of the log at an instant: under steady load none ever is",
    file: core,
    find: "state.role.catchUps.get(id)?.hasKeptUp === true && isClose(state, progress)",
    replace: "state.role.catchUps.get(id)?.hasKeptUp === true && progress.matchIndex === state.log.lastIndex",
    caughtBy: "tests",
    tests: [learners],
    property: /though it never has quite everything/
  },
  {
    id: "M5g",
    rule: "M5",
    bug: "however far behind a server is, it is close",
    file: core,
    find: "\n  && missing(state, progress) <= state.settings.promotionLagEntriesMax",
    replace: "",
    caughtBy: "simulation",
    property: /^who becomes a voter has caught up \(M5\)/
  },
  {
    id: "M5h",
    rule: "M5",
    bug: "a server that has nothing is close to a short log",
    file: core,
    find: `progress._tag === "Replicate" && !progress.needsState`,
    replace: "!progress.needsState",
    caughtBy: "simulation",
    property: /^who becomes a voter has caught up \(M5\)/
  },
  {
    id: "M5i",
    rule: "M5",
    bug: "a server without its state is close if its log is",
    file: core,
    find: `progress._tag === "Replicate" && !progress.needsState`,
    replace: `progress._tag === "Replicate"`,
    caughtBy: "tests",
    tests: [learners],
    property: /that has lost its state/
  },
  {
    id: "M5j",
    rule: "M5",
    bug: "learners that are to become voters are not promoted",
    file: core,
    find: "if (ready === undefined) return state",
    replace: "if (ready !== \"\") return state",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "M5k",
    rule: "M5",
    bug: "only the leader that has added a learner promotes it",
    file: core,
    find: "if (latest.joining.length === 0 || notNow(state) !== undefined) return state",
    replace:
      "if (latest.joining.length === 0 || notNow(state) !== undefined || state.configuration.latestIndex < state.role.termStartIndex) return state",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "M5l",
    rule: "M5",
    bug: "every learner is promoted, those that are to stay learners, too",
    file: core,
    find:
      "if (latest.joining.length === 0 || notNow(state) !== undefined) return state\n  const ready = latest.joining.find((id) => hasCaughtUp(state, id))",
    replace: `if (notNow(state) !== undefined) return state
  const ready = latest.learners.find((id) => {
    const progress = state.role.progress.get(id)
    return progress !== undefined && isClose(state, progress)
  })`,
    caughtBy: "simulation",
    property: /^a learner that is to become a voter is promoted, and nobody else \(M5\)/
  },
  {
    id: "M5m",
    rule: "M5",
    bug: "a learner is promoted though too few voters would be left that are heard",
    file: core,
    find: `if (typeof next === "string" || quorumLost(state, next, turn.nowMs) !== undefined) return state`,
    replace: `if (typeof next === "string") return state`,
    caughtBy: "tests",
    tests: [learners],
    property: /is not promoted when so many are silent/
  },
  {
    id: "M5n",
    rule: "M5",
    bug: "nobody hears of a learner that does not catch up",
    file: core,
    find: "if (isDue && progress !== undefined) {",
    replace: "if (isDue && progress === undefined) {",
    caughtBy: "tests",
    tests: [learners],
    property: /reported after a hundred election timeouts|is reported, too/
  }
]
