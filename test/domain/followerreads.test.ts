/** Linearizable reads from a server that does not lead (thesis §6.4), with rules R1 and R2. */
import { assert, describe, it } from "@effect/vitest"
import { isEmptyWrite } from "../../src/domain/Command.ts"
import { type Event, ticked } from "../../src/domain/Event.ts"
import type { RequestReadIndex } from "../../src/domain/Message.ts"
import type { NodeState } from "../../src/domain/NodeState.ts"
import { after, answersTo, entriesOf, node, type Outcome, received, stepped } from "./Given.ts"
import { type Packet, PureCluster, type Reply } from "./PureCluster.ts"

const leading = (voters: ReadonlyArray<string> = ["n1", "n2", "n3"], learners: ReadonlyArray<string> = []) => {
  const cluster = new PureCluster({ voters, learners })
  cluster.elect("n1")
  cluster.run(60)
  return cluster
}

const served = (index: number): Reply => ({ _tag: "Served", index })

const refused = (leaderId: string | undefined): Reply => ({ _tag: "Refused", refusal: { _tag: "NotLeader", leaderId } })

const isQuestion = ({ message }: Packet): boolean => message._tag === "RequestReadIndex"
const isAnswer = ({ message }: Packet): boolean => message._tag === "RequestReadIndexResponse"

const questions = (cluster: PureCluster) => cluster.packets.filter(isQuestion).map(({ from, to }) => `${from}>${to}`)

