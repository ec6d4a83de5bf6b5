// Goal: only a real difference is one: errno, ret, every member of out, in any spelling.
// Method: pairs of outcomes.
import { describe, expect, it } from "vitest";
import { refusal } from "./client.js";
import { difference } from "./compare.js";

const ok = (out: Record<string, unknown>, ret = 0) => ({ ret, errno: null, out });
const refused = (errno: string) => ({ ret: -1, errno, out: {} });
const problem = (status: number, body: unknown) =>
  refusal({ status, headers: {}, body: Buffer.from(JSON.stringify(body)) });

describe("difference", () => {
  it("takes the errno's name, and nothing else, from a refusal", () => {
    expect(difference(refused("EINVAL"), problem(422, { errno: "EINVAL" }))).toBeNull();
    expect(difference(refused("ENOENT"), problem(404, { code: "vm-not-found" }))).not.toBeNull();
    expect(difference(refused("EINVAL"), ok({}))).toEqual(["EINVAL", "success, ret 0"]);
    expect(difference(ok({}), refused("EINVAL"))).toEqual(["success, ret 0", "EINVAL"]);
  });

  it("shows a refusal without errno as what it is", () => {
    const html = { status: 502, headers: {}, body: Buffer.from("<html>") };
    expect(refusal(html).errno).toContain("status 502");
    expect(problem(400, { code: "validation", detail: "no" }).errno).toContain("validation: no");
  });

  it("compares ret of a success only", () => {
    expect(difference(ok({}, 192), ok({}, 191))).toEqual(["ret 192", "ret 191"]);
    expect(
      difference({ ...refused("EINVAL"), ret: -1 }, { ...refused("EINVAL"), ret: 0 }),
    ).toBeNull();
  });

  it("sees sets, wide values and member order through their spelling", () => {
    expect(difference(ok({ dirty: [1, 2, 3] }), ok({ dirty: [[1, 3]] }))).toBeNull();
    expect(difference(ok({ values: ["0x0a"] }), ok({ values: ["0xa"] }))).toBeNull();
    const exit = { exit_reason: "KVM_EXIT_MMIO", phys_addr: "0x10", len: 1 };
    const turned = { len: 1, phys_addr: "0x010", exit_reason: "KVM_EXIT_MMIO" };
    expect(difference(ok({ exits: [exit] }), ok({ exits: [turned] }))).toBeNull();
  });

  it("does not forgive a missing or additional member", () => {
    expect(difference(ok({ count: 0, nbits: 4 }), ok({ count: 0 }))).toEqual([
      "nbits 4",
      "nbits absent",
    ]);
    expect(difference(ok({}), ok({ values: [] }))).not.toBeNull();
    expect(difference(ok({ entries: [[1, 0]] }), ok({ entries: [[0, 1]] }))).not.toBeNull();
  });
});
