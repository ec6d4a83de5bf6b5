// Owns: a host with a VM table and one VM in it, for tests of GICv5's silicon. Test process.

import { VPETE } from "../../src/machine/gic/gicv5/vm-table.js";
import {
  encodeVmte,
  Host,
  type HostCpu,
  INTID_TYPE,
  IRS32,
  IRS64,
  intidOf,
  VMAP,
  VMTE_BYTES,
  VPETE_BYTES,
} from "../../src/machine/index.js";

const PAGE = 4096; // tidy: a page size of the host
const MEMORY_BYTES = 64 * 2 ** 20;
const VALID = 1n;

export const spi = (id: number): number => intidOf(INTID_TYPE.SPI, id);
export const lpi = (id: number): number => intidOf(INTID_TYPE.LPI, id);
export const ppi = (id: number): number => intidOf(INTID_TYPE.PPI, id);

export interface VmShape {
  readonly spis?: number;
  readonly lpiBits?: number | null;
  readonly vpes?: number;
}

/** Tables of one VM, by host addresses. */
export interface VmTables {
  readonly vm: number;
  readonly vpet: number;
  readonly spis: number;
  readonly lpis: number | null;
}

export class Gicv5Host {
  readonly host = new Host({ pageSize: PAGE, seed: 1n, memoryBytesMax: MEMORY_BYTES });
  readonly vmt: number;

  constructor(cpus = 2) {
    for (let n = 0; n < cpus; n++) this.host.addCpu();
    this.vmt = this.#frames(2 ** 8 * VMTE_BYTES);
    this.irs.write(IRS32.VMT_CFGR, 4, 8n);
    this.irs.write(IRS64.VMT_BASER, 8, BigInt(this.vmt) | VALID);
  }

  get irs() {
    return this.host.irs;
  }

  cpu(n: number): HostCpu {
    return this.host.cpus[n]!;
  }

  #frames(bytes: number): number {
    return this.host.frames.allocate(Math.ceil(bytes / PAGE));
  }

  /** As a hypervisor does it: an entry without VALID, then VMAP_VMR and VMAP_VPER. */
  addVm(vm: number, { spis = 64, lpiBits = 8, vpes = 2 }: VmShape = {}): VmTables {
    const { memory } = this.host;
    const linear = { entryBytes: 4, isTwoLevel: false, level2Bytes: PAGE } as const;
    const vpet = this.#frames(2 ** 4 * VPETE_BYTES);
    const spiBase = this.#frames(4 * spis);
    const lpis = lpiBits === null ? null : this.#frames(4 * 2 ** lpiBits);
    const idBits = Math.ceil(Math.log2(spis));
    const words = encodeVmte({
      spis,
      vpet: { base: vpet, idBits: 4 },
      lpi: lpis === null ? null : { ...linear, base: lpis, idBits: lpiBits!, count: 2 ** lpiBits! },
      spi: { ...linear, base: spiBase, idBits, count: spis },
    });
    for (const [n, word] of words.entries()) {
      memory.write64(this.vmt + vm * VMTE_BYTES + 8 * n, n === 0 ? word & ~VALID : word);
    }
    this.irs.write(IRS64.VMAP_VMR, 8, VMAP.M | BigInt(vm));
    for (let vpe = 0; vpe < vpes; vpe++) {
      this.irs.write(IRS64.VMAP_VPER, 8, VMAP.M | (BigInt(vpe) << 32n) | BigInt(vm));
    }
    return { vm, vpet, spis: spiBase, lpis };
  }

  /** Loads a VPE on a CPU, with its interface open for every priority. */
  enter(cpu: number, vm: number, vpe: number, hasDoorbell = true, doorbellMask = 31): void {
    const { gicv5 } = this.cpu(cpu);
    gicv5.setContext({ vm, vpe, isIrsEnabled: true, hasDoorbell, doorbellMask });
    gicv5.poke("ICC_PCR_EL1", 31n);
    gicv5.poke("ICC_CR0_EL1", 1n);
  }

  /** Enabled, with a priority and an affinity. */
  setUp(vm: number, intid: number, priority = 8, iaffid = 0): void {
    const domain = this.irs.domainOf(vm)!;
    domain.enable(intid, true);
    domain.priority(intid, priority);
    domain.affinity(intid, iaffid);
  }

  /** Bits of a VPE's entry. */
  vpete({ vpet }: VmTables, vpe: number): { isValid: boolean; isResident: boolean; db: boolean } {
    const word = this.host.memory.read32(vpet + vpe * VPETE_BYTES);
    return {
      isValid: (word & VPETE.VALID) !== 0,
      isResident: (word & VPETE.RESIDENT) !== 0,
      db: (word & VPETE.DB) !== 0,
    };
  }
}
