// Goal: what a debugger sets is in memory and in the debug registers exactly while it is set.
// Method: a memory of one page that lies at two virtual addresses; registers against the Arm ARM.
import { describe, expect, it } from "vitest";
import { Breakpoints } from "../../../../src/service/gdb/breakpoints.js";
import type { GuestAccess } from "../../../../src/service/gdb/guest-access.js";

const PAGE = 256;
/** Both lead to physical 0; nothing else leads anywhere. */
const LOW = 0x1000n; // tidy: an address
const HIGH = 0xffff_0000_0000_0000n;
const BRK = "000020d4";

function world() {
  const memory = Uint8Array.from({ length: PAGE }, (_, at) => at);
  let mapped = [LOW, HIGH];
  const translate = (address: bigint): bigint | null => {
    const base = mapped.find((from) => address >= from && address < from + BigInt(PAGE));
    return base === undefined ? null : address - base;
  };
  const access = {
    translate: async (_vcpu: number, address: bigint) => translate(address),
    readMemory: async (_vcpu: number, address: bigint, length: number) => {
      const at = translate(address);
      return at === null ? new Uint8Array(0) : memory.slice(Number(at), Number(at) + length);
    },
    writePhysical: async (gpa: bigint, bytes: Uint8Array) => {
      memory.set(bytes, Number(gpa));
      return true;
    },
  } as unknown as GuestAccess;
  const at = (from: number) => Buffer.from(memory.subarray(from, from + 4)).toString("hex");
  return { points: new Breakpoints(access), memory, at, unmap: () => (mapped = []) };
}

describe("software breakpoints", () => {
  it("are put back where they went, whatever is mapped by then", async () => {
    const { points, at, unmap } = world();
    expect(await points.insertSoftware(0, LOW + 8n)).toBe(true);
    expect(at(8)).toBe(BRK);
    unmap();
    await points.removeSoftware(LOW + 8n);
    expect(at(8)).toBe("08090a0b");
  });

  it("at two addresses of one word leave the guest's own word behind", async () => {
    const { points, at } = world();
    await points.insertSoftware(0, LOW);
    await points.insertSoftware(0, HIGH);
    await points.insertSoftware(0, HIGH);
    await points.removeSoftware(LOW);
    expect(at(0)).toBe(BRK);
    await points.removeSoftware(HIGH);
    expect(at(0)).toBe("00010203");
  });

  it("are refused where there is no instruction", async () => {
    const { points, memory } = world();
    const before = memory.slice();
    expect(await points.insertSoftware(0, LOW + 2n)).toBe(false);
    expect(await points.insertSoftware(0, 0x9000n)).toBe(false);
    expect(memory).toEqual(before);
  });

  it("hide in what is read, and take what is written over them", async () => {
    const { points, at, memory } = world();
    await points.insertSoftware(0, LOW + 4n);
    const seen = memory.slice(2, 10);
    points.hide(LOW + 2n, seen);
    expect([...seen]).toEqual([2, 3, 4, 5, 6, 7, 8, 9]);
    const written = Uint8Array.of(0xa0, 0xa1, 0xa2, 0xa3);
    expect([...points.covered(LOW + 6n, written)]).toEqual([0x20, 0xd4, 0xa2, 0xa3]);
    points.written(LOW + 6n, written);
    await points.clear();
    expect(at(4)).toBe("0405a0a1");
  });
});

describe("hardware", () => {
  it("breakpoints match at EL0 and EL1; there are six", () => {
    const { points } = world();
    expect(points.hardware()).toBe(null);
    expect(points.insertHardware(LOW)).toBe(true);
    expect(points.insertHardware(LOW)).toBe(true);
    expect(points.hardware()).toEqual({ bvr: [LOW], bcr: [0x1e7n], wvr: [], wcr: [] });
    for (let n = 1n; n < 6n; n++) expect(points.insertHardware(LOW + 4n * n)).toBe(true);
    expect(points.insertHardware(LOW + 64n)).toBe(false);
    points.removeHardware(LOW);
    expect(points.insertHardware(LOW + 64n)).toBe(true);
  });

  it.each([
    ["watch", 0x1004n, 4n, 0x1000n, 0x1e17n], // tidy: addresses
    ["rwatch", 0x1001n, 1n, 0x1000n, 0x004fn], // tidy: addresses
    ["awatch", 0x1000n, 8n, 0x1000n, 0x1fffn], // tidy: addresses
    ["watch", 0x2000n, 64n, 0x2000n, 0x0600_1ff7n],
  ] as const)("%s of %d, %d bytes", (kind, address, length, wvr, wcr) => {
    const { points } = world();
    expect(points.insertWatch({ kind, address, length })).toBe(true);
    expect(points.hardware()).toEqual({ bvr: [], bcr: [], wvr: [wvr], wcr: [wcr] });
    expect(points.watchAt(address + length - 1n)).toBe(kind);
    expect(points.watchAt(address + length)).toBe(null);
    points.removeWatch({ kind, address, length });
    expect(points.hardware()).toBe(null);
  });

  it.each([
    [0x1004n, 8n],
    [0x1000n, 12n], // tidy: an address
    [0x1008n, 16n],
    [0x1000n, 0n], // tidy: an address
    [0n, 2n ** 32n],
  ])("can't watch %d, %d bytes", (address, length) => {
    expect(world().points.insertWatch({ kind: "watch", address, length })).toBe(false);
  });
});
