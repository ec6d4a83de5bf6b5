// Goal: a destructive read whose reply is lost can be repeated, and never silently skipped.
// Method: every rule of Unacknowledged once, with a produce function that counts its calls.
import { describe, expect, it } from "vitest";
import { ServiceError } from "../../../src/base/errors.js";
import { digestOf } from "../../../src/base/saved.js";
import { Unacknowledged } from "../../../src/base/unacknowledged.js";

const NONE = { key: null, after: null };

function source() {
  const kept = new Unacknowledged<number>();
  let reads = 0;
  const take = (consume: { key?: string; after?: string }) =>
    kept.take({ ...NONE, ...consume }, () => {
      reads += 1;
      return reads;
    });
  return { kept, take, reads: () => reads };
}

function refusal(act: () => unknown): ServiceError {
  try {
    act();
  } catch (error) {
    if (error instanceof ServiceError) return error;
  }
  throw new Error("expected a ServiceError");
}

describe("Unacknowledged", () => {
  it("counts ids up and repeats without a key or predecessor", () => {
    const s = source();
    expect(s.take({})).toEqual({ id: "h1", value: 1, repeated: false });
    expect(s.take({})).toEqual({ id: "h1", value: 1, repeated: true });
    expect(s.take({ after: "h1" })).toEqual({ id: "h2", value: 2, repeated: false });
    expect(s.reads()).toBe(2);
  });

  it("repeats for the same key, even when the retry names a predecessor", () => {
    const s = source();
    s.take({ key: "a" });
    expect(s.take({ key: "a" }).repeated).toBe(true);
    expect(s.take({ key: "a", after: "h1" })).toEqual({ id: "h1", value: 1, repeated: true });
  });

  it("repeats for the same predecessor, whatever the key", () => {
    const s = source();
    s.take({});
    s.take({ after: "h1", key: "a" });
    expect(s.take({ after: "h1", key: "b" })).toEqual({ id: "h2", value: 2, repeated: true });
  });

  it("refuses another reader while a result is kept, and says which", () => {
    const s = source();
    s.take({ key: "a" });
    for (const consume of [{}, { key: "b" }, { after: "h7" }, { key: "b", after: "h0" }]) {
      const error = refusal(() => s.take(consume));
      expect(error.code).toBe("harvest-unacknowledged");
      expect(error.message).toContain("h1");
      expect(error.extensions).toEqual({ unacknowledged: "h1" });
    }
    expect(s.reads()).toBe(1);
  });

  it("keeps the old result when the next read is refused", () => {
    const kept = new Unacknowledged<string>("r");
    kept.take(NONE, () => "first");
    expect(() =>
      kept.take({ key: null, after: "r1" }, () => {
        throw new Error("EAGAIN");
      }),
    ).toThrow("EAGAIN");
    expect(kept.kept).toMatchObject({ id: "r1", value: "first" });
    expect(kept.take({ key: null, after: "r1" }, () => "second").id).toBe("r2");
  });

  it("acknowledges once or often, and knows ids that never were", () => {
    const s = source();
    s.take({ key: "a" });
    expect(s.kept.find("h1")?.value).toBe(1);
    expect(s.kept.acknowledge("h1")).toBe(true);
    expect(s.kept.acknowledge("h1")).toBe(true);
    expect(s.kept.find("h1")).toBeNull();
    for (const id of ["h2", "h0", "h", "r1", "h1x", "h99999999999999999999"]) {
      expect(s.kept.acknowledge(id)).toBe(false);
    }
    expect(s.take({ key: "b" }).id).toBe("h2");
  });

  it("makes a round trip through save and load", () => {
    const first = new Unacknowledged<{ bitmap: Uint8Array; pages: bigint }>();
    first.take({ key: "k", after: null }, () => ({ bitmap: new Uint8Array([1]), pages: 8n }));
    const second = new Unacknowledged<{ bitmap: Uint8Array; pages: bigint }>();
    second.load(first.save());
    expect(digestOf([second.save()])).toBe(digestOf([first.save()]));
    const again = second.take({ key: "k", after: null }, () => {
      throw new Error("must not read again");
    });
    expect(again).toMatchObject({ id: "h1", repeated: true });
  });
});
