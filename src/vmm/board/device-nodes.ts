// Owns: the nodes of a device tree that only some boards have: interrupt controller, timer, clock,
// PCIe, virtio, fw_cfg, flash. Any thread. @source guest-payloads.md 3.2; Linux devicetree bindings
import type { FdtWriter } from "../../base/fdt.js";
import type { BoardDefinition } from "../definition.js";
import { FLASH, FW_CFG, GIC, MIB, PCIE, RTC, SPI, VIRTIO } from "./memory-map.table.js";
import { virtioTransports } from "./virtio/plug.js";

export const PHANDLE = { clock: 1, gic: 2, its: 3 } as const;
/** A GICv5 names its CPUs: the first one's, the others follow. */
const CPU_PHANDLE = 4;

/** First and third cell of an interrupt. */
const TYPE = { spi: 0, ppi: 1 } as const;
/** Of a GICv5: what an INTID begins with. */
const TYPE_V5 = { spi: 3, ppi: 1 } as const;
/** A GICv5 has one number for a PPI, its ID, which is the INTID of older controllers. */
const PPI_BASE_V5 = 16;
const TRIGGER = { edge: 1, level: 4 } as const;
/** 32-bit spaces of a PCI bus. */
const PCI_SPACE = { io: 1, memory: 2 } as const;
/** PPIs of the secure, physical, virtual and hyp timer, counted from 0. */
const TIMER_PPIS = [13, 14, 11, 10]; // tidy: PPIs

interface Region {
  readonly base: number;
  readonly size: number;
}

function name(kind: string, { base }: Pick<Region, "base">): string {
  return `${kind}@${base.toString(16)}`;
}

function reg(fdt: FdtWriter, ...regions: readonly Region[]): void {
  fdt.cells64("reg", ...regions.flatMap(({ base, size }) => [base, size]));
}

/** Cells of an interrupt as the board's controller counts them. */
function cells(
  { gic }: BoardDefinition,
  kind: keyof typeof TYPE,
  number: number,
  trigger: keyof typeof TRIGGER,
): number[] {
  if (gic !== 5) return [TYPE[kind], number, TRIGGER[trigger]];
  return [TYPE_V5[kind], kind === "ppi" ? PPI_BASE_V5 + number : number, TRIGGER[trigger]];
}

/** A CPU's own part of what the controller says of it. */
export function cpuPhandle(fdt: FdtWriter, { gic }: BoardDefinition, index: number): void {
  if (gic === 5) fdt.cells("phandle", CPU_PHANDLE + index);
}

/** Says which SPI a device raises, where somebody takes it. */
export function interrupt(
  fdt: FdtWriter,
  board: BoardDefinition,
  spi: number,
  trigger: keyof typeof TRIGGER,
): void {
  if (board.gic !== undefined) fdt.cells("interrupts", ...cells(board, "spi", spi, trigger));
}

/** Nodes of what the board has beside RAM, CPUs and UART. */
export function deviceNodes(fdt: FdtWriter, board: BoardDefinition): void {
  if (board.gic !== undefined) {
    timer(fdt, board);
    if (board.gic === 5) gicV5(fdt, board);
    else controller(fdt, board);
  }
  if (board.rtc === true) rtc(fdt, board);
  if (board.pci === true) pcie(fdt);
  for (const at of virtioTransports(board)) virtio(fdt, board, at);
  if (board.firmware !== undefined) firmwareDevices(fdt);
}

function timer(fdt: FdtWriter, board: BoardDefinition): void {
  fdt.node("timer", () => {
    fdt.text("compatible", "arm,armv8-timer");
    fdt.bytes("always-on", new Uint8Array(0));
    fdt.cells("interrupts", ...TIMER_PPIS.flatMap((ppi) => cells(board, "ppi", ppi, "level")));
  });
}

function controller(fdt: FdtWriter, { gic, its }: BoardDefinition): void {
  fdt.node(name("intc", GIC.distributor), () => {
    fdt.text("compatible", gic === 2 ? "arm,cortex-a15-gic" : "arm,gic-v3");
    fdt.cells("#interrupt-cells", 3);
    fdt.bytes("interrupt-controller", new Uint8Array(0));
    if (gic === 2) {
      reg(fdt, GIC.distributor, GIC.cpuInterface);
    } else {
      fdt.cells("#redistributor-regions", 1);
      reg(fdt, GIC.distributor, GIC.redistributors);
    }
    fdt.cells("#address-cells", 2);
    fdt.cells("#size-cells", 2);
    fdt.bytes("ranges", new Uint8Array(0));
    fdt.cells("phandle", PHANDLE.gic);
    if (its !== true) return;
    fdt.node(name("its", GIC.its), () => {
      fdt.text("compatible", "arm,gic-v3-its");
      fdt.bytes("msi-controller", new Uint8Array(0));
      fdt.cells("#msi-cells", 1);
      reg(fdt, GIC.its);
      fdt.cells("phandle", PHANDLE.its);
    });
  });
}

