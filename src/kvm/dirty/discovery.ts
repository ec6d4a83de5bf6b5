// Owns: how the host's firmware tells its kernel of HACDBSIRQ, as bytes, and what the kernel reads.
// VM thread.
//
//   acpi ─ MADT ─ GICC of the CPU, long enough? ─ GSIV ─┐
//   dt   ─ node "arm,armv9-hacdbs" ─ interrupts ────────┴─ a PPI? ─▶ INTID
//
// Where the MADT keeps the interrupt is our choice, no published table has it: 32 bits behind the
// last known field. So is the node; no binding exists.
// @source dirty-tracking.md 6.3; ACPI 6.5 section 5.2.12 (MADT), Devicetree Specification 0.4
import { FdtWriter, findCompatible } from "../../base/fdt.js";
import type { Vm } from "../vm.js";

const MADT = {
  REVISION: 6,
  CHECKSUM_AT: 9,
  /** Header, local interrupt controller address, flags. */
  BYTES: 44,
  GICC: 0x0b,
  GICD: 0x0c,
  GICD_BYTES: 24,
  /** GICC up to the TRBE interrupt, the last field that ACPI 6.5 has. */
  GICC_SHORT: 82,
  HACDBSIRQ_AT: 84,
  GICC_LONG: 88,
  MPIDR_AT: 68,
  ENABLED: 1,
} as const;
const GIC = { DISTRIBUTOR: 0x0800_0000, VERSION: 3, PHANDLE: 1 } as const;
/** Cells of a GIC's interrupt specifier. */
const SPECIFIER = { SPI: 0, PPI: 1, LEVEL_HIGH: 4, FIRST_PPI: 16, LAST_PPI: 31 } as const;
const HACDBS_COMPATIBLE = "arm,armv9-hacdbs";
/** An SPI as it might stand in a wrong node. */
const WRONG_SPI = 42;

function text(bytes: Uint8Array, at: number, value: string): void {
  bytes.set(new TextEncoder().encode(value), at);
}

/** The host's MADT: a distributor, and a GICC for each host CPU. */
export function madt(vm: Vm): Uint8Array {
  const { cpus, model } = vm.host;
  const isLong = vm.policies["hacdbs.madtLength"] === "with-hacdbsirq";
  const gicc = isLong ? MADT.GICC_LONG : MADT.GICC_SHORT;
  const bytes = new Uint8Array(MADT.BYTES + MADT.GICD_BYTES + gicc * cpus.length);
  const view = new DataView(bytes.buffer);
  text(bytes, 0, "APIC");
  view.setUint32(4, bytes.length, true);
  view.setUint8(8, MADT.REVISION);
  text(bytes, 10, "TIDEMKTIDEMARK ");
  view.setUint32(24, 1, true);
  text(bytes, 28, "TDMK");
  view.setUint32(32, 1, true);
  let at: number = MADT.BYTES;
  view.setUint8(at, MADT.GICD);
  view.setUint8(at + 1, MADT.GICD_BYTES);
  view.setBigUint64(at + 8, BigInt(GIC.DISTRIBUTOR), true);
  view.setUint8(at + 20, GIC.VERSION);
  at += MADT.GICD_BYTES;
  for (const { index } of cpus) {
    view.setUint8(at, MADT.GICC);
    view.setUint8(at + 1, gicc);
    view.setUint32(at + 4, index, true);
    view.setUint32(at + 8, index, true);
    // tidy: offset of the flags
    view.setUint32(at + 12, MADT.ENABLED, true);
    view.setBigUint64(at + MADT.MPIDR_AT, BigInt(index), true);
    const isThere = isLong && model["hardware.hacdbs"];
    if (isThere) view.setUint32(at + MADT.HACDBSIRQ_AT, model["hardware.hacdbsPpi"], true);
    at += gicc;
  }
  let sum = 0;
  for (const byte of bytes) sum += byte;
  view.setUint8(MADT.CHECKSUM_AT, -sum & 0xff);
  return bytes;
}

/** The node, under a parent whose interrupts have three cells. */
function hacdbsNode(fdt: FdtWriter, vm: Vm): void {
  const ppi = vm.host.model["hardware.hacdbsPpi"] - SPECIFIER.FIRST_PPI;
  const isPpi = vm.policies["hacdbs.dtInterrupt"] === "ppi";
  const [type, number] = isPpi ? [SPECIFIER.PPI, ppi] : [SPECIFIER.SPI, WRONG_SPI];
  fdt.node("hacdbs", () => {
    fdt.text("compatible", HACDBS_COMPATIBLE);
    fdt.cells("interrupts", type, number, SPECIFIER.LEVEL_HIGH);
  });
}

/** The host's device tree, as far as this feature goes. */
export function hostDeviceTree(vm: Vm): Uint8Array {
  const fdt = new FdtWriter();
  fdt.node("", () => {
    fdt.cells("#address-cells", 2);
    fdt.cells("#size-cells", 2);
    fdt.text("compatible", "tidemark,host");
    fdt.cells("interrupt-parent", GIC.PHANDLE);
    fdt.node(`interrupt-controller@${GIC.DISTRIBUTOR.toString(16)}`, () => {
      fdt.text("compatible", "arm,gic-v3");
      fdt.cells("#interrupt-cells", 3);
      fdt.bytes("interrupt-controller", new Uint8Array());
      fdt.cells64("reg", GIC.DISTRIBUTOR, 0x1_0000);
      fdt.cells("phandle", GIC.PHANDLE);
    });
    if (vm.host.model["hardware.hacdbs"]) hacdbsNode(fdt, vm);
  });
  return fdt.finish();
}

/** @returns the interrupt that a GICC holds; null: the structure is too short, or it isn't there */
function inMadt(bytes: Uint8Array, cpu: number): number | null {
  const view = new DataView(bytes.buffer);
  for (let at: number = MADT.BYTES; at < bytes.length; at += view.getUint8(at + 1)) {
    if (view.getUint8(at) !== MADT.GICC || view.getUint32(at + 4, true) !== cpu) continue;
    const isThere = view.getUint8(at + 1) >= MADT.GICC_LONG;
    return isThere ? view.getUint32(at + MADT.HACDBSIRQ_AT, true) : null;
  }
  return null;
}

function inDeviceTree(blob: Uint8Array): number | null {
  const cells = findCompatible(blob, HACDBS_COMPATIBLE)?.get("interrupts");
  if (cells === undefined || cells.length < 8) return null;
  const view = new DataView(cells.buffer, cells.byteOffset, cells.byteLength);
  const isPpi = view.getUint32(0) === SPECIFIER.PPI;
  return isPpi ? view.getUint32(4) + SPECIFIER.FIRST_PPI : null;
}

/** @returns INTID of a CPU's HACDBSIRQ; null: the kernel knows of none */
export function interruptOf(vm: Vm, cpu: number): number | null {
  const how = vm.policies["hacdbs.discovery"];
  if (how === "none") return null;
  const intid = how === "acpi" ? inMadt(madt(vm), cpu) : inDeviceTree(hostDeviceTree(vm));
  const isPpi = intid !== null && intid >= SPECIFIER.FIRST_PPI && intid <= SPECIFIER.LAST_PPI;
  return isPpi ? intid : null;
}
