/**
 * The public modules, as namespaces. Each is also a path of its own (`titan-raft/RaftNode`), which loads only what it needs. Those for tests
 * are in `titan-raft/testing`.
 */
export * as Configuration from "./domain/Configuration.ts"
export * as Settings from "./domain/Settings.ts"
export * as ClientHttp from "./layers/ClientHttp.ts"
export * as KeyValueClient from "./layers/kv/Client.ts"
export * as KeyValueHttp from "./layers/kv/Http.ts"
export * as KeyValueProtocol from "./layers/kv/Protocol.ts"
export * as KeyValueStore from "./layers/kv/Store.ts"
export * as RaftClientHttp from "./layers/RaftClientHttp.ts"
export * as RaftHttp from "./layers/RaftHttp.ts"
export * as StorageFile from "./layers/StorageFile.ts"
export * as StorageMemory from "./layers/StorageMemory.ts"
export * as TransportHttp from "./layers/TransportHttp.ts"
export * as TransportMemory from "./layers/TransportMemory.ts"
export * as TransportSocket from "./layers/TransportSocket.ts"
export * as RaftClient from "./services/RaftClient.ts"
export * as RaftNode from "./services/RaftNode.ts"
export * as StateMachine from "./services/StateMachine.ts"
export * as Storage from "./services/Storage.ts"
export * as Transport from "./services/Transport.ts"
