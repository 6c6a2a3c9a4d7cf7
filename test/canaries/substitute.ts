/**
 * Puts the bug of the canary named by `TITAN_CANARY` in place of the text it names, as its module is loaded. No file changes, and the code
 * that ships knows nothing of it.
 *
 * ```sh
 * TITAN_CANARY=V3a node --import ./test/canaries/substitute.ts program.ts
 * ```
 *
 * Under vitest, whose modules Node does not load, the plugin of `vitest.config.ts` does the same.
 */
import { registerHooks } from "node:module"
import { join, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { byId, type Canary } from "./canaries.ts"

export const root = resolve(import.meta.dirname, "../..")

/** How often `find` occurs in `source`. Anything but once is a stale canary. */
export const occurrences = ({ find }: Canary, source: string): number => source.split(find).length - 1

/** `source` with the bug in it. */
export const substituted = (canary: Canary, source: string): string => {
  const count = occurrences(canary, source)
  if (count !== 1) throw new Error(`canary ${canary.id} is stale: ${canary.file} has its text ${count} times`)
  return source.split(canary.find).join(canary.replace)
}

const named = process.env["TITAN_CANARY"]

const chosen = named === undefined ? undefined : byId(named)
if (named !== undefined && chosen === undefined) throw new Error(`there is no canary ${named}`)

/** Vitest loads what its configuration imports once more for itself: the process is what those copies of this module have in common. */
const isLoaded = Symbol.for("titan/canary is loaded")
const shared: typeof globalThis & { [isLoaded]?: boolean } = globalThis

/** Whether the bug is in place: a canary whose module is never loaded proves nothing. */
export const wasLoaded = (): boolean => shared[isLoaded] === true

/** The source of `path` with the bug in it; `undefined` where there is none to put. */
export const sourceFor = (path: string, source: string): string | undefined => {
  if (chosen === undefined || path !== join(root, chosen.file)) return undefined
  const changed = substituted(chosen, source)
  shared[isLoaded] = true
  return changed
}

if (chosen !== undefined) {
  registerHooks({
    load: (url, context, nextLoad) => {
      const loaded = nextLoad(url, context)
      if (!url.startsWith("file:") || loaded.source === undefined) return loaded
      const changed = sourceFor(fileURLToPath(url), String(loaded.source))
      return changed === undefined ? loaded : { ...loaded, source: changed }
    }
  })
}
