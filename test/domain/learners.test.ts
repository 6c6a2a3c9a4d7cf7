import { assert, describe, it } from "@effect/vitest"
import type { NodeId } from "../../src/domain/NodeId.ts"
import type { PeerMessage } from "../../src/services/Transport.ts"
import { add, ask, configurationOf, leading, promote, remove, votersOf } from "./Changes.ts"

const isMatched = (message: PeerMessage): boolean =>
  message._tag === "AppendEntriesResponse" && message.result._tag === "Matched"

describe("thesis §4.2.1, rule M5: a new server", () => {
  it("joins as a learner from a snapshot, catches up, and becomes a voter by itself", () => {
    const cluster = leading()
    cluster.propose("n1", "a", "b", "c")
    cluster.settle()
    cluster.add("n4")
    cluster.reconfigure("n1", add("n4"))
    assert.deepEqual(configurationOf(cluster).learners, ["n4"])
    cluster.run(1000)
    assert.deepEqual(votersOf(cluster), ["n1", "n2", "n3", "n4"])
    assert.deepEqual(votersOf(cluster, "n4"), ["n1", "n2", "n3", "n4"])
    assert.strictEqual(configurationOf(cluster).addresses.get("n4"), "http://n4")
    assert.strictEqual(cluster.state("n4").lastApplied, cluster.state("n1").lastApplied)
  })

  it("stays a learner where that is asked for, until it is promoted by hand", () => {
    const cluster = leading()
    cluster.add("n4")
    cluster.reconfigure("n1", add("n4", "Learner"))
    cluster.run(2000)
    assert.deepEqual(configurationOf(cluster).learners, ["n4"])
    assert.strictEqual(ask(cluster, promote("n4")), "waits")
    cluster.settle()
    assert.include(votersOf(cluster), "n4")
  })

  it("is not promoted before it has caught up, by itself or by hand", () => {
    const cluster = leading(3, { promotionLagEntriesMax: 2 })
    cluster.propose("n1", ...Array.from({ length: 10 }, (_, i) => `${i}`))
    cluster.settle()
    cluster.add("n4")
    cluster.reconfigure("n1", add("n4"))
    cluster.settle(({ to }) => to !== "n4")
    assert.strictEqual(ask(cluster, promote("n4")), "NotCaughtUp")
    for (let i = 0; i < 10; i++) cluster.run(100, ({ to }) => to !== "n4")
    assert.deepEqual(configurationOf(cluster).learners, ["n4"])
    cluster.run(1000)
    assert.include(votersOf(cluster), "n4")
  })

  it("is not promoted while it has nothing, however short the log is", () => {
    const cluster = leading()
    cluster.add("n4")
    cluster.isolate("n4")
    cluster.reconfigure("n1", add("n4"))
    cluster.run(100)
    assert.strictEqual(ask(cluster, promote("n4")), "NotCaughtUp")
    assert.deepEqual(configurationOf(cluster).learners, ["n4"])
  })

  it("can be removed before it has caught up, and is not promoted after that", () => {
    const cluster = leading()
    cluster.add("n4")
    cluster.isolate("n4")
    cluster.reconfigure("n1", add("n4"))
    cluster.settle()
    assert.strictEqual(ask(cluster, remove("n4")), "waits")
    cluster.heal()
    cluster.run(1000)
    const { joining, learners, voters } = configurationOf(cluster)
    assert.deepEqual([voters, learners, joining], [["n1", "n2", "n3"], [], []])
  })

  it("a later leader promotes it, too: that it is to become a voter is in the log", () => {
    const cluster = leading()
    cluster.add("n4")
    cluster.cut("n1", "n4")
    cluster.reconfigure("n1", add("n4"))
    cluster.run(200)
    cluster.isolate("n1")
    cluster.elect("n2")
    cluster.run(1000, ({ from, to }) => from !== "n1" && to !== "n1")
    assert.include(votersOf(cluster, "n2"), "n4")
  })

  it("one that takes less than comes in is not promoted, and reported after a hundred election timeouts, again and again", () => {
    const cluster = leading(3, { promotionLagEntriesMax: 0 })
    cluster.add("n4")
    cluster.reconfigure("n1", add("n4"))
    cluster.run(200, ({ to }) => to !== "n4")
    const isAnswer = ({ from }: { readonly from: NodeId }) => from === "n4"
    cluster.run(300)
    assert.include(configurationOf(cluster).voters, "n4", "with nothing else to do it keeps up")
    cluster.add("n5")
    cluster.reconfigure("n1", add("n5"))
    cluster.settle(({ to }) => to !== "n5")
    for (let i = 0; i < 40; i++) {
      cluster.propose("n1", `${i}`)
      cluster.run(50, ({ from }) => from !== "n5")
      // Whatever it acknowledges, there is more by then.
      cluster.propose("n1", `${i}+`)
      cluster.settle(({ from, to }) => isAnswer({ from }) || to !== "n5")
    }
    const reports = () => cluster.records.flatMap(({ command }) => command._tag === "ReportLearner" ? [command.id] : [])
    assert.deepEqual([reports(), configurationOf(cluster).learners], [[], ["n5"]])
    const timeoutMs = cluster.settings.electionTimeoutMsMax
    for (let i = 0; i < 101; i++) {
      cluster.propose("n1", `${i}`)
      cluster.run(timeoutMs, ({ from }) => from !== "n5")
      cluster.propose("n1", `${i}+`)
      cluster.settle(({ from, to }) => isAnswer({ from }) || to !== "n5")
    }
    assert.deepEqual([reports(), configurationOf(cluster).learners], [["n5"], ["n5"]])
    cluster.run(1000)
    assert.include(votersOf(cluster), "n5", "once there is less to do it is")
  })

  it("one that never runs is reported, too", () => {
    const cluster = leading()
    cluster.add("n4")
    cluster.isolate("n4")
    cluster.reconfigure("n1", add("n4"))
    cluster.run(201 * cluster.settings.electionTimeoutMsMax)
    const reports = cluster.records.flatMap(({ command }) => command._tag === "ReportLearner" ? [command.id] : [])
    assert.deepEqual(reports, ["n4", "n4"])
  })

  it("one that was added to vote stays a learner where it is added as that before it votes", () => {
    const cluster = leading()
    cluster.add("n4")
    cluster.isolate("n4")
    cluster.reconfigure("n1", add("n4", "Voter"))
    cluster.run(100)
    cluster.reconfigure("n1", add("n4", "Learner"))
    cluster.heal()
    cluster.run(2000)
    assert.deepEqual([configurationOf(cluster).learners, configurationOf(cluster).joining], [["n4"], []])
  })

  it("one that was added to stay one becomes a voter where it is added as that", () => {
    const cluster = leading()
    cluster.add("n4")
    cluster.reconfigure("n1", add("n4", "Learner"))
    cluster.run(500)
    assert.deepEqual(configurationOf(cluster).learners, ["n4"])
    cluster.reconfigure("n1", add("n4", "Voter"))
    cluster.run(1000)
    assert.include(votersOf(cluster), "n4")
  })

  it("is promoted once it was close for a whole round, though it never has quite everything", () => {
    const cluster = leading(3, { promotionLagEntriesMax: 5 })
    cluster.add("n4")
    cluster.reconfigure("n1", add("n4"))
    // It gets the snapshot, and what it acknowledges is late from then on: there is always more by then.
    cluster.run(200, ({ from, message }) => from !== "n4" || !isMatched(message))
    for (let i = 0; configurationOf(cluster).joining.length > 0; i++) {
      assert.isBelow(i, 20, "it is always one entry behind, and is not promoted")
      cluster.propose("n1", `${i}`)
      cluster.settle(({ from }) => from !== "n1")
      cluster.settle(({ from, to }) => from === "n1" || (from !== "n4" && to === "n1"))
    }
    assert.include(votersOf(cluster), "n4")
  })

  it("is not promoted because it is close for a moment, if it was not when the round began", () => {
    const cluster = leading(3, { promotionLagEntriesMax: 2, appendEntriesMax: 2 })
    cluster.add("n4")
    cluster.holdDisk("n4")
    cluster.reconfigure("n1", add("n4", "Learner"))
    cluster.run(200)
    cluster.releaseDisk("n4")
    cluster.run(500)
    cluster.propose("n1", ...Array.from({ length: 8 }, (_, i) => `${i}`))
    cluster.drop(({ to }) => to === "n4")
    cluster.settle()
    const { lastIndex } = cluster.state("n1").log
    assert.strictEqual(ask(cluster, promote("n4")), "NotCaughtUp")
    assert.strictEqual(ask(cluster, remove("n4")), "waits")
    cluster.settle(({ to }) => to !== "n4")
    cluster.reconfigure("n1", add("n4"))
    cluster.settle(({ to }) => to !== "n4")
    assert.isAbove(cluster.state("n1").log.lastIndex, lastIndex)
    // Its first answer comes when it is far behind: the round that begins then ends with it close, and does not count.
    const matchOf = () => cluster.leaderState("n1").role.progress.get("n4")?.matchIndex ?? 0
    cluster.timeout("n1")
    while (matchOf() < cluster.state("n1").log.lastIndex) {
      assert.isTrue(cluster.deliverOne(({ from, to }) => from === "n4" || to === "n4"))
    }
    assert.deepEqual(configurationOf(cluster).joining, ["n4"])
    cluster.run(500)
    assert.include(votersOf(cluster), "n4", "a round later it is")
  })

  it("is not promoted when it has fallen behind again by the time that it could be", () => {
    const cluster = leading(3, { promotionLagEntriesMax: 2 })
    for (const id of ["n4", "n5"]) cluster.add(id)
    cluster.reconfigure("n1", add("n4"))
    cluster.run(60)
    // Another change is under way for as long as it keeps up.
    for (const id of ["n2", "n3"]) cluster.holdDisk(id)
    assert.strictEqual(ask(cluster, add("n5", "Learner")), "waits")
    cluster.run(200, ({ to }) => to !== "n5")
    assert.isTrue(cluster.leaderState("n1").role.catchUps.get("n4")?.hasKeptUp)
    cluster.isolate("n4")
    for (let i = 0; i < 6; i++) cluster.propose("n1", `${i}`)
    for (const id of ["n2", "n3"]) cluster.releaseDisk(id)
    cluster.settle()
    assert.deepEqual(configurationOf(cluster).learners, ["n4", "n5"])
    cluster.heal()
    cluster.run(1000)
    assert.include(votersOf(cluster), "n4")
  })

  it("that has lost its state is not promoted before it has that back", () => {
    const cluster = leading(3, { snapshotEntries: 1000, logTailEntriesMax: 0 })
    cluster.add("n4")
    cluster.reconfigure("n1", add("n4", "Learner"))
    cluster.run(1000)
    cluster.takeSnapshot("n4")
    cluster.crash("n4")
    cluster.damageSnapshot("n4")
    cluster.restart("n4")
    const isPiece = ({ message }: { readonly message: { readonly _tag: string } }) => message._tag === "InstallSnapshot"
    cluster.run(500, (packet) => !isPiece(packet))
    assert.isTrue(cluster.leaderState("n1").role.progress.get("n4")?.needsState)
    assert.strictEqual(ask(cluster, promote("n4")), "NotCaughtUp")
    cluster.run(1000)
    assert.strictEqual(ask(cluster, promote("n4")), "waits")
  })

  it("is not promoted when so many are silent by then that the larger majority would not be there", () => {
    const cluster = leading(3)
    for (const id of ["n4", "n5"]) cluster.add(id)
    cluster.reconfigure("n1", add("n4"))
    cluster.run(60)
    for (const id of ["n2", "n3"]) cluster.holdDisk(id)
    assert.strictEqual(ask(cluster, add("n5", "Learner")), "waits")
    cluster.run(200, ({ to }) => to !== "n5")
    assert.isTrue(cluster.leaderState("n1").role.catchUps.get("n4")?.hasKeptUp)
    for (const id of ["n3", "n4", "n5"]) cluster.isolate(id)
    cluster.run(400)
    cluster.releaseDisk("n2")
    cluster.run(100)
    assert.deepEqual(configurationOf(cluster).learners, ["n4", "n5"], "two of four are not three")
    cluster.heal()
    cluster.run(1000)
    assert.include(votersOf(cluster), "n4")
  })
})
