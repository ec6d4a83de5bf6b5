// Goal: an image does the same in tier 0 as on QEMU's virt machine, instruction by instruction.
// Method: a guest with loops, memory, an exception and its return, a device and registers that say
// what a PE is; and QEMU gets an image with another word, which must be named.
import { describe, expect, it } from "vitest";
import { missing, programVersion } from "../../tools/debian.mjs";
import * as a64 from "../support/a64.js";
import { lockstepWithQemu, QEMU } from "./lockstep-qemu.js";

const BASE = 0x4008_0000n;
const VECTORS = 0x800;
/** Exceptions of EL1 with SP_EL1. */
const SAME_LEVEL = 0x200;
const UART = 0x900_0000n;
const UARTFR = 0x18;
const OPTIONS = { instructions: 1000, ramBytes: 2 ** 27, progress: () => {} };

function guest(by: number): Uint8Array {
  const bytes = new Uint8Array(VECTORS + SAME_LEVEL + 64);
  const main = [
    ...a64.mov(9, BASE + BigInt(VECTORS)),
    a64.msr("VBAR_EL1", 9),
    ...a64.mov(10, BASE + 0x4000n),
    ...a64.mov(0, 20n),
    a64.add(1, 1, 3),
    a64.str(1, 10),
    a64.ldrw(2, 10),
    a64.subs(0, 0, 1),
    a64.bne(-4),
    a64.mrs(3, "MPIDR_EL1"),
    a64.mrs(4, "CNTVCT_EL0"),
    a64.svc(7),
    a64.add(5, 2, by),
    ...a64.mov(11, UART),
    a64.strb(1, 11),
    a64.ldrw(6, 11, UARTFR),
    a64.mrs(7, "CurrentEL"),
    ...a64.powerOff(),
  ];
  bytes.set(a64.bytesOf(main));
  const handler = [a64.mrs(12, "ESR_EL1"), a64.mrs(13, "ELR_EL1"), a64.ERET];
  bytes.set(a64.bytesOf(handler), VECTORS + SAME_LEVEL);
  return bytes;
}

describe(QEMU, () => {
  if (programVersion(QEMU) === null) {
    it("is not installed", (context) => context.skip(missing(QEMU)));
    return;
  }
  it("agrees on every instruction up to SYSTEM_OFF", async () => {
    const result = await lockstepWithQemu(guest(1), OPTIONS);
    expect(result.differences, result.culprit ?? "").toEqual([]);
    expect(result.ended).toBe("KVM_EXIT_SYSTEM_EVENT");
    expect(result.instructions).toBeGreaterThan(115);
    expect(result.copied.get("counter or timer")).toBe(1);
  });

  it("is found to differ at the instruction that does", async () => {
    const result = await lockstepWithQemu(guest(1), { ...OPTIONS, theirs: guest(2) });
    expect(result.culprit).toContain(`pc 0x${(BASE + 0x38n).toString(16)}`);
    expect(result.differences).toEqual(["x5 is 0x3d, QEMU has 0x3e"]);
  });
});
