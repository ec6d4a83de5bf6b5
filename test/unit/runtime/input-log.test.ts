// Goal: a log keeps what fits, says when something was dropped, and survives JSON exactly.
// Method: bounds by entries and bytes; round trips of every argument shape; hostile documents.
import { describe, expect, test } from "vitest";
import { ServiceError } from "../../../src/base/errors.js";
import { MemoryBudget } from "../../../src/base/memory-budget.js";
import type { InputLog } from "../../../src/runtime/handle.js";
import { contentBytes, InputRecorder } from "../../../src/runtime/input-log.js";
import { decodeInputLog, encodeInputLog } from "../../../src/runtime/input-log-codec.js";
import type { Command, Stamp } from "../../../src/vmm/index.js";
import { definition, pattern, RUN } from "./support.js";

function stamp(seq: number): Stamp {
  return {
    seq,
    step: seq * 2,
    instructions: seq * 1000,
    virtualNs: seq * 1000,
    cut: seq % 2 === 1,
  };
}

const write = (length: number): Command => ({
  name: "writeMemoryObject",
  args: { id: 1, offset: 2n ** 63n, bytes: new Uint8Array(length).fill(0xa5) },
});

describe("InputRecorder", () => {
  const recorderOf = (entriesMax: number, bytesMax: number, total = 2 ** 20) => {
    const budget = MemoryBudget.create(total);
    return { budget, recorder: new InputRecorder(definition, { entriesMax, bytesMax }, budget) };
  };
  const seqs = (recorder: InputRecorder) =>
    recorder.log(stamp(9999)).entries.map((e) => e.stamp.seq);

  test("keeps the newest entries and owns up to the loss", () => {
    const { recorder, budget } = recorderOf(3, 10_000);
    for (let i = 0; i < 3; i++) recorder.add(stamp(i), write(1));
    expect(recorder.log(stamp(9999)).truncated).toBe(false);
    for (let i = 3; i < 5000; i++) recorder.add(stamp(i), write(1));
    expect(recorder.log(stamp(9999)).truncated).toBe(true);
    expect(seqs(recorder)).toEqual([4997, 4998, 4999]);
    expect(budget.usedBytes()).toBe(0);
  });

  test("is bounded by bytes, even for one entry that is too large", () => {
    const { recorder, budget } = recorderOf(100, 30_000);
    for (let i = 0; i < 5; i++) recorder.add(stamp(i), write(8000));
    expect(seqs(recorder)).toEqual([2, 3, 4]);
    expect(budget.usedBytes()).toBe(3 * contentBytes(write(8000)));
    recorder.add(stamp(5), write(40_000));
    expect(recorder.log(stamp(9999))).toMatchObject({ entries: [], truncated: true });
    expect(budget.usedBytes()).toBe(0);
    recorder.add(stamp(6), write(1));
    expect(seqs(recorder)).toEqual([6]);
  });

  test("gives way when the memory budget has no room for its contents", () => {
    const { recorder, budget } = recorderOf(100, 30_000, 10_000);
    recorder.add(stamp(0), write(8000));
    expect(budget.usedBytes()).toBeGreaterThan(7500);
    recorder.add(stamp(1), write(8000));
    expect(recorder.log(stamp(9999))).toMatchObject({ entries: [], truncated: true });
    expect(budget.usedBytes()).toBe(0);
  });
});

const COMMANDS: readonly Command[] = [
  write(3),
  { name: "run", args: RUN },
  { name: "run", args: { ...RUN, mmioData: new Uint8Array([1, 2]) } },
  { name: "setProgram", args: pattern(0) },
  {
    name: "setProgram",
    args: {
      vcpu: 1,
      program: {
        kind: "accesses",
        accesses: [
          { op: "write", address: 2n ** 64n - 1n, length: 8, value: 5n },
          { op: "read", address: 0n, length: 1 },
        ],
      },
    },
  },
  { name: "enableCap", args: { cap: 4294967295, flags: 0, args: [2n ** 64n - 1n, 0n] } },
  {
    name: "createMemoryObject",
    args: { size: 4096n, userspaceAddr: null, backing: "unbacked", hugePages: true },
  },
  {
    name: "ioeventfd",
    args: { datamatch: 1n, addr: 2n, len: 8, fd: { index: -1, isEventfd: true }, flags: 1 },
  },
  {
    name: "setGsiRouting",
    args: {
      flags: 0,
      entries: [
        {
          gsi: 1,
          type: 2,
          flags: 0,
          irqchip: 0,
          pin: 0,
          addressLo: 1,
          addressHi: 2,
          data: 3,
          devid: 4,
        },
      ],
    },
  },
  { name: "harvestDirtyLog", args: { slot: 0, key: "k", after: null } },
  { name: "resetDirtyRings", args: {} },
  {
    name: "changeDirty",
    args: { settings: { "hdbss.size": -1, "hardware.zeroAhead": true }, seedBugs: ["B12", "D4"] },
  },
  { name: "changeDirty", args: { settings: {}, seedBugs: null } },
];

