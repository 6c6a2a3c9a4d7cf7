/**
 * The project's tests, with the bug of the canary named by `TITAN_CANARY` in place. Files run one after the other: canaries run in parallel.
 */
import { defineConfig, mergeConfig } from "vitest/config"
import project from "../../vitest.config.ts"
import { root, sourceFor } from "./substitute.ts"

export default mergeConfig(
  project,
  defineConfig({
    root,
    plugins: [{
      name: "titan-canary",
      enforce: "pre",
      transform: (source, id) => sourceFor(id.split("?")[0] ?? id, source)
    }],
    test: {
      // A module that was kept from another run has that run's bug, or none.
      fsModuleCache: false,
      fileParallelism: false,
      isolate: false,
      pool: "threads"
    }
  })
)
