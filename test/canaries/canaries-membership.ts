/**
 * Changes of the membership (rules M1 to M6): bugs that split a cluster, let somebody decide who may not, or stall it.
 */
import type { Canary } from "./canaries.ts"

const membership = "test/domain/membership.test.ts"
const configuration = "src/domain/Configuration.ts"
const core = "src/domain/Membership.ts"

export const canaries: ReadonlyArray<Canary> = [
  {
    id: "M1a",
    rule: "M1",
    bug: "a leader changes the configuration before an entry of its own term is committed",
    file: core,
    find: "if (state.commitIndex < state.role.termStartIndex) {\n    return impossible(\"NotReady\"",
    replace: "if (state.commitIndex < 0) {\n    return impossible(\"NotReady\"",
    caughtBy: "simulation",
    property: /^(?:no change before an entry of the leader's own term|the configuration changes when what came before)/
  },
  {
    id: "M1b",
    rule: "M1",
    bug: "the barrier is an entry of any term that was committed lately",
    file: core,
    find: "if (state.commitIndex < state.role.termStartIndex) {\n    return impossible(\"NotReady\"",
    replace: "if (state.commitIndex < state.role.termStartIndex - 1) {\n    return impossible(\"NotReady\"",
    caughtBy: "simulation",
    property: /^(?:no change before an entry of the leader's own term|the configuration changes when what came before)/
  },
  {
    id: "M1c",
    rule: "M1",
    bug: "a new leader believes that its leadership began with its predecessor's last entry",
    file: "src/domain/RoleChange.ts",
    find: "termStartIndex: start.index,",
    replace: "termStartIndex: lastIndex,",
    caughtBy: "simulation",
    property: /^a leadership starts with its no-op/
  },
  {
    id: "M2g",
    rule: "M2",
    bug: "a follower that cuts its log goes on by the configuration that it cut",
    file: "src/domain/Replication.ts",
    find: "Configuration.truncated(state.configuration, lastKept),",
    replace: "state.configuration,",
    caughtBy: "simulation",
    property: /^(?:the configuration is a function|a configuration after the log's start)/
  },
  {
    id: "M2h",
    rule: "M2",
    bug: "a configuration is in force at a follower only when it is committed",
    file: "src/domain/Replication.ts",
    find: "      configurationsIn(turn.appended)\n",
    replace: "      []\n",
    caughtBy: "simulation",
    property: /^(?:the configuration is a function|a configuration is in force on append)/
  },
  {
    id: "M2i",
    rule: "M2",
    bug: "a leader does not go by what it appends",
    file: "src/domain/Pipeline.ts",
    find: "configuration: Configuration.appended(state.configuration, configurations)",
    replace: "configuration: state.configuration",
    caughtBy: "simulation",
    property: /^(?:the configuration is a function|a configuration is in force on append)/
  },
  {
    id: "M2j",
    rule: "M2",
    bug: "what is rolled back to is the configuration that the log begins with",
    file: configuration,
    find: "rest(known).filter(({ index }) => index <= lastIndex)",
    replace: "rest(known).filter(({ index }) => index < 0)",
    caughtBy: "simulation",
    property: /^the configuration is a function of snapshot and log \(M2\)/
  },
  {
    id: "M2k",
    rule: "M2",
    bug: "a compacted log forgets what is in force where it begins",
    file: configuration,
    find: "inForce(at(known, index), rest(known)",
    replace: "inForce(known.along[0], rest(known)",
    caughtBy: "simulation",
    property: /^(?:the configuration is a function|a snapshot has the configuration in force)/
  },
  {
    id: "M2l",
    rule: "M2",
    bug: "a snapshot has the latest configuration, committed or not",
    file: "src/services/Compactor.ts",
    find: "configuration: configurationAt(state(), last.index)",
    replace: "configuration: state().configuration.latest",
    caughtBy: "simulation",
    property: /^a snapshot has the configuration in force \(M2\)/
  },
  {
    id: "M2m",
    rule: "M2",
    bug: "a snapshot has the latest configuration that is committed, though that may be later",
    file: "src/services/Compactor.ts",
    find: "configuration: configurationAt(state(), last.index)",
    replace: "configuration: configurationAt(state(), state().commitIndex)",
    caughtBy: "simulation",
    property: /^a snapshot has the configuration in force \(M2\)/
  },
  {
    id: "M2n",
    rule: "M2",
    bug: "an installed snapshot that keeps the log puts its own configuration in force",
    file: "src/domain/Compaction.ts",
    find: "configuration: keepsLog\n      ? follower.configuration\n      :",
    replace:
      "configuration: keepsLog && last.index === follower.log.lastIndex\n      ? follower.configuration\n      :",
    caughtBy: "simulation",
    property: /^(?:the configuration is a function|it is known which configuration a log begins with)/
  },
  {
    id: "M2o",
    rule: "M2",
    bug: "a server that waits to be added takes entries before it knows what came before them",
    file: "src/domain/Replication.ts",
    find: "if (Configuration.isUnknown(follower.configuration.latest)) {",
    replace: "if (Configuration.isUnknown(follower.configuration.latest) && message.entries.length === 0) {",
    caughtBy: "simulation",
    property: /./
  },
  {
    id: "M3a",
    rule: "M3",
    bug: "a change begins while another one is not committed",
    file: core,
    find: "return isReconfiguring(state)\n    ? impossible",
    replace: "return isReconfiguring(state) && state.commitIndex < 0\n    ? impossible",
    caughtBy: "simulation",
    property: /^(?:one change at a time|the configuration changes when what came before|one voter moves at a time)/
  },
  {
    id: "M3b",
    rule: "M3",
    bug: "a change is taken for done when it is appended",
    file: "src/domain/NodeState.ts",
    find: "configuration.latestIndex > commitIndex || Configuration.isJoint(configuration.latest)",
    replace: "Configuration.isJoint(configuration.latest)",
    caughtBy: "simulation",
    property: /^(?:one change at a time|the configuration changes when what came before)/
  },
  {
    id: "M3c",
    rule: "M3",
    bug: "two voters move at once without two majorities",
    file: core,
    find: "Configuration.votersMoved(latest, next) <= 1",
    replace: "Configuration.votersMoved(latest, next) <= 2",
    caughtBy: "simulation",
    property: /^one voter moves at a time, or all jointly/
  },
  {
    id: "M3d",
    rule: "M3",
    bug: "a voter that takes another's place counts as one move",
    file: configuration,
    find: "  before.voters.filter((id) => !next.voters.includes(id)).length\n  + next",
    replace: "  next",
    caughtBy: "simulation",
    property: /^one voter moves at a time, or all jointly/
  },
  {
    id: "M3e",
    rule: "M3",
    bug: "all voters can be removed",
    file: configuration,
    find: `if (voters.length === 0) return "a cluster needs at least one voter"`,
    replace: "",
    caughtBy: "tests",
    tests: [membership],
    property: /zero voters, strangers and twice the same id are refused/
  },
  {
    id: "M3f",
    rule: "M3",
    bug: "a change that is under way is refused to whoever asks for it again",
    file: configuration,
    find: "return isSame(next, before) ? before : problem(next) ?? next",
    replace: "return problem(next) ?? { ...next }",
    caughtBy: "tests",
    tests: ["test/domain/reconfigure.test.ts"],
    property: /is waited for by both who asked/
  },
  {
    id: "M3g",
    rule: "M3",
    bug: "a server that is a member already is added once more",
    file: configuration,
    find: "learners: isVoter ? before.learners : having(before.learners, id),",
    replace: "learners: having(before.learners, id),",
    caughtBy: "tests",
    tests: [membership],
    property: /what is so already is done, once a majority/
  },
  {
    id: "M3h",
    rule: "M3",
    bug: "a removed learner stays one that is to become a voter",
    file: configuration,
    find: "learners: without(learners, id),\n        joining: without(joining, id)\n      })",
    replace: "learners: without(learners, id)\n      })",
    caughtBy: "tests",
    tests: ["test/domain/learners.test.ts"],
    property: /can be removed before it has caught up/
  },
  {
    id: "M3i",
    rule: "M3",
    bug: "a voter that is demoted is removed",
    file: configuration,
    find: "{ ...before, voters: without(voters, id), learners: [...learners, id] }",
    replace: "pruned({ ...before, voters: without(voters, id) })",
    caughtBy: "simulation",
    property: /^a change is what was asked for \(M3\)/
  },
  {
    id: "M3j",
    rule: "M3",
    bug: "a change that would leave too few voters that are heard is not refused",
    file: core,
    find: "?? notCaughtUp(state, next)\n    ?? quorumLost(state, next, nowMs)",
    replace: "?? notCaughtUp(state, next)",
    caughtBy: "tests",
    tests: [membership],
    property: /removing a server that is up while another is down/
  },
  {
    id: "M3k",
    rule: "M3",
    bug: "an id is given to a second server, at another address",
    file: configuration,
    find: "if (address !== undefined && known !== undefined && known !== address) {",
    replace: "if (address === \"\") {",
    caughtBy: "tests",
    tests: [membership],
    property: /what is so already is done, once a majority/
  },
  {
    id: "M3l",
    rule: "M3",
    bug: "a joint configuration keeps the address of a learner that it removes",
    file: configuration,
    find:
      "  pruned({ ...next, outgoing: before.voters, addresses: new Map([...before.addresses, ...next.addresses]) })",
    replace: "  ({ ...next, outgoing: before.voters, addresses: new Map([...before.addresses, ...next.addresses]) })",
    caughtBy: "tests",
    tests: ["test/domain/quorum.test.ts"],
    property: /that is joint knows where its members are/
  },
  {
    id: "M3m",
    rule: "M3",
    bug: "a new leader takes voters for up that have never answered it",
    file: core,
    find: "return progress.hasAnswered ? \"heard\" : \"unknown\"",
    replace: "return \"heard\"",
    caughtBy: "tests",
    tests: ["test/domain/reconfigure.test.ts"],
    property: /does not take a voter for up that has not answered it/
  },
  {
    id: "M3n",
    rule: "M3",
    bug: "one request names a server twice",
    file: configuration,
    find: "if (twice !== undefined) return `",
    replace: "if (twice === \"\") return `",
    caughtBy: "tests",
    tests: ["test/domain/changes.test.ts", membership],
    property: /changes that undo each other|twice the same id/
  },
  {
    id: "M3o",
    rule: "M3",
    bug: "a configuration is written whatever it takes",
    file: core,
    find: "?? tooLarge(entryOf(latest, next)) ",
    replace: "",
    caughtBy: "tests",
    tests: ["test/domain/reconfigure.test.ts"],
    property: /also if only both configurations together do/
  }
]
