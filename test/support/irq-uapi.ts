// Owns: numbers and structures that interrupt cases and selftests share: KVM's attribute groups and
// flags, offsets of frames, routes, words of KVM_IRQ_LINE. Test process.
import { KvmError } from "../../src/base/errors.js";
import type { RoutingEntry } from "../../src/vmm/commands.js";

/** Where Linux's and QEMU's `virt` have them. */
export const DIST = 0x800_0000;
export const GICC = 0x801_0000;
export const REDIST = 0x80a_0000;
export const RAM = 0x4000_0000;
export const GROUP = {
  ADDR: 0,
  DIST: 1,
  CPU: 2,
  NR_IRQS: 3,
  CTRL: 4,
  REDIST: 5,
  SYSREGS: 6,
  LEVEL: 7,
} as const;
export const ADDR = { V2_DIST: 0, V2_CPU: 1, V3_DIST: 2, V3_REDIST: 3 } as const;
export const CTRL_INIT = 0n;
export const IRQFD = { DEASSIGN: 1, RESAMPLE: 2 } as const;
export const GICD = {
  CTLR: 0,
  TYPER: 4,
  IIDR: 8,
  IGROUPR: 0x80,
  ISENABLER: 0x100,
  ICENABLER: 0x180,
  ISPENDR: 0x200,
  ICPENDR: 0x280,
  ISACTIVER: 0x300,
  ICACTIVER: 0x380,
  IPRIORITYR: 0x400,
  ITARGETSR: 0x800,
  ICFGR: 0xc00,
  SGIR: 0xf00,
  IROUTER: 0x6000,
} as const;
export const SPURIOUS = 1023;

export function bytes(value: bigint | number, size: 4 | 8): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) =>
    Number((BigInt(value) >> BigInt(8 * i)) & 0xffn),
  );
}

export function fromBytes(data: Uint8Array): bigint {
  return data.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

const NO_ROUTE = { flags: 0, irqchip: 0, pin: 0, addressLo: 0, addressHi: 0, data: 0, devid: 0 };

export function pinRoute(gsi: number, pin: number): RoutingEntry {
  return { ...NO_ROUTE, gsi, type: 1, pin };
}

/** @param devid null: the entry says that it has none */
export function msiRoute(
  gsi: number,
  address: number,
  data: number,
  devid: number | null,
): RoutingEntry {
  const flags = devid === null ? 0 : 1;
  return { ...NO_ROUTE, gsi, type: 2, flags, addressLo: address, data, devid: devid ?? 0 };
}

/** KVM_IRQ_LINE's word of a PPI. */
export function lineOfPpi(intid: number, vcpu: number): number {
  return (((vcpu >>> 8) << 28) | (2 << 24) | ((vcpu & 0xff) << 16) | intid) >>> 0;
}

/** Errno of what userspace does, or null. */
export function errnoOf(act: () => unknown): string | null {
  try {
    act();
    return null;
  } catch (error) {
    if (error instanceof KvmError) return error.errno;
    throw error;
  }
}
