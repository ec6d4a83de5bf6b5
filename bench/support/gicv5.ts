// Owns: what a vCPU of a GICv5 VM does in the bench: its SPI set up as Linux does it, a handler,
// and a loop that leaves the guest again and again. Bench process.
import * as a64 from "../../test/support/a64.js";
import { gic, gicr, msrIcc } from "../../test/support/gicv5-code.js";

export const IRS = 0x801_0000;
export const V5_TYPE = 16;
export const ADDR_IRS = 6n;
const REGISTER = { CR0: 0x80, SPI_SELR: 0x108, SPI_CFGR: 0x114 };
const SPI = 0x6000_0000n;
const PRIORITY = 16n;
const PSCI_VERSION = 0x8400_0000n;
/** Registers of the loop that exits. */
const [LEFT, DEVICE] = [19, 28];

const poke = (address: number, value: number): number[] => [
  ...a64.mov(1, BigInt(address)),
  ...a64.mov(0, BigInt(value)),
  a64.strw(0, 1),
];

/** IRS on, the SPI's priority, mode and target, the CPU interface open. */
export function setUpV5(spi: number, cpu: number, config: "edge" | "level"): number[] {
  const typed = SPI | BigInt(spi);
  return [
    ...poke(IRS + REGISTER.CR0, 1),
    ...[...a64.mov(0, typed | (PRIORITY << 35n)), gic("CDPRI", 0)],
    ...poke(IRS + REGISTER.SPI_SELR, spi),
    ...poke(IRS + REGISTER.SPI_CFGR, config === "level" ? 1 : 0),
    ...[...a64.mov(0, typed | (BigInt(cpu) << 32n)), gic("CDAFF", 0)],
    ...[...a64.mov(0, typed), gic("CDEN", 0)],
    ...[...a64.mov(0, 0x1fn), msrIcc("ICC_PCR_EL1", 0)],
    ...[...a64.mov(0, 1n), msrIcc("ICC_CR0_EL1", 0), a64.ISB],
  ];
}

/** @param taken register for the INTID */
export function handlerV5(taken: number, work: readonly number[]): number[] {
  const take = [gicr(taken, "CDIA"), gic("GSB_ACK", 31), a64.ISB, gic("CDEOI", 31)];
  return [...take, ...work, gic("CDDI", taken), a64.ERET];
}

/** Leaves the guest `exits` times by a call that KVM answers, then by a store to a device. */
export function exiting(exits: number, device: number): number[] {
  const call = [...a64.mov(0, PSCI_VERSION), a64.HVC];
  const loop = [...call, a64.subs(LEFT, LEFT, 1), a64.bne(-(call.length + 1))];
  const all = [...a64.mov(LEFT, BigInt(exits)), ...loop, ...a64.mov(DEVICE, BigInt(device))];
  return [...all, a64.strw(LEFT, DEVICE), a64.b(-(all.length + 1))];
}
