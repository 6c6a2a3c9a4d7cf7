import { defineConfig } from "vitest/config"

export default defineConfig({
  resolve: { conditions: ["titan-source", "node", "import", "default"] },
  ssr: { resolve: { conditions: ["titan-source", "node", "import", "default"] } },
  test: { include: ["{test,examples}/**/*.test.ts"], testTimeout: 30_000, hookTimeout: 30_000 }
})
