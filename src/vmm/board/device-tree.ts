// Owns: the device tree of a board: what its guest is told of the machine. Any thread.
// @source guest-payloads.md 3.2

import { FdtWriter } from "../../base/fdt.js";
import { Prng } from "../../base/prng.js";
import type { BoardDefinition } from "../definition.js";
import { cpuPhandle, deviceNodes, interrupt, PHANDLE } from "./device-nodes.js";
import { MIB, RAM_BASE, SPI, UART } from "./memory-map.table.js";

export interface TreeInput {
  readonly board: BoardDefinition;
  /** Guest-physical range of the initrd. */
  readonly initrd: { readonly start: number; readonly end: number } | null;
  /** MPIDR affinity of each CPU. */
  readonly cpus: readonly bigint[];
  readonly seed: bigint;
}

/** A kernel without it makes its entropy from the timer, for tens of millions of instructions. */
const RNG_SEED_BYTES = 32;

/** RAM, CPUs, PSCI, the UART, and what else the board has; nothing that it hasn't. */
export function deviceTree(input: TreeInput): Uint8Array {
  const fdt = new FdtWriter();
  const { board } = input;
  fdt.node("", () => {
    fdt.cells("#address-cells", 2);
    fdt.cells("#size-cells", 2);
    // With interrupts it is a machine that every Linux for arm64 knows.
    fdt.text("compatible", board.gic === undefined ? "tidemark,board" : "linux,dummy-virt");
    if (board.gic !== undefined) fdt.cells("interrupt-parent", PHANDLE.gic);
    fdt.text("model", "tidemark,board");
    fdt.node("chosen", () => chosen(fdt, input));
    fdt.node(`memory@${RAM_BASE.toString(16)}`, () => {
      fdt.text("device_type", "memory");
      fdt.cells64("reg", RAM_BASE, board.memoryMiB * MIB);
    });
    fdt.node("cpus", () => cpus(fdt, input));
    fdt.node("psci", () => {
      fdt.text("compatible", "arm,psci-1.0", "arm,psci-0.2");
      fdt.text("method", "hvc");
    });
    fdt.node("apb-pclk", () => {
      fdt.text("compatible", "fixed-clock");
      fdt.cells("#clock-cells", 0);
      fdt.cells("clock-frequency", UART.clockHz);
      fdt.cells("phandle", PHANDLE.clock);
    });
    fdt.node(uartName(), () => {
      fdt.text("compatible", "arm,pl011", "arm,primecell");
      fdt.cells64("reg", UART.base, UART.size);
      fdt.cells("clocks", PHANDLE.clock, PHANDLE.clock);
      fdt.text("clock-names", "uartclk", "apb_pclk");
      interrupt(fdt, board, SPI.uart, "level");
    });
    deviceNodes(fdt, board);
  });
  return fdt.finish();
}

function uartName(): string {
  return `pl011@${UART.base.toString(16)}`;
}

function chosen(fdt: FdtWriter, { board, initrd, seed }: TreeInput): void {
  fdt.text("stdout-path", `/${uartName()}`);
  if (board.cmdline !== "") fdt.text("bootargs", board.cmdline);
  if (initrd !== null) {
    fdt.cells64("linux,initrd-start", initrd.start);
    fdt.cells64("linux,initrd-end", initrd.end);
  }
  const prng = new Prng(seed);
  fdt.bytes(
    "rng-seed",
    Uint8Array.from({ length: RNG_SEED_BYTES }, () => prng.below(256)),
  );
}

function cpus(fdt: FdtWriter, { board, cpus: affinities }: TreeInput): void {
  fdt.cells("#address-cells", 1);
  fdt.cells("#size-cells", 0);
  for (const [index, affinity] of affinities.entries()) {
    fdt.node(`cpu@${affinity.toString(16)}`, () => {
      fdt.text("device_type", "cpu");
      fdt.text("compatible", "arm,armv8");
      fdt.cells("reg", Number(affinity));
      fdt.text("enable-method", "psci");
      cpuPhandle(fdt, board, index);
    });
  }
}
