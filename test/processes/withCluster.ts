/**
 * What the suites over real processes say again and again.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as RaftClientHttp from "../../src/layers/RaftClientHttp.ts"
import type { RaftClient } from "../../src/services/RaftClient.ts"
import * as LocalCluster from "./LocalCluster.ts"

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

export const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "titan-processes-"))),
  (root) => Effect.sync(() => rmSync(root, { recursive: true, force: true }))
)

/** Waits until every node has applied the same log to its end. */
export const caughtUp = (cluster: LocalCluster.LocalCluster) =>
  Effect.forEach(cluster.urls, LocalCluster.status).pipe(
    Effect.filterOrFail(
      (all) => all.every((one) => one.lastApplied === all[0]?.lastLogIndex && one.lastLogIndex === all[0].lastLogIndex),
      (all) => new LocalCluster.NotReady({ message: JSON.stringify(all) })
    ),
    Effect.retry({ schedule: Schedule.spaced(25), times: 800 })
  )

/** Three nodes and a client of theirs; what they have printed is shown where the test fails. */
export const withCluster = <A, E>(
  use: (cluster: LocalCluster.LocalCluster) => Effect.Effect<A, E, RaftClient>,
  args: ReadonlyArray<string> = []
) =>
  Effect.scoped(Effect.gen(function*() {
    const root = yield* temporaryDirectory
    const cluster = yield* LocalCluster.make({ size: 3, root, args })
    const client = RaftClientHttp.layer({ endpoints: cluster.urls, deadlineMs: 10_000 })
    return yield* use(cluster).pipe(
      Effect.provide(client),
      Effect.tapCause(() => Effect.logError(cluster.nodes.map((node) => node.output()).join("\n")))
    )
  }))
