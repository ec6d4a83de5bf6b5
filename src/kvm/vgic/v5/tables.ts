// Owns: the tables in host memory by which the IRS knows a VM: its entry in the VM table, its VPEs,
// and the state of its SPIs and LPIs. VM thread.
//
//   IRS_VMT_BASER ─▶ VM table ─▶ entry of the VM ─┬─▶ VPE table
//                                                 ├─▶ IST of SPIs: 4 bytes each
//                                                 └─▶ IST of LPIs, once the guest has asked for one
// @source arch/arm64/kvm/vgic/vgic-v5-tables.c by behaviour; interrupts.md 5.6 to 5.8
import { assert } from "../../../base/assert.js";
import {
  encodeVmte,
  INTID_TYPE,
  type InterruptDomain,
  IRS32,
  IRS64,
  type IstLayout,
  intidOf,
  VMAP,
  VMTE_BYTES,
  VMTE_VALID,
  VPETE_BYTES,
} from "../../../machine/index.js";
import type { Vm } from "../../vm.js";
import type { V5State } from "./state.js";

/** The VM's number in the VM table: a slice of a host runs one. */
export const VM_NUMBER = 1;
const VM_ID_BITS = 1;
const ENTRY_BYTES = 4;
const BASER_VALID = 1n;
const VM_SHIFT = 32n;

export class V5Tables {
  readonly #vm: Vm;
  readonly #state: V5State;

  constructor(vm: Vm, state: V5State) {
    this.#vm = vm;
    this.#state = state;
  }

  /** SPIs and LPIs of the VM as the hardware has them; null before INIT. */
  get domain(): InterruptDomain | null {
    return this.#vm.host.irs.domainOf(VM_NUMBER);
  }

  /** INIT. @returns false: there is no memory */
  allocate(): boolean {
    const { nrSpis, cpus, iaffidBits: idBits } = this.#state;
    const sizes = [VMTE_BYTES << VM_ID_BITS, VPETE_BYTES << idBits, ENTRY_BYTES * nrSpis];
    const places: number[] = [];
    for (const bytes of sizes) {
      const pa = this.#take(bytes);
      if (pa < 0) {
        for (const [at, taken] of places.entries()) this.#give(taken, sizes[at] ?? 0);
        return false;
      }
      places.push(pa);
    }
    const [vmt = 0, vpet = 0, spi = 0] = places;
    this.#state.vmtBase = vmt;
    this.#state.spiIstBase = spi;
    const layout = linear(spi, bitsFor(nrSpis), nrSpis);
    this.#writeEntry(
      encodeVmte({ spis: nrSpis, vpet: { base: vpet, idBits }, lpi: null, spi: layout }),
    );
    const { irs } = this.#vm.host;
    irs.write(IRS32.VMT_CFGR, 4, BigInt(VM_ID_BITS));
    irs.write(IRS64.VMT_BASER, 8, BigInt(vmt) | BASER_VALID);
    irs.write(IRS64.VMAP_VMR, 8, VMAP.M | BigInt(VM_NUMBER));
    for (const { vcpuId } of cpus) {
      irs.write(IRS64.VMAP_VPER, 8, VMAP.M | (BigInt(vcpuId) << VM_SHIFT) | BigInt(VM_NUMBER));
    }
    return true;
  }

  /** Made valid by the IRS itself. */
  #writeEntry(words: readonly bigint[]): void {
    for (const [n, word] of words.entries()) {
      this.#write64(this.#entryAt(n), n === 0 ? word & ~VMTE_VALID : word);
    }
  }

  #entryAt(word: number): number {
    return this.#state.vmtBase + VM_NUMBER * VMTE_BYTES + 8 * word;
  }

  #write64(pa: number, value: bigint): void {
    const { u32 } = this.#vm.host.memory;
    u32[pa >>> 2] = Number(value & 0xffff_ffffn);
    u32[(pa >>> 2) + 1] = Number(value >> 32n);
  }

  // ── LPIs ────────────────────────────────────────────────────────────────────────────────────

  /** The guest has made its table valid. @returns false: there is no memory */
  allocateLpis(idBits: number): boolean {
    assert(this.#state.lpiIstBase < 0, "a VM has one table of LPIs");
    const base = this.#take(ENTRY_BYTES << idBits);
    if (base < 0) return false;
    this.#state.lpiIstBase = base;
    this.#state.lpiIstBits = idBits;
    const layout = linear(base, idBits, 2 ** idBits);
    const [, , word = 0n] = encodeVmte({ spis: 0, vpet: null, lpi: layout, spi: null });
    this.#write64(this.#entryAt(2), word & ~VMTE_VALID);
    this.#mapLpis(VMAP.M);
    return true;
  }

  /** It has made it invalid: what LPIs were is gone. */
  freeLpis(): void {
    const { lpiIstBase, lpiIstBits } = this.#state;
    if (lpiIstBase < 0) return;
    this.#mapLpis(VMAP.U);
    this.#give(lpiIstBase, ENTRY_BYTES << lpiIstBits);
    this.#state.lpiIstBase = -1;
    this.#state.lpiIstBits = 0;
  }

  #mapLpis(how: bigint): void {
    const lpis = BigInt(intidOf(INTID_TYPE.LPI, 0));
    this.#vm.host.irs.write(IRS64.VMAP_VISTR, 8, how | (BigInt(VM_NUMBER) << VM_SHIFT) | lpis);
  }

  // ── memory ──────────────────────────────────────────────────────────────────────────────────

  /** Words of the SPIs' table, and of the LPIs'; these are what the hardware works on. */
  words(type: "spi" | "lpi"): Uint32Array {
    const { spiIstBase, lpiIstBase, lpiIstBits, nrSpis } = this.#state;
    const [base, count] = type === "spi" ? [spiIstBase, nrSpis] : [lpiIstBase, 2 ** lpiIstBits];
    return this.#vm.host.memory.u32.subarray(base >>> 2, (base >>> 2) + (base < 0 ? 0 : count));
  }

  #pages(bytes: number): number {
    return Math.ceil(bytes / this.#vm.pageSize);
  }

  #take(bytes: number): number {
    const { account, host, pageSize } = this.#vm;
    const pages = this.#pages(bytes);
    if (!account.charge(pages * pageSize)) return -1;
    const pa = host.frames.allocate(pages);
    if (pa < 0) account.release(pages * pageSize);
    return pa;
  }

  #give(pa: number, bytes: number): void {
    const pages = this.#pages(bytes);
    this.#vm.host.frames.release(pa, pages);
    this.#vm.account.release(pages * this.#vm.pageSize);
  }
}

function linear(base: number, idBits: number, count: number): IstLayout {
  return { base, idBits, count, entryBytes: ENTRY_BYTES, isTwoLevel: false, level2Bytes: 0 };
}

const bitsFor = (count: number): number => 32 - Math.clz32(count - 1);
