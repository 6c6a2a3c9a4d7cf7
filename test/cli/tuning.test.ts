import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Tuning from "../../src/cli/Tuning.ts"

/** In the order of the flags. */
const numbers = [40, 1000, 2000, 25, 30, 4096, 5000, 20, 50, 60, 70_000]
const given: Tuning.Given = {
  electionTimeoutMs: Option.some("100-250"),
  numbers: numbers.map(Option.some),
  leaseReads: Option.some(true)
}

describe("the flags that are settings", () => {
  it.effect("each overrides its own", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* Tuning.settingsOf(given), {
        electionTimeoutMsMin: 100,
        electionTimeoutMsMax: 250,
        heartbeatIntervalMs: 40,
        snapshotEntries: 1000,
        snapshotBytes: 2000,
        snapshotGrowthPercent: 25,
        logTailEntriesMax: 30,
        snapshotChunkBytes: 4096,
        snapshotBytesPerSecondMax: 5000,
        clockDriftPercentMax: 20,
        promotionLagEntriesMax: 50,
        sessionsMax: 60,
        sessionTimeoutMs: 70_000,
        leaseReads: true
      })
      assert.deepStrictEqual(yield* Tuning.settingsOf(Tuning.none), {})
    }))

  it("are passed on as they were given, and none that was not", () => {
    assert.deepStrictEqual(Tuning.argsOf(given).join(" ").split(" --"), [
      "--election-timeout-ms 100-250",
      "heartbeat-ms 40",
      "snapshot-entries 1000",
      "snapshot-bytes 2000",
      "snapshot-growth-percent 25",
      "log-tail-entries 30",
      "snapshot-chunk-bytes 4096",
      "snapshot-bytes-per-second 5000",
      "clock-drift-percent 20",
      "promotion-lag-entries 50",
      "sessions 60",
      "session-timeout-ms 70000",
      "lease-reads"
    ])
    assert.deepStrictEqual(Tuning.argsOf({ ...Tuning.none, leaseReads: Option.some(false) }), ["--no-lease-reads"])
    assert.deepStrictEqual(Tuning.argsOf(Tuning.none), [])
  })

  it("stand in messages in the place of the settings, each whole", () => {
    assert.strictEqual(
      Tuning.inFlags("snapshotBytesPerSecondMax and snapshotBytes (3) clash with electionTimeoutMsMin"),
      "--snapshot-bytes-per-second and --snapshot-bytes (3) clash with the shortest of --election-timeout-ms"
    )
  })
})