describe("thesis §6.4: a read of a server that does not lead", () => {
  it("is confirmed by the leader, and served by this server once it has applied as much", () => {
    const cluster = leading()
    cluster.propose("n1", "a", "b")
    cluster.settle()
    const read = cluster.read("n3", "Leader")
    assert.deepEqual(questions(cluster), ["n3>n1"])
    cluster.settle()
    assert.deepEqual(cluster.replies.get(read), served(3))
    assert.deepEqual(cluster.records.filter(({ command }) => command._tag === "ServeRead").map(({ node }) => node), [
      "n3"
    ])
  })

  it("on the leader is a read like any other", () => {
    const cluster = leading()
    const read = cluster.read("n1", "Leader")
    assert.deepEqual(questions(cluster), [])
    cluster.settle()
    assert.deepEqual(cluster.replies.get(read), served(1))
  })

  it("on a learner is served too", () => {
    const cluster = leading(["n1", "n2", "n3"], ["n4"])
    const read = cluster.read("n4", "Leader")
    cluster.settle()
    assert.deepEqual(cluster.replies.get(read), served(1))
  })

  it("that came while a question was under way waits for the next, and one question serves all that waited", () => {
    const cluster = leading()
    const first = cluster.read("n3", "Leader")
    const others = Array.from({ length: 20 }, () => cluster.read("n3", "Leader"))
    assert.deepEqual(questions(cluster), ["n3>n1"])
    cluster.settle((packet) => !isAnswer(packet))
    cluster.deliverOne(isAnswer)
    assert.deepEqual(cluster.replies.get(first), served(1))
    for (const read of others) {
      assert.isUndefined(cluster.replies.get(read), "it may be older than what that answer saw")
    }
    assert.deepEqual(questions(cluster), ["n3>n1"])
    cluster.settle()
    for (const read of others) assert.deepEqual(cluster.replies.get(read), served(1))
    assert.deepEqual([cluster.state("n3").askedReads.asked, cluster.state("n3").askedReads.waiting], [[], []])
  })

  it("whose question or answer was lost is asked again by the third heartbeat", () => {
    for (const lost of [isQuestion, isAnswer]) {
      const cluster = leading()
      const reads = [cluster.read("n3", "Leader"), cluster.read("n3", "Leader")]
      cluster.settle((packet) => !lost(packet))
      assert.isNotEmpty(cluster.drop(lost))
      cluster.run(3 * cluster.settings.heartbeatIntervalMs)
      for (const read of reads) assert.deepEqual(cluster.replies.get(read), served(1))
    }
  })

  it("is not asked again while an answer may still come", () => {
    const cluster = leading()
    cluster.read("n3", "Leader")
    const { heartbeatIntervalMs } = cluster.settings
    cluster.run(2 * heartbeatIntervalMs - 1, (packet) => !isQuestion(packet))
    assert.lengthOf(questions(cluster), 1)
    cluster.run(heartbeatIntervalMs, (packet) => !isQuestion(packet))
    assert.lengthOf(questions(cluster), 2)
  })

  it("is refused where the leader is heard and never answers, after two election timeouts; the next one asks anew", () => {
    const cluster = leading()
    const { electionTimeoutMsMax, heartbeatIntervalMs } = cluster.settings
    const lose = (packet: Packet): boolean => !isQuestion(packet)
    const reads = [cluster.read("n3", "Leader"), cluster.read("n3", "Leader")]
    cluster.run(2 * electionTimeoutMsMax - 1, lose)
    for (const read of reads) assert.isUndefined(cluster.replies.get(read))
    cluster.run(heartbeatIntervalMs, lose)
    for (const read of reads) assert.deepEqual(cluster.replies.get(read), refused("n1"))
    cluster.drop(isQuestion)
    const later = cluster.read("n3", "Leader")
    cluster.settle()
    assert.deepEqual(cluster.replies.get(later), served(1))
  })

  it("is refused where no leader is known", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"] })
    assert.deepEqual(cluster.replies.get(cluster.read("n1", "Leader")), refused(undefined))
    cluster.timeout("n1")
    assert.strictEqual(cluster.state("n1").role._tag, "PreCandidate")
    assert.deepEqual(cluster.replies.get(cluster.read("n1", "Leader")), refused(undefined))
    assert.deepEqual(questions(cluster), [])
  })

  it("is refused where the server that was asked does not lead, and so are those that waited", () => {
    const cluster = leading()
    cluster.isolate("n1")
    const reads = [cluster.read("n3", "Leader"), cluster.read("n3", "Leader")]
    cluster.heal()
    cluster.step("n1", ticked)
    cluster.nowMs += 1000
    cluster.step("n1", ticked)
    assert.strictEqual(cluster.state("n1").role._tag, "Follower")
    cluster.step(
      "n3",
      received("n1", { _tag: "RequestReadIndexResponse", term: 1, ask: askOf(cluster), readIndex: undefined })
    )
    assert.deepEqual(cluster.replies.get(reads[0] ?? 0), refused(undefined))
    cluster.settle(({ from, to }) => [from, to].every((id) => id !== "n2"))
    assert.deepEqual(cluster.replies.get(reads[1] ?? 0), refused(undefined))
  })

  it("is refused once another server leads, or the term changes, or the leader is given up: each read once", () => {
    const changes: Readonly<Record<string, (cluster: PureCluster) => void>> = {
      "another server leads": (cluster) => {
        cluster.elect("n2")
        cluster.settle()
      },
      "a higher term": (cluster) =>
        cluster.step("n3", received("n2", { _tag: "RequestVoteResponse", term: 9, voteGranted: false })),
      "the leader is silent": (cluster) => cluster.timeout("n3"),
      "it leads itself": (cluster) => cluster.elect("n3")
    }
    for (const [what, change] of Object.entries(changes)) {
      const cluster = leading()
      cluster.isolate("n1")
      const reads = [cluster.read("n3", "Leader"), cluster.read("n3", "Leader")]
      change(cluster)
      for (const read of reads) assert.strictEqual(cluster.replies.get(read)?._tag, "Refused", what)
      assert.deepEqual([cluster.state("n3").askedReads.asked, cluster.state("n3").askedReads.waiting], [[], []], what)
    }
  })

  it("that was refused says who leads now, where that is known", () => {
    const cluster = leading()
    cluster.isolate("n1")
    const read = cluster.read("n3", "Leader")
    cluster.elect("n2")
    cluster.settle()
    assert.oneOf(
      JSON.stringify(cluster.replies.get(read)),
      [refused("n2"), refused(undefined)].map((it) => JSON.stringify(it))
    )
    const later = cluster.read("n3", "Leader")
    cluster.settle()
    assert.deepEqual(cluster.replies.get(later), served(2))
  })
})

const askOf = (cluster: PureCluster): number => cluster.state("n3").askedReads.ask

/** `n3` of three, which follows `n1` in term 1, with one entry committed. */
const following = (): NodeState =>
  stepped(
    node({ id: "n3", term: 1, terms: [1] }),
    received("n1", {
      _tag: "AppendEntries",
      term: 1,
      prev: { term: 1, index: 1 },
      entries: [],
      leaderCommit: 1,
      round: 0
    }),
    1000
  ).state

const read = (...requestIds: ReadonlyArray<number>): Event => ({ _tag: "Read", requestIds, by: "Leader" })

const answer = (ask: number, readIndex: number | undefined, from = "n1", term = 1): Event =>
  received(from, { _tag: "RequestReadIndexResponse", term, ask, readIndex })

const servedBy = ({ commands }: Outcome): ReadonlyArray<number> =>
  commands.flatMap((command) => command._tag === "ServeRead" ? command.requestIds : [])

