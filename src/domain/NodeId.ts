/**
 * Names of servers. They are checked where they enter (flags, configuration files, peers), and by the core only where a configuration is made of them
 * (`Configuration.problem`): that is written down for good.
 */
export type NodeId = string

/** What a name is, for those that are told that theirs is none. */
export const nodeIdRule = "1 to 64 characters of A-Z a-z 0-9 . _ -"

const pattern = /^[A-Za-z0-9._-]{1,64}$/

/** True when `text` may name a server. Example: `isNodeId("n1")`. */
export const isNodeId = (text: string): boolean => pattern.test(text)
