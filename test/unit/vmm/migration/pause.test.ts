// Goal: what shortens a migration's pause changes nothing of what arrives.
// Method: the short way and the long one are compared: states packed and not, harvests that clean
// and the last one, boards that load their RAM and those whose RAM comes from elsewhere.
import { describe, expect, it } from "vitest";
import { decodeSaved } from "../../../../src/base/saved-codec.js";
import * as a64 from "../../../support/a64.js";
import { InlineBoard } from "../../../support/board.js";
import { BASE, Inline } from "../../../support/inline.js";
import { copyMemory, hold, letGo, take } from "../../../support/moved.js";

const SPIN = a64.bytesOf([a64.add(1, 1, 1), a64.b(-1)]);
const IMAGE_AT = 0x4008_0000n;
const PAGES = 64;
const PAGE = 4096;

function running(): InlineBoard {
  const vm = InlineBoard.with(SPIN, { board: { vcpus: 2, gic: 3 } });
  vm.act("start");
  vm.pump(20);
  hold(vm);
  return vm;
}

describe("a packed state", () => {
  it("is the same parts in one, and is loaded like them", () => {
    const vm = running();
    const { parts } = vm.call("saveState", { pack: true });
    expect(parts.map(({ kind, version }) => ({ kind, version }))).toEqual([
      { kind: "packed", version: 1 },
    ]);
    const bytes = parts[0]?.data as Uint8Array;
    expect(decodeSaved(bytes)).toEqual(take(vm).parts);
    const other = InlineBoard.with(SPIN, { board: { vcpus: 2, gic: 3 } });
    hold(other);
    copyMemory(vm, other);
    expect(other.call("loadState", { parts })).toBeNull();
    expect(take(other).parts).toEqual(take(vm).parts);
    for (const one of [vm, other]) letGo(one);
  });

  it.each([
    ["of another version", "state-mismatch", [{ kind: "packed", version: 9, data: SPIN }]],
    ["without bytes", "state-mismatch", [{ kind: "packed", version: 1, data: {} }]],
    ["that can't be read", "state-mismatch", [{ kind: "packed", version: 1, data: SPIN }]],
    [
      "beside others",
      "state-leftover",
      [
        { kind: "packed", version: 1, data: SPIN },
        { kind: "vm", version: 1, data: {} },
      ],
    ],
  ])("%s is refused: %s", (_what, code, parts) => {
    const vm = running();
    expect(vm.refused("loadState", { parts })).toBe(code);
  });
});

describe("the last harvest", () => {
  it.each(["bitmap", "manual-protect"])("leaves out no page: %s", (method) => {
    const vm = new Inline();
    vm.slot(0, PAGES);
    vm.vcpu(0);
    vm.call("trackDirty", { consumer: "c", on: true, method });
    const window = { base: BASE, bytes: PAGES * PAGE, count: PAGES };
    vm.pattern(0, window, { pattern: "sequential", stride: PAGE });
    vm.run(0);
    hold(vm);
    const last = vm.call("harvestDirty", { consumer: "c", last: true });
    expect(last.pages).toBe(PAGES);
    // What was not cleaned is found once more: too much, and never too little.
    const again = vm.call("harvestDirty", { consumer: "c" });
    expect(again.pages).toBe(method === "bitmap" ? 0 : PAGES);
    expect(vm.call("harvestDirty", { consumer: "c" }).pages).toBe(0);
  });
});

describe("a board whose RAM comes from elsewhere", () => {
  it("has an empty one until it is reset", () => {
    const vm = new InlineBoard({ board: { vcpus: 1, gic: 3 } });
    vm.call("loadBoard", { image: SPIN, initrd: null, leaveRam: true });
    const bytes = () => vm.call("readPhysicalMemory", { gpa: IMAGE_AT, length: SPIN.length });
    expect(bytes().every((byte) => byte === 0)).toBe(true);
    vm.act("start");
    vm.act("reset");
    vm.pump(5);
    expect(bytes()).toEqual(SPIN);
  });
});