describe("rule R2: what an answer confirms", () => {
  const asked = stepped(following(), read(1), 1000).state
  const { ask } = asked.askedReads

  it("the reads that came before its question was sent, and no later ones", () => {
    const later = stepped(asked, read(2), 1000).state
    const outcome = stepped(later, answer(ask, 5), 1000)
    assert.deepEqual(servedBy(outcome), [1])
    assert.deepEqual(answersTo(outcome, "n1"), [{ _tag: "RequestReadIndex", term: 1, ask: ask + 1 }])
    assert.deepEqual(
      servedBy(stepped(outcome.state, answer(ask, 5), 1000)),
      [],
      "an answer repeated confirms nothing more"
    )
    assert.deepEqual(servedBy(stepped(outcome.state, answer(ask + 1, 6), 1000)), [2])
  })

  it("also those of earlier questions, whose own answers were lost", () => {
    const heartbeat = received("n1", {
      _tag: "AppendEntries",
      term: 1,
      prev: { term: 1, index: 1 },
      entries: [],
      leaderCommit: 1,
      round: 0
    })
    const waiting = stepped(asked, read(2, 3), 1000).state
    const again = stepped(waiting, heartbeat, 1100).state
    assert.deepEqual(again.askedReads.asked.map((one) => [one.ask - ask, one.requestIds]), [[0, [1]], [1, [2, 3]]])
    assert.deepEqual(servedBy(stepped(again, answer(ask, 5), 1100)), [1])
    assert.deepEqual(servedBy(stepped(again, answer(ask + 1, 5), 1100)), [1, 2, 3])
  })

  it("nothing, where it answers a question of an earlier life of this server", () => {
    for (const other of [ask - 1, ask + 1, ask - 2 ** 30, ask + 2 ** 30]) {
      assert.deepEqual(servedBy(stepped(asked, answer(other, 5), 1000)), [])
    }
  })

  it("nothing, where it comes from another server, of another term, or from a stranger", () => {
    for (const event of [answer(ask, 5, "n2"), answer(ask, 5, "n9"), answer(ask, 5, "n1", 0)]) {
      assert.deepEqual(servedBy(stepped(asked, event, 1000)), [])
    }
    assert.deepEqual(servedBy(stepped(asked, answer(ask, 5, "n1", 2), 1000)), [])
    assert.deepEqual(servedBy(after(asked, [answer(ask, 5, "n2", 2), answer(ask, 5)], 1000)), [], "the term has passed")
  })

  it("two lives of a server do not ask with the same numbers", () => {
    const asks = new Set(Array.from({ length: 500 }, (_, seed) => Math.floor(node({ seed }).askedReads.ask / 2 ** 20)))
    assert.strictEqual(asks.size, 500)
    for (const base of asks) assert.isTrue(Number.isSafeInteger((base + 1) * 2 ** 20))
  })

  it("a late answer to an earlier life confirms no read, in a cluster", () => {
    for (const seed of [1, 2, 3, 4, 5, 6]) {
      const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], seed })
      cluster.elect("n1")
      cluster.run(60)
      cluster.read("n3", "Leader")
      cluster.settle((packet) => !isAnswer(packet))
      const [late] = cluster.drop(isAnswer)
      cluster.crash("n3")
      cluster.restart("n3")
      cluster.propose("n1", "newer")
      cluster.run(100)
      const fresh = cluster.read("n3", "Leader")
      if (late !== undefined) cluster.hand(late)
      assert.isUndefined(cluster.replies.get(fresh))
      cluster.settle()
      assert.deepEqual(cluster.replies.get(fresh), served(2))
    }
  })
})