/** Big-endian cells of 16 bits. */
function halves(fdt: FdtWriter, name: string, values: readonly number[]): void {
  const bytes = new Uint8Array(2 * values.length);
  const view = new DataView(bytes.buffer);
  for (const [at, value] of values.entries()) view.setUint16(2 * at, value);
  fdt.bytes(name, bytes);
}

/** Without an ITS: KVM gives its guests none. A CPU's IAFFID is its vCPU's id. */
function gicV5(fdt: FdtWriter, { vcpus }: BoardDefinition): void {
  const ids = Array.from({ length: vcpus }, (_, id) => id);
  fdt.node("intc", () => {
    fdt.text("compatible", "arm,gic-v5");
    fdt.cells("#interrupt-cells", 3);
    fdt.bytes("interrupt-controller", new Uint8Array(0));
    fdt.cells("#address-cells", 2);
    fdt.cells("#size-cells", 2);
    fdt.bytes("ranges", new Uint8Array(0));
    fdt.cells("phandle", PHANDLE.gic);
    fdt.node(name("irs", GIC.irs), () => {
      fdt.text("compatible", "arm,gic-v5-irs");
      reg(fdt, GIC.irs);
      fdt.text("reg-names", "ns-config");
      fdt.cells("#address-cells", 2);
      fdt.cells("#size-cells", 2);
      fdt.bytes("ranges", new Uint8Array(0));
      fdt.cells("cpus", ...ids.map((id) => CPU_PHANDLE + id));
      halves(fdt, "arm,iaffids", ids);
    });
  });
}

function rtc(fdt: FdtWriter, board: BoardDefinition): void {
  fdt.node(name("pl031", RTC), () => {
    fdt.text("compatible", "arm,pl031", "arm,primecell");
    reg(fdt, RTC);
    interrupt(fdt, board, SPI.rtc, "level");
    fdt.cells("clocks", PHANDLE.clock);
    fdt.text("clock-names", "apb_pclk");
  });
}

/** Cells of a range: which space, where on the bus, where for CPUs, how long. */
function range(kind: number, { base, size, bus }: Region & { readonly bus: number }): number[] {
  return [kind * 2 ** 24, 0, bus, 0, base, 0, size];
}

function pcie(fdt: FdtWriter): void {
  fdt.node(name("pcie", PCIE.ecam), () => {
    fdt.text("compatible", "pci-host-ecam-generic");
    fdt.text("device_type", "pci");
    reg(fdt, PCIE.ecam);
    fdt.cells("bus-range", 0, PCIE.ecam.size / MIB - 1);
    fdt.cells("linux,pci-domain", 0);
    fdt.cells("#address-cells", 3);
    fdt.cells("#size-cells", 2);
    fdt.cells("ranges", ...range(PCI_SPACE.io, PCIE.io), ...range(PCI_SPACE.memory, PCIE.memory));
    fdt.bytes("dma-coherent", new Uint8Array(0));
  });
}

function virtio(fdt: FdtWriter, board: BoardDefinition, at: number): void {
  const transport = { base: VIRTIO.base + at * VIRTIO.size, size: VIRTIO.size };
  fdt.node(name("virtio_mmio", transport), () => {
    fdt.text("compatible", "virtio,mmio");
    reg(fdt, transport);
    interrupt(fdt, board, SPI.virtio + at, "edge");
    fdt.bytes("dma-coherent", new Uint8Array(0));
  });
}

function firmwareDevices(fdt: FdtWriter): void {
  fdt.node(name("fw-cfg", FW_CFG), () => {
    fdt.text("compatible", "qemu,fw-cfg-mmio");
    reg(fdt, FW_CFG);
    fdt.bytes("dma-coherent", new Uint8Array(0));
  });
  const bank = (at: number) => ({ base: FLASH.base + at * FLASH.bankBytes, size: FLASH.bankBytes });
  fdt.node(name("flash", FLASH), () => {
    fdt.text("compatible", "cfi-flash");
    reg(fdt, bank(0), bank(1));
    fdt.cells("bank-width", 4);
  });
}
