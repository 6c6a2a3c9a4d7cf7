import { assert, describe, it } from "@effect/vitest"
import { transfers } from "../../src/cli/Status.ts"
import type { EndpointStatus } from "../../src/services/RaftClient.ts"
import { report, type ServerStatus } from "../../src/services/ServerStatus.ts"
import * as FakeNode from "../layers/fakeNode.ts"

const up = (id: string, fields: Partial<ServerStatus>): EndpointStatus => ({
  _tag: "Up",
  url: `http://${id}`,
  status: { ...report(FakeNode.make(id).status, () => undefined), ...fields }
})

const down: EndpointStatus = { _tag: "Down", url: "http://n1", reason: "gone" }
const receiving = { from: "n1", index: 500, offset: 100, sizeBytes: 1000 }
const sending = [
  { to: "n2", index: 500, offset: 250, sizeBytes: 1000 },
  { to: "n3", index: 500, offset: 0, sizeBytes: 0 }
]

describe("what status says of snapshots on their way", () => {
  it("a line each, with the part that has arrived, as the sender knows it", () => {
    assert.deepStrictEqual(transfers([up("n1", { sending }), up("n2", { receiving })]), [
      "n1 sends n2 its snapshot of index 500: 25 % of 1000 bytes",
      "n1 sends n3 its snapshot of index 500: 100 % of 0 bytes"
    ])
  })

  it("where the sender cannot be reached, as the receiver knows it", () => {
    assert.deepStrictEqual(transfers([down, up("n2", { receiving })]), [
      "n1 sends n2 its snapshot of index 500: 10 % of 1000 bytes"
    ])
  })

  it("nothing where there is none", () => assert.deepStrictEqual(transfers([up("n1", {}), down]), []))
})