const log: InputLog = {
  version: 1,
  definition,
  entries: COMMANDS.map((command, i) => ({ stamp: stamp(i), command })),
  end: stamp(COMMANDS.length),
  truncated: false,
};

describe("codec", () => {
  test("brings every shape back through JSON text", () => {
    const text = JSON.stringify(encodeInputLog(log));
    expect(decodeInputLog(JSON.parse(text))).toEqual(log);
    expect(text).toContain('"0xffffffffffffffff"');
  });

  /** The encoded log with one place changed, as a path of names. */
  function changed(path: readonly (string | number)[], value: unknown): unknown {
    const data = JSON.parse(JSON.stringify(encodeInputLog(log)));
    let at = data;
    for (const name of path.slice(0, -1)) at = at[name];
    at[path.at(-1)!] = value;
    return data;
  }

  test.each([
    [["version"], 2, "version is not one of 1."],
    [["truncated"], 0, "truncated is neither true nor false."],
    [["extra"], 0, 'The input log has the unknown field "extra".'],
    [["definition", "type"], "0x1ffffffffffffffff", 'definition.type is not a u64 as "0x…" text.'],
    [["definition", "pageSize"], 8192, "definition.pageSize is not one of 4096, 16384, 65536."],
    [["definition", "clock", "nsPerInstruction"], 0, /integer from 1/],
    [["entries"], {}, "entries is not a list."],
    [["entries", 0, "command", "name"], "format", /not the name of a command/],
    [["entries", 0, "command", "name"], "toString", /not the name of a command/],
    [["entries", 0, "command", "name"], "describe", /names describe, which is never an input/],
    [["entries", 0, "command", "args", "bytes"], "****", /args.bytes is not base64 text/],
    [["entries", 0, "command", "args", "offset"], 5, /args.offset is not a u64/],
    [["entries", 0, "command", "args"], [], /args is not an object/],
    [["entries", 0, "command", "args"], { id: 1, offset: "0x0" }, /lacks the field bytes/],
    [["entries", 1, "command", "args", "vcpu"], -1, /integer from 0 to 4294967295/],
    [["entries", 3, "command", "args", "program", "length"], 3, /one of 1, 2, 4, 8/],
    [["entries", 4, "command", "args", "program", "accesses", 0, "op"], "x", /read, write/],
    [["entries", 3, "command", "args", "program"], null, /neither kind/],
    [["entries", 7, "command", "args", "fd"], 3, /args.fd is not an object/],
    [["entries", 2, "stamp", "seq"], 1, "entries[2].stamp lies before the stamp that precedes it."],
    [["entries", 2, "stamp", "instructions"], 0.5, /integer from 0/],
    [["entries", 2, "stamp", "instructions"], 1, /lies before/],
    [["end", "step"], 1, "end lies before the stamp that precedes it."],
    [["end", "virtualNs"], null, /end.virtualNs is not an integer/],
  ] as const)("refuses %j = %j", (path, value, sentence) => {
    const data = changed(path as readonly (string | number)[], value);
    let refusal: unknown = null;
    try {
      decodeInputLog(data);
    } catch (error) {
      refusal = error;
    }
    expect(refusal).toBeInstanceOf(ServiceError);
    expect((refusal as ServiceError).code).toBe("bad-input-log");
    if (typeof sentence === "string") expect((refusal as Error).message).toBe(sentence);
    else expect((refusal as Error).message).toMatch(sentence);
  });

  test.each([null, 1, "x", [], {}])("refuses %j", (data) => {
    expect(() => decodeInputLog(data)).toThrow(ServiceError);
  });
});
