// Goal: guest code takes LPIs: from its own INT commands and from MSIs, as often as they came.
// Method: a guest that moves GITS_CWRITER, waits in WFI and notes what ICC_IAR1_EL1 gives it.
import { describe, expect, it } from "vitest";
import * as a64 from "../../../support/a64.js";
import { CMD, ITS_BASE, ItsGuest, TABLE, u64 } from "../../../support/its.js";
import { ICC, mrs, msr } from "./world.js";

const CODE = TABLE.code;
const VECTORS = CODE + 0x1000;
const NOTES = CODE + 0x2000;
const PC = 0x6030_0000_0010_0040n;
const CWRITER = ITS_BASE + 0x88;
const OFF = "KVM_EXIT_SYSTEM_EVENT";

/** Takes `count` interrupts and powers off. Its tables are set up by userspace. */
function booted(count: number, before: readonly number[]): ItsGuest {
  const guest = new ItsGuest({ code: true });
  guest.enableIts();
  guest.mapOne();
  const handler = [
    mrs(1, ICC.IAR1),
    a64.str(1, 20),
    a64.add(20, 20, 8),
    msr(ICC.EOIR1, 1),
    a64.subs(21, 21, 1),
    a64.cbnz(21, 1 + a64.powerOff().length),
    ...a64.powerOff(),
    a64.ERET,
  ];
  const start = [
    ...a64.mov(0, BigInt(VECTORS)),
    a64.msr("VBAR_EL1", 0),
    ...a64.mov(20, BigInt(NOTES)),
    ...a64.mov(21, BigInt(count)),
    ...a64.mov(0, 0xf0n),
    msr(ICC.PMR, 0),
    ...a64.mov(0, 1n),
    msr(ICC.IGRPEN1, 0),
    ...before,
    a64.daifclr(2),
    a64.WFI,
    a64.b(-1),
  ];
  guest.write(VECTORS + 0x280, a64.bytesOf(handler));
  guest.write(CODE, a64.bytesOf(start));
  guest.call("setOneReg", { vcpu: 0, reg: PC, value: u64(CODE) });
  return guest;
}

function notes(guest: ItsGuest, count: number): bigint[] {
  return Array.from({ length: count }, (_, n) => guest.entry(NOTES + 8 * n));
}

describe("a guest with an ITS", () => {
  it("moves GITS_CWRITER past INT commands and takes their LPIs, the urgent one first", () => {
    const move = [...a64.mov(2, BigInt(CWRITER)), ...a64.mov(3, 7n * 32n), a64.str(3, 2)];
    const guest = booted(2, move);
    guest.configure(8196, 0x41);
    guest.write(TABLE.queue + 3 * 32, CMD.mapti(2, 21, 8196, 3));
    guest.write(TABLE.queue + 4 * 32, CMD.int(2, 20));
    guest.write(TABLE.queue + 5 * 32, CMD.int(2, 21));
    guest.write(TABLE.queue + 6 * 32, CMD.sync(0));
    expect(guest.run().exitReason).toBe(OFF);
    expect(notes(guest, 3)).toEqual([8196n, 8195n, 0n]);
    expect(guest.get(0x90)).toBe(7n * 32n);
    expect(guest.cpu(0).apList).toEqual([]);
  });

  it("sleeps until an MSI comes, and takes it once for each", () => {
    const guest = booted(2, []);
    const run = guest.beginRun();
    guest.pump(60);
    expect(run.done).toBe(false);
    expect(guest.msi(2, 20)).toBe(1);
    guest.pump(60);
    expect(notes(guest, 2)).toEqual([8195n, 0n]);
    expect(guest.msi(2, 20)).toBe(1);
    expect(guest.finish(run).exitReason).toBe(OFF);
    expect(notes(guest, 3)).toEqual([8195n, 8195n, 0n]);
  });

  it("T62: isn't woken by an LPI whose byte is off until INV", () => {
    const guest = booted(1, []);
    guest.configure(8196, 0x80);
    guest.issue(CMD.mapti(2, 21, 8196, 3));
    guest.configure(8196, 0x81);
    const run = guest.beginRun();
    guest.pump(60);
    expect(guest.msi(2, 21)).toBe(1);
    guest.pump(60);
    expect(run.done).toBe(false);
    guest.issue(CMD.inv(2, 21));
    expect(guest.finish(run).exitReason).toBe(OFF);
    expect(notes(guest, 1)).toEqual([8196n]);
  });
});
