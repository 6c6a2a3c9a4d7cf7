/**
 * Names of servers. A `NodeId` is 1 to 64 characters of `A-Z a-z 0-9 . _ -`; it is checked where it enters
 * (flags, configuration files, peers), never inside the core.
 */
export type NodeId = string

const pattern = /^[A-Za-z0-9._-]{1,64}$/

/** True when `text` may name a server. Example: `isNodeId("n1")`. */
export const isNodeId = (text: string): boolean => pattern.test(text)
