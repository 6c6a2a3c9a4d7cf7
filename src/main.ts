#!/usr/bin/env node
/** `titan`. Checks the Node version before anything is loaded that an old one cannot run. */
import process from "node:process"

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number)

if (major < 22 || (major === 22 && minor < 19)) {
  process.stderr.write(
    `titan needs Node 22.19 or later, and this is ${process.versions.node}: run it as \`npx node dist/main.js …\`, which uses the Node installed with it\n`
  )
  process.exitCode = 2
} else {
  const { main } = await import("./cli/Titan.ts")
  main(process.argv.slice(2))
}
