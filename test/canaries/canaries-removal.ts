/**
 * Servers that are removed (rule M6): bugs that let them decide, lead or disturb, or that keep them from knowing.
 */
import type { Canary } from "./canaries.ts"

const membership = "test/domain/membership.test.ts"
const core = "src/domain/Membership.ts"

export const canaries: ReadonlyArray<Canary> = [
  {
    id: "M6a",
    rule: "M6",
    bug: "a leader that removes itself counts its own copy",
    file: "src/domain/Replication.ts",
    find: "  const index = Quorum.reachedByQuorum(\n    state.configuration.latest,\n    (id) => state",
    replace: `  const { latest: only } = state.configuration
  const latest = only.voters.includes(state.id) ? only : { ...only, voters: [...only.voters, state.id] }
  const index = Quorum.reachedByQuorum(
    latest,
    (id) => state`,
    caughtBy: "simulation",
    property: /^Durability \(rule L6\)/
  },
  {
    id: "M6b",
    rule: "M6",
    bug: "a leader that is removed goes on leading",
    file: core,
    find: "if (!latest.voters.includes(done.id)) return retire(done, turn)",
    replace: "",
    caughtBy: "simulation",
    property: /^a leader that (?:is removed|is no voter) steps down/
  },
  {
    id: "M6c",
    rule: "M6",
    bug: "a leader that is demoted goes on leading, since it is a member",
    file: core,
    find: "if (!latest.voters.includes(done.id)) return retire(done, turn)",
    replace: "if (!Configuration.isMember(latest, done.id)) return retire(done, turn)",
    caughtBy: "simulation",
    property: /^a leader that (?:is removed|is no voter) steps down/
  },
  {
    id: "M6d",
    rule: "M6",
    bug: "a leader that removes itself steps down before that is committed",
    file: core,
    find: "return append(asked, entryOf(latest, next), turn)",
    replace: `const changed = append(asked, entryOf(latest, next), turn)
  return next.voters.includes(state.id) ? changed : becomeFollower(changed, undefined, turn)`,
    caughtBy: "tests",
    tests: [membership],
    property: /steps down when the change is committed/
  },
  {
    id: "M6e",
    rule: "M6",
    bug: "a server that knows it is removed stands for election",
    file: "src/domain/NodeState.ts",
    find: "if (isSelfVoter(state)) return true",
    replace: "if (state.term >= 0) return true",
    caughtBy: "simulation",
    property: /^who knows that it is removed asks for no votes \(M6\)/
  },
  {
    id: "M6f",
    rule: "M6",
    bug: "a server stands that was a voter in any configuration it remembers",
    file: "src/domain/NodeState.ts",
    find: "    index >= known && Configuration.isVoter(configuration, state.id)",
    replace: "    index >= 0 * known && Configuration.isVoter(configuration, state.id)",
    caughtBy: "simulation",
    property: /^who knows that it is removed asks for no votes \(M6\)/
  },
  {
    id: "M6g",
    rule: "M6",
    bug: "a server that alone holds the entry which removes it does not stand: nobody can lead",
    file: "src/domain/NodeState.ts",
    find: "    index >= known && Configuration.isVoter(configuration, state.id)",
    replace: "    index > known && Configuration.isVoter(configuration, state.id)",
    caughtBy: "tests",
    tests: [membership],
    property: /may still be elected, completes the change and steps down/
  },
  {
    id: "M6h",
    rule: "M6",
    bug: "a removed leader leaves without telling anybody to take over",
    file: core,
    find: "becomeFollower(Transfer.tellBest(state, turn), undefined, turn)",
    replace: "becomeFollower(state, undefined, turn)",
    caughtBy: "tests",
    tests: [membership],
    property: /the best voter takes over/
  },
  {
    id: "M6i",
    rule: "M6",
    bug: "a removed server is not sent the entry that removes it",
    file: "src/domain/Pipeline.ts",
    find: "  [...state.role.progress.keys()].filter((id) => id !== state.id)",
    replace:
      "  [...state.role.progress.keys()].filter((id) => id !== state.id && Configuration.isMember(state.configuration.latest, id))",
    caughtBy: "tests",
    tests: [membership],
    property: /hears of it, does not stand for election any more/
  },
  {
    id: "M6j",
    rule: "M6",
    bug: "a removed server is not told that its removal is committed",
    file: core,
    find: "  Pipeline.sendCommitIndex(state, from, turn)\n",
    replace: "",
    caughtBy: "tests",
    tests: [membership],
    property: /hears of it, does not stand for election any more/
  },
  {
    id: "M6k",
    rule: "M6",
    bug: "a removed server that has heard is sent to for ever",
    file: core,
    find: "  return dropped(state, [from])",
    replace: "  return state",
    caughtBy: "tests",
    tests: [membership],
    property: /hears of it, does not stand for election any more/
  },
  {
    id: "M6l",
    rule: "M6",
    bug: "a removed server that is silent is waited for for ever",
    file: core,
    find: "  return dropped(state, lost.map(([id]) => id))",
    replace: "  return lost.length < 0 ? dropped(state, []) : state",
    caughtBy: "tests",
    tests: [membership],
    property: /and does not hear of it asks for pre-votes in vain/
  },
  {
    id: "M6m",
    rule: "M6",
    bug: "an answer of a stranger with a later term deposes a leader",
    file: "src/domain/Step.ts",
    find: "if (!isBelievable(state, message.term) || isForeignAnswer(state, from, message)) return state",
    replace: "if (!isBelievable(state, message.term)) return state",
    caughtBy: "simulation",
    property: /^an answer of a stranger changes nothing \(V7, M6\)/
  },
  {
    id: "M6n",
    rule: "M6",
    bug: "a removed server's vote request topples those who hear a leader",
    file: "src/domain/Step.ts",
    find: "if (isUnwanted && Election.believesInLeader(state, turn.nowMs)) return state",
    replace:
      "if (isUnwanted && Election.believesInLeader(state, turn.nowMs) && Configuration.isMember(state.configuration.latest, from)) return state",
    caughtBy: "simulation",
    property: /^who hears a leader helps nobody to replace it \(V8\)/
  },
  {
    id: "M6o",
    rule: "M6",
    bug: "a member that is added is not sent to",
    file: "src/domain/Pipeline.ts",
    find: "  if (newcomers.length === 0) return state",
    replace: "  if (newcomers.length >= 0) return state",
    caughtBy: "simulation",
    property: /^every member has a progress/
  },
  {
    id: "M6p",
    rule: "M6",
    bug: "a leader that removes itself takes commands to the end, and never says what became of the last ones",
    file: "src/domain/Proposing.ts",
    find: "role.transfer !== undefined || !(isJoint(latest) || latest.voters.includes(id))",
    replace: "role.transfer !== undefined || (isJoint(latest) && id === \"\")",
    caughtBy: "tests",
    tests: ["test/domain/reconfigure.test.ts"],
    property: /takes nothing more once the configuration without it is written/
  }
]
