// Owns: a VM of a real service whose guest takes one interrupt, a level-sensitive SPI of its GICv3.
// Test process.
import { expect } from "vitest";
import { type Call, type HttpCpu, HttpVm, TYPE } from "./irq-http.js";
import { ADDR, CTRL_INIT, GICD, GROUP } from "./irq-uapi.js";

export const SPI = 40;
/** Its line's number for irqfds. */
export const GSI = SPI - 32;
const [DIST, REDIST] = [0x800_0000, 0x80a_0000];

export interface Served {
  readonly vm: HttpVm;
  readonly cpu: HttpCpu;
}

export async function served(call: Call): Promise<Served> {
  const vm = await HttpVm.create(call);
  await vm.createVcpu(0);
  const device = await vm.device(TYPE.V3);
  await device.set(GROUP.ADDR, ADDR.V3_DIST, DIST, 8);
  await device.set(GROUP.ADDR, ADDR.V3_REDIST, REDIST, 8);
  expect(await device.setNothing(GROUP.CTRL, CTRL_INIT)).toBeNull();
  const cpu = await vm.bootCpu(0);
  await cpu.setHandler(false);
  const bit = 1 << (SPI % 32);
  await cpu.write(DIST + GICD.CTLR, 2);
  await cpu.write(DIST + GICD.IGROUPR + 4, bit);
  await cpu.write(DIST + GICD.ICFGR + 8, 0);
  await cpu.write(DIST + GICD.ISENABLER + 4, bit);
  await cpu.icc("ICC_PMR_EL1", 0xffn);
  await cpu.icc("ICC_IGRPEN1_EL1", 1n);
  return { vm, cpu };
}
