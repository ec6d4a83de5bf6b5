// Owns: a VM with a GICv3 in a real service, set up as selftests have it. Test process.
import * as a64 from "./a64.js";
import { msrIcc } from "./irq-code.js";
import { type Call, type HttpCpu, type HttpDevice, HttpVm, TYPE } from "./irq-http.js";
import { ADDR, CTRL_INIT, DIST, GICD, GROUP, REDIST } from "./irq-uapi.js";
import { ITS_BASE } from "./its-code.js";

const REDIST_BYTES = 0x2_0000;
const SGI_FRAME = 0x1_0000;
const PRIORITY_WORD = 0xa0a0_a0a0;
/** Stores that one snippet holds. */
const BATCH = 100;

export interface V3 {
  readonly vm: HttpVm;
  readonly device: HttpDevice;
  readonly cpus: readonly HttpCpu[];
}

export interface V3Options {
  readonly vcpus?: number;
  readonly nrIrqs?: number;
  readonly isSplit?: boolean;
  readonly its?: boolean;
  readonly body?: object;
  readonly onTaken?: readonly number[];
}

const frameOf = (cpu: number): number => REDIST + cpu * REDIST_BYTES + SGI_FRAME;

/** 32-bit stores, a hundred of them in one go of the guest. */
export async function stores(
  cpu: HttpCpu,
  pairs: readonly (readonly [number, number])[],
): Promise<void> {
  for (let at = 0; at < pairs.length; at += BATCH) {
    const words = pairs
      .slice(at, at + BATCH)
      .flatMap(([address, value]) => [
        ...a64.mov(1, BigInt(address)),
        ...a64.mov(0, BigInt(value >>> 0)),
        a64.strw(0, 1),
      ]);
    await cpu.exec(...words);
  }
}

/** Every interrupt enabled with one priority, SPIs on vCPU 0. */
async function open(cpu: HttpCpu, index: number, nrIrqs: number, isSplit: boolean): Promise<void> {
  const frame = frameOf(index);
  const pairs: [number, number][] = [[frame + GICD.ISENABLER, 0xffff_ffff]];
  for (let n = 0; n < 32; n += 4) pairs.push([frame + GICD.IPRIORITYR + n, PRIORITY_WORD]);
  if (index === 0) {
    pairs.push([DIST + GICD.CTLR, 0x12]);
    for (let n = 32; n < nrIrqs; n += 4) pairs.push([DIST + GICD.IPRIORITYR + n, PRIORITY_WORD]);
    for (let n = 32; n < nrIrqs; n += 32) pairs.push([DIST + GICD.ISENABLER + n / 8, 0xffff_ffff]);
  }
  await stores(cpu, pairs);
  await cpu.exec(
    ...a64.mov(0, 0xf0n),
    msrIcc("ICC_PMR_EL1", 0),
    ...a64.mov(0, isSplit ? 2n : 0n),
    msrIcc("ICC_CTLR_EL1", 0),
    ...a64.mov(0, 1n),
    msrIcc("ICC_IGRPEN1_EL1", 0),
    a64.ISB,
  );
}

export async function startV3(call: Call, options: V3Options = {}): Promise<V3> {
  const { vcpus = 1, nrIrqs = 64, isSplit = false, its = false, body = {}, onTaken = [] } = options;
  const vm = await HttpVm.create(call, body);
  const cpus: HttpCpu[] = [];
  for (let id = 0; id < vcpus; id++) cpus.push(await vm.cpu(id));
  const device = await vm.device(TYPE.V3);
  await device.set(GROUP.NR_IRQS, 0, nrIrqs);
  await device.set(GROUP.ADDR, ADDR.V3_DIST, DIST, 8);
  await device.set(GROUP.ADDR, ADDR.V3_REDIST, REDIST, 8);
  await device.setNothing(GROUP.CTRL, CTRL_INIT);
  if (its) {
    const made = await vm.device(TYPE.ITS);
    await made.set(GROUP.ADDR, 4, ITS_BASE, 8);
    await made.setNothing(GROUP.CTRL, CTRL_INIT);
  }
  for (const [index, cpu] of cpus.entries()) {
    await cpu.setHandler(isSplit, onTaken);
    await open(cpu, index, nrIrqs, isSplit);
  }
  return { vm, device, cpus };
}

/** A word per 32 interrupts of a register of one bit each, as the guest reads it. */
export async function wordsOf(cpu: HttpCpu, register: number, nrIrqs: number): Promise<number[]> {
  const words: number[] = [];
  for (let n = 0; n < nrIrqs; n += 32) {
    words.push(await cpu.read((n === 0 ? frameOf(0) : DIST) + register + n / 8));
  }
  return words;
}
