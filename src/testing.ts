/**
 * For tests of your own state machine: `import { Simulation, TestCluster } from "titan-raft/testing"`.
 */
export * as Draws from "./testing/Draws.ts"
export * as Faults from "./testing/Faults.ts"
export * as Figure3 from "./testing/Figure3.ts"
export * as History from "./testing/History.ts"
export * as KeyValueModel from "./testing/KeyValueModel.ts"
export * as KeyValueWorkload from "./testing/KeyValueWorkload.ts"
export * as Linearizability from "./testing/Linearizability.ts"
export * as Operator from "./testing/Operator.ts"
export * as Process from "./testing/Process.ts"
export * as ReducerWorkload from "./testing/ReducerWorkload.ts"
export * as Run from "./testing/Run.ts"
export * as Simulation from "./testing/Simulation.ts"
export * as Simulator from "./testing/Simulator.ts"
export * as Swarm from "./testing/Swarm.ts"
export * as TestCluster from "./testing/TestCluster.ts"
export * as Workload from "./testing/Workload.ts"
