// Goal: a board whose vCPUs have dirty rings, as its definition says. Method: boards inline.
import { expect, it } from "vitest";
import { guestImage, InlineBoard } from "../../../support/board.js";

const HELLO = guestImage("hello");

it("makes a ring for each vCPU, and a bitmap beside them", () => {
  const vm = InlineBoard.with(HELLO, { board: { vcpus: 2, gic: 3, dirtyRingEntries: 1024 } });
  expect(vm.call("listVcpus", {}).map(({ dirtyRing }) => dirtyRing?.entries)).toEqual([1024, 1024]);
  expect(vm.call("describe", {})).toMatchObject({
    dirtyRingBytes: 1024 * 16,
    dirtyRingWithBitmap: true,
  });
});

it("has none unless asked for", () => {
  const vm = InlineBoard.with(HELLO);
  expect(vm.call("listVcpus", {})[0]?.dirtyRing).toBeNull();
});

it.each([1000, 1])("refuses %i entries and leaves the board to be loaded again", (entries) => {
  const vm = new InlineBoard({ board: { dirtyRingEntries: entries } });
  const load = () => vm.call("loadBoard", { image: HELLO, initrd: null });
  expect(load).toThrow(/ring size/);
  expect(load).toThrow(/ring size/);
  expect(vm.call("listVcpus", {})).toEqual([]);
});
