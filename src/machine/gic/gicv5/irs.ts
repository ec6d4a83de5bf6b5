// Owns: the host's Interrupt Routing Service: its own domain of SPIs and LPIs, its configuration
// frame, and the VMs that it knows. VM thread.
import type { Saved } from "../../../base/saved.js";
import { InterruptDomain } from "./domain.js";
import { INTID_TYPE } from "./intid.js";
import { IrsFrame, type IrsIdentity } from "./irs-frame.js";
import type { TableMemory } from "./ist.js";
import { SpiState, SpiWires } from "./spi-wires.js";
import { type Resident, Vms } from "./vms.js";

export interface IrsConfig extends IrsIdentity {
  readonly spis: number;
  /** How many looks of the hypervisor come before a VDPEND takes effect. */
  vdpendLatency(): number;
}

export class Irs {
  /** The Non-secure domain of the host itself. */
  readonly physical = new InterruptDomain();
  readonly #config: IrsConfig;
  readonly #spis: SpiState;
  readonly #wires: SpiWires;
  readonly #frame: IrsFrame;
  readonly #vms: Vms;
  readonly #pes = new Map<number, Resident>();

  constructor(memory: TableMemory, config: IrsConfig) {
    this.#config = config;
    this.#spis = new SpiState(config.spis);
    this.#wires = new SpiWires(this.physical, config.spis);
    this.#vms = new Vms(memory, () => config.vdpendLatency());
    this.#frame = new IrsFrame(config, this.physical, this.#wires, memory, this.#vms);
    this.physical.isEnabled = false;
    this.physical.setTable(INTID_TYPE.SPI, this.#spis);
    this.physical.onCandidate = (iaffid) => this.#pes.get(iaffid)?.candidateChanged();
  }

  /** A 4-KiB-aligned frame of 64 KiB. "abort": an access of fewer than 4 bytes. */
  read(offset: number, bytes: number): bigint | "abort" {
    return this.#frame.read(offset, bytes);
  }

  write(offset: number, bytes: number, value: bigint): "abort" | undefined {
    return this.#frame.write(offset, bytes, value);
  }

  /** The input wire of an SPI. */
  setSpiLine(id: number, level: boolean): void {
    this.#wires.setLine(id, level);
  }

  /** A CPU that takes interrupts of the host's own domain. */
  connect(iaffid: number, pe: Resident): void {
    this.#pes.set(iaffid, pe);
  }

  get config(): IrsConfig {
    return this.#config;
  }

  get vms(): Vms {
    return this.#vms;
  }

  /** GIC VDPEND of the hypervisor. */
  vdpend(vm: number, intid: number, pending: boolean): void {
    this.#vms.vdpend(vm, intid, pending);
  }

  /** GIC VDRCFG of the hypervisor. @returns ICSR */
  vdrcfg(vm: number, intid: number): bigint {
    return this.#vms.vdrcfg(vm, intid);
  }

  /** GSB SYS: what was under way is over. */
  gsbSys(): void {
    this.#vms.gsbSys();
  }

  /** A PE was left: one look of the hypervisor passes. */
  elapse(): void {
    this.#vms.elapse();
  }

  /** The SPIs and LPIs of a VM, by the bytes of the VM table. */
  domainOf(vm: number): InterruptDomain | null {
    return this.#vms.domainOf(vm);
  }

  set onDoorbell(hear: ((vm: number, vpe: number) => void) | null) {
    this.#vms.onDoorbell = hear;
  }

  set onDeactivated(hear: ((vm: number, intid: number) => void) | null) {
    this.#vms.onDeactivated = hear;
  }

  save(): Saved {
    const data = {
      spis: this.#spis.words.slice(),
      wires: this.#wires.save(),
      frame: this.#frame.save(),
      vms: this.#vms.save(),
      physical: this.physical.save(),
    };
    return { kind: "irs", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as {
      spis: Uint32Array;
      wires: Saved;
      frame: Saved;
      vms: Saved;
      physical: Saved;
    };
    this.#spis.words.set(data.spis);
    this.#wires.load(data.wires);
    this.#frame.load(data.frame);
    this.#vms.load(data.vms);
    this.physical.load(data.physical);
  }
}
