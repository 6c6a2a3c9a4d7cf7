/** Byte arrays as Node's `Buffer` sees them. */
import { Buffer } from "node:buffer"

/** The same bytes, not a copy, with what a `Buffer` can read and write of them. */
export const bufferOf = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
