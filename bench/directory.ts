/**
 * Where benches keep their data: on the same disk as the checkout. A temporary directory may be in memory, where a sync costs nothing.
 */
import * as Effect from "effect/Effect"
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs"
import { join, resolve } from "node:path"

/** A new directory, removed when the scope closes. */
export const make = Effect.acquireRelease(
  Effect.sync(() => {
    const parent = resolve(".titan")
    mkdirSync(parent, { recursive: true })
    return mkdtempSync(join(parent, "bench-"))
  }),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

/** The sizes of all files below `directory`; one that is removed meanwhile counts as nothing. */
export const bytesOf = (directory: string): number => {
  let bytes = 0
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    bytes += statSync(join(entry.parentPath, entry.name), { throwIfNoEntry: false })?.size ?? 0
  }
  return bytes
}