describe("the leader's side of a question", () => {
  const question = (ask: number, term = 1): RequestReadIndex => ({ _tag: "RequestReadIndex", term, ask })

  it("rule R2: it is answered by a round that was sent after the question came, not by an earlier one", () => {
    const cluster = leading()
    cluster.timeout("n1")
    cluster.settle(({ message }) => message._tag === "AppendEntries")
    const late = cluster.drop()
    cluster.step("n1", received("n3", question(7)))
    const round = cluster.drop(({ message }) => message._tag === "AppendEntries")
    for (const packet of late) cluster.hand(packet)
    assert.isEmpty(cluster.packets.filter(isAnswer))
    for (const packet of round) cluster.hand(packet)
    cluster.settle((packet) => !isAnswer(packet))
    assert.deepEqual(cluster.packets.map(({ message, to }) => [to, message]), [
      ["n3", { _tag: "RequestReadIndexResponse", term: 1, ask: 7, readIndex: 1 }]
    ])
  })

  it("rule R2: one that came while a round was under way waits for the next", () => {
    const cluster = leading()
    cluster.read("n1")
    cluster.step("n1", received("n3", question(7)))
    cluster.settle(({ message }) => message._tag === "AppendEntries")
    cluster.deliverOne(({ message }) => message._tag === "AppendEntriesResponse")
    assert.isEmpty(cluster.packets.filter(isAnswer))
    cluster.settle((packet) => !isAnswer(packet))
    assert.lengthOf(cluster.packets.filter(isAnswer), 1)
  })

  it("one round serves the questions of all servers, and the leader's own reads", () => {
    const cluster = leading(["n1", "n2", "n3", "n4", "n5"])
    const first = cluster.read("n1")
    const own = cluster.read("n1")
    const others = ["n2", "n3", "n4", "n5"].map((id) => cluster.read(id, "Leader"))
    cluster.settle(isQuestion)
    const { round } = cluster.leaderState("n1").role
    cluster.settle()
    assert.strictEqual(cluster.leaderState("n1").role.round, round + 1)
    for (const id of [first, own, ...others]) assert.deepEqual(cluster.replies.get(id), served(1))
  })

  it("rule R1: before its own term's no-op is committed, it answers with the no-op's index", () => {
    const disk = { hardState: { term: 1, votedFor: undefined }, entries: entriesOf([1, 1, 1]) }
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], disks: { n1: disk, n2: disk, n3: disk } })
    cluster.nowMs += 1000
    cluster.timeout("n1")
    cluster.settle(({ message }) => message._tag !== "AppendEntriesResponse")
    assert.strictEqual(cluster.state("n1").commitIndex, 0)
    const id = cluster.read("n3", "Leader")
    cluster.settle()
    assert.deepEqual(cluster.replies.get(id), served(4))
  })

  it("a minority confirms none, and a leader that steps down tells whoever asked, whether it had begun or not", () => {
    const cluster = leading(["n1", "n2", "n3", "n4", "n5"])
    for (const id of ["n4", "n5"]) cluster.isolate(id)
    const reads = ["n2", "n3"].map((id) => cluster.read(id, "Leader"))
    cluster.settle((packet) => isQuestion(packet) || packet.to === "n2" || packet.from === "n2")
    cluster.drop()
    for (const id of reads) assert.isUndefined(cluster.replies.get(id))
    const { pendingReads, waitingAsks } = cluster.leaderState("n1").role
    assert.deepEqual(
      [pendingReads.flatMap(({ asks }) => asks), waitingAsks].map((asks) => asks.map(({ from }) => from)),
      [
        ["n2"],
        ["n3"]
      ]
    )
    cluster.step("n1", received("n4", { _tag: "RequestVoteResponse", term: 9, voteGranted: false }))
    assert.deepEqual(cluster.packets.map(({ to }) => to), ["n2", "n3"])
    cluster.settle()
    for (const id of reads) assert.deepEqual(cluster.replies.get(id), refused(undefined))
  })

  it("a server that does not lead answers so, in an older term too, and a leader of a later term confirms no earlier one", () => {
    const none = { _tag: "RequestReadIndexResponse", term: 1, ask: 7, readIndex: undefined } as const
    assert.deepEqual(answersTo(stepped(following(), received("n2", question(7)), 1000), "n2"), [none])
    assert.deepEqual(answersTo(stepped(following(), received("n2", question(7, 0)), 1000), "n2"), [none])
    const cluster = leading()
    cluster.isolate("n3")
    const id = cluster.read("n3", "Leader")
    cluster.step("n1", received("n2", { _tag: "RequestVoteResponse", term: 2, voteGranted: false }))
    assert.strictEqual(cluster.elect("n1").term, 3)
    cluster.heal()
    cluster.step("n1", received("n3", question(askOf(cluster))))
    cluster.settle()
    assert.strictEqual(cluster.replies.get(id)?._tag, "Refused")
  })
})

describe("thesis §6.4: reads of every kind leave the log alone", () => {
  it("no entry is appended, nothing is written and no term is raised", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], settings: { leaseReads: true } })
    cluster.elect("n1")
    cluster.run(60)
    const from = cluster.records.length
    const ids = (["Round", "Lease", "Leader"] as const).flatMap((by) =>
      cluster.ids.flatMap((id) => [cluster.read(id, by), cluster.read(id, by)])
    )
    cluster.settle()
    for (const id of ids) assert.isDefined(cluster.replies.get(id))
    assert.deepEqual(cluster.ids.map((id) => [cluster.state(id).log.lastIndex, cluster.state(id).term]), [
      [1, 1],
      [1, 1],
      [1, 1]
    ])
    for (const { command } of cluster.records.slice(from)) {
      if (command._tag === "Persist") assert.isTrue(isEmptyWrite(command.write))
    }
  })
})
