// Goal: a case that runs twice can't pass by accident. Method: checks that notice, that don't, and
// that break. Test process.
import { describe, expect, it } from "vitest";
import { mustFail, twice } from "../../support/dirty-case.js";

describe("a check that has to fail with its switch on", () => {
  const seen: (string | null)[] = [];
  twice(
    "T-0",
    "one more than one is two",
    (switchOn, bug) => {
      seen.push(bug);
      expect(1 + (switchOn ? 2 : 1)).toBe(2);
    },
    { bug: ["B0", "D0"] },
  );

  it("has run without a bug, then with each of them", () => {
    expect(seen).toEqual([null, "B0", "D0"]);
  });

  it("fails where the check doesn't notice", async () => {
    await expect(mustFail(() => expect(1).toBe(1), "B0")).rejects.toThrow("didn't notice");
  });

  it("passes on what is wrong with the check itself", async () => {
    const broken = () => {
      throw new TypeError("no such thing");
    };
    await expect(mustFail(broken, "B0")).rejects.toThrow(TypeError);
  });

  it("takes checks that wait", async () => {
    await mustFail(async (switchOn) => {
      await Promise.resolve();
      expect(switchOn).toBe(false);
    }, "B0");
    await expect(mustFail(async () => {}, "B0")).rejects.toThrow("didn't notice");
  });
});
