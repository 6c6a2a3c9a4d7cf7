/**
 * Random walks: whatever the network, the clocks, the disks and the power do, nothing that Figure 3 promises
 * breaks; and once they behave, the cluster agrees. A failure names its seed.
 */
import { assert, describe, it } from "@effect/vitest"
import { isJoint } from "../../src/domain/Configuration.ts"
import type { Message } from "../../src/domain/Message.ts"
import { walk } from "./Walk.ts"

const isNeed = (message: Message): boolean =>
  message._tag === "AppendEntriesResponse" && message.result._tag === "NeedsSnapshot"

describe("random walks", () => {
  it(
    "300 seeds of faults break no property of Figure 3, and the cluster agrees when they end",
    { timeout: 60_000 },
    () => {
      const done = {
        committed: 0,
        leaders: 0,
        installed: 0,
        needed: 0,
        changed: 0,
        joint: 0,
        toldToStand: 0,
        Round: 0,
        Leader: 0,
        Lease: 0
      }
      for (let seed = 0; seed < 300; seed++) {
        try {
          const cluster = walk(seed, 1500)
          cluster.converge()
          done.committed += cluster.figure3.committed.length
          done.leaders += cluster.figure3.leaders.size
          for (const { command } of cluster.records) {
            if (command._tag === "Restore") done.installed++
            if (command._tag === "Send" && isNeed(command.message)) done.needed++
            if (command._tag === "Complete" || command._tag === "HandedOver") done.changed++
            if (command._tag === "AnnounceConfiguration" && isJoint(command.configuration)) done.joint++
            if (command._tag === "Send" && command.message._tag === "TimeoutNow") done.toldToStand++
          }
          for (const [id, reply] of cluster.replies) {
            if (reply._tag === "Served") done[cluster.readBy.get(id) ?? "Round"]++
          }
        } catch (error) {
          throw new Error(`seed ${seed}: ${String(error)}`, { cause: error })
        }
      }
      // A walk in which nothing happens proves nothing.
      assert.isAbove(done.committed, 3000)
      assert.isAbove(done.leaders, 600)
      assert.isAbove(done.installed, 100)
      assert.isAbove(done.needed, 100)
      assert.isAbove(done.changed, 500)
      assert.isAbove(done.joint, 100)
      assert.isAbove(done.toldToStand, 100)
      for (const way of ["Round", "Leader", "Lease"] as const) assert.isAbove(done[way], 500, way)
    }
  )
})
