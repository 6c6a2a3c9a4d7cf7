/**
 * Servers by number, from 0 on.
 */
import type { NodeId } from "../../src/domain/NodeId.ts"

export const idOf = (number: number): NodeId => `n${number + 1}`

export const numberOf = (id: NodeId): number => Number(id.slice(1)) - 1
