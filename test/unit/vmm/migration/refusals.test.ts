// Goal: a state that isn't this VM's is refused with a sentence that names the part, and what was
// refused before anything was loaded has changed nothing.
// Method: the state of one VM with a part missing, doubled, of another version, spoilt, or offered
// to VMs that were built otherwise.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ServiceError } from "../../../../src/base/errors.js";
import type { Saved } from "../../../../src/base/saved.js";
import * as a64 from "../../../support/a64.js";
import { InlineBoard } from "../../../support/board.js";
import { Guest } from "../../../support/guest.js";
import { BASE, Inline, type InlineOptions } from "../../../support/inline.js";
import { IrqVm } from "../../../support/irq-case.js";
import { hold, take } from "../../../support/moved.js";

function source(): Guest {
  const vm = new Guest();
  vm.boot(0, [a64.add(1, 1, 1), ...a64.powerOff()]);
  vm.run();
  hold(vm);
  return vm;
}

function target(options: InlineOptions = {}, pages = 64): Inline {
  const vm = new Inline(options);
  vm.slot(0, pages);
  vm.vcpu(0);
  hold(vm);
  return vm;
}

const { parts } = take(source());

function why(vm: Inline, state: readonly Saved[]): string {
  try {
    vm.call("loadState", { parts: state });
  } catch (error) {
    if (error instanceof ServiceError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return "loaded";
}

function unchanged(vm: Inline, state: readonly Saved[]): string {
  const before = vm.instance.digest().parts;
  const sentence = why(vm, state);
  const { scheduler: _steps, ...after } = vm.instance.digest().parts;
  expect(after).toEqual(Object.fromEntries(Object.entries(before).filter(([k]) => k in after)));
  return sentence;
}

it("the state itself is taken", () => {
  expect(why(target(), parts)).toBe("loaded");
});

describe("parts", () => {
  it.each(parts.map(({ kind }) => kind))("%s: missing, twice, or of another version", (kind) => {
    const vm = target();
    const own = parts.find((part) => part.kind === kind)!;
    const others = parts.filter((part) => part !== own);
    expect(unchanged(vm, others)).toBe(
      `state-mismatch: The part ${kind} doesn't fit this VM: the state lacks it.`,
    );
    expect(unchanged(vm, [...parts, own])).toMatch(/^state-leftover: There is a second part/);
    const later = [...others, { ...own, version: own.version + 1 }];
    expect(unchanged(vm, later)).toContain(`The part ${kind} doesn't fit`);
    expect(unchanged(vm, [...others, { ...own, kind: "other" }])).toMatch(
      /^state-leftover: Nobody/,
    );
    expect(why(vm, parts)).toBe("loaded");
  });

  it("may come in any order", () => {
    expect(why(target(), [...parts].reverse())).toBe("loaded");
  });
});

describe("a VM that was built otherwise", () => {
  const cases: readonly (readonly [string, () => Inline, string])[] = [
    ["with less memory", () => target({}, 32), "objects"],
    ["with another page size", () => target({ pageSize: 65536 }), "pageSize"],
    ["with another clock", () => target(WALL), "clock"],
    ["with other instructions", () => target(SLOW), "nsPerInstruction"],
    ["with another IPA size", () => target({ type: 44n }), "ipaBits"],
    ["with one more vCPU", () => withMore((vm) => vm.vcpu(1)), "vcpus"],
    ["with one more slot", () => withMore((vm) => void vm.slot(5, 1, { gpa: 0 })), "objects"],
    ["with a slot elsewhere", elsewhere, "slots"],
    ["with devices", () => withMore((vm) => void vm.call("createDevice", V3)), "has devices"],
    ["that has run", () => withMore((vm) => void vm.store(0, [BASE])), "has run"],
  ];
  it.each(cases)("%s is not touched", (_what, build, says) => {
    expect(unchanged(build(), parts)).toContain(says);
  });

  it("has a board, or has none", () => {
    const board = InlineBoard.with(a64.bytesOf([a64.b(0)]));
    hold(board);
    expect(unchanged(board, parts)).toContain("state-mismatch");
    const empty = new InlineBoard();
    hold(empty);
    expect(unchanged(empty, take(board).parts)).toContain("its image is not loaded yet");
    expect(unchanged(target(), take(board).parts)).toContain("state-mismatch");
    const other = InlineBoard.with(a64.bytesOf([a64.b(0)]), { board: { gic: 2 } });
    hold(other);
    expect(unchanged(other, take(board).parts)).toContain("gic");
  });
});

const WALL: InlineOptions = { clock: { mode: "wall", nsPerInstruction: 1, idle: "jump" } };
const SLOW: InlineOptions = { clock: { mode: "virtual", nsPerInstruction: 2, idle: "jump" } };
const V3 = { type: 7, flags: 0 };

function withMore(act: (vm: Inline) => void): Inline {
  const vm = new Inline();
  vm.slot(0, 64);
  vm.vcpu(0);
  act(vm);
  hold(vm);
  return vm;
}
function elsewhere(): Inline {
  const vm = new Inline();
  vm.slot(0, 64, { gpa: BASE + 0x100_0000 });
  vm.vcpu(0);
  hold(vm);
  return vm;
}

/** Every value inside a part, one at a time, as something else. */
function spoilt(value: unknown, at: number, bad: unknown): { value: unknown; left: number } {
  if (at === 0) return { value: bad, left: -1 };
  let left = at - 1;
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) {
    return { value, left };
  }
  const entries = Object.entries(value).map(([name, member]) => {
    if (left < 0) return [name, member];
    const changed = spoilt(member, left, bad);
    left = changed.left;
    return [name, changed.value];
  });
  const object = Object.fromEntries(entries) as Record<string, unknown>;
  return { value: Array.isArray(value) ? Object.values(object) : object, left };
}

it("a part that is damaged never ends the VM's thread", () => {
  const gic = new IrqVm("v3", { vcpus: 1, nrIrqs: 64 });
  hold(gic);
  const whole = take(gic).parts;
  const values = fc.constantFrom<unknown>(
    null,
    undefined,
    -1,
    2 ** 40,
    2 ** 32 + 64,
    "x",
    [],
    {},
    1n,
    2n ** 70n,
  );
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.nat(60), values, (which, at, bad) => {
      const vm = new Inline();
      vm.slot(0, 1024);
      vm.vcpu(0);
      hold(vm);
      const state = whole.map((part, n) => {
        return n === which ? { ...part, data: spoilt(part.data, at, bad).value } : part;
      });
      try {
        vm.call("loadState", { parts: state });
      } catch (error) {
        if (!(error instanceof ServiceError)) throw error;
      }
    }),
    { numRuns: 120 },
  );
});
