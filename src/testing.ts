/**
 * For tests of your own state machine: `import { Simulation, TestCluster } from "titan-raft/testing"`.
 */
export * as Faults from "./testing/Faults.ts"
export * as History from "./testing/History.ts"
export * as KeyValueModel from "./testing/KeyValueModel.ts"
export * as Linearizability from "./testing/Linearizability.ts"
export * as Simulation from "./testing/Simulation.ts"
export * as Simulator from "./testing/Simulator.ts"
export * as Swarm from "./testing/Swarm.ts"
export * as TestCluster from "./testing/TestCluster.ts"
