// Owns: the points at which the run loop and an interrupt controller meet, and the inputs from
// outside (DESIGN 13). VM thread.
//
//   before entry   flush        queued interrupts go into the list registers
//   after exit     fold         what the guest did with them comes back
//   before block   hasPending   whether the vCPU may sleep
//   on a change    kick         a vCPU that runs or sleeps must look again
import type { ErrnoName } from "../../base/errno.table.js";
import type { HostCpu } from "../../machine/index.js";
import { KVM_MAX_VCPUS } from "../uapi/flags.js";
import type { Vcpu } from "../vcpu.js";
import type { VgicDist } from "./dist.js";
import type { V5Port } from "./v5/view.js";

export interface Vgic {
  readonly name: "none" | "v2" | "v3" | "v5";
  /** Of a GICv2 or v3. */
  readonly dist: VgicDist | null;
  /** Of a GICv5. */
  readonly v5: V5Port | null;
  /** vCPUs that it serves at most. */
  readonly maxVcpus: number;
  /** KVM_CREATE_VCPU is about to make one. @returns the errno that it fails with */
  checkVcpu(): ErrnoName | null;
  /** KVM_CREATE_VCPU made one. */
  addVcpu(vcpu: Vcpu): void;
  /** kvm_vgic_map_resources, at the first run. @returns the errno that KVM_RUN fails with */
  firstRun(): ErrnoName | null;
  /** INIT was done. */
  readonly isInitialized: boolean;
  /** KVM_ARCH_FLAG_TIMER_PPIS_IMMUTABLE: timers drive their PPIs. */
  readonly isConnected: boolean;
  /**
   * kvm_vgic_inject_irq of userspace.
   * @param vcpu whose PPI; null: an SPI
   * @returns EBUSY before INIT, EINVAL for an interrupt that isn't there
   */
  injectLine(vcpu: Vcpu | null, intid: number, level: boolean): ErrnoName | null;
  /** The PMU drives this interrupt from now on. @returns EINVAL, EEXIST */
  claimPmu(vcpu: Vcpu, intid: number): ErrnoName | null;
  flush(vcpu: Vcpu, cpu: HostCpu): void;
  fold(vcpu: Vcpu, cpu: HostCpu): void;
  /** The vCPU has left the guest, not only its turn: before anything is done about why. */
  exited(vcpu: Vcpu): void;
  /** The vCPU leaves its CPU. */
  put(vcpu: Vcpu, cpu: HostCpu): void;
  hasPending(vcpu: Vcpu): boolean;
  kick(vcpu: Vcpu): void;
  /** Lines of its timers and PMU may have changed. */
  syncLines(vcpu: Vcpu): void;
  /** Drives an SPI's line. @param pin INTID - 32; one that is not there is nobody's */
  setSpi(pin: number, level: boolean): void;
  /** Whether an SPI keeps its line's level while it is configured as edge-triggered. */
  keepLevel(pin: number, isKept: boolean): void;
  /** Who listens to a GSI has changed, or GSIs have other pins. */
  notifiersChanged(): void;
  /** A trapped access to the CPU interface: an SGI, DIR of what no list register has, CDDI. */
  trap(vcpu: Vcpu, esr: bigint): void;
  /**
   * A guest access that no memory takes.
   * @param store bytes of a store; null: a load
   * @returns bytes of a load, empty for a store; null: no frame is there
   */
  mmio(vcpu: Vcpu, ipa: number, length: number, store: Uint8Array | null): Uint8Array | null;
}

const NOTHING = (): void => {};

/** A VM without an in-kernel controller: nothing is queued, nothing wakes. */
export const nullVgic: Vgic = {
  name: "none",
  dist: null,
  v5: null,
  maxVcpus: KVM_MAX_VCPUS,
  checkVcpu: () => null,
  addVcpu: NOTHING,
  firstRun: () => null,
  isInitialized: false,
  isConnected: false,
  injectLine: () => "ENXIO",
  claimPmu: () => "EINVAL",
  flush: NOTHING,
  fold: NOTHING,
  exited: NOTHING,
  put: NOTHING,
  hasPending: () => false,
  kick: (vcpu) => vcpu.wait.wake(),
  syncLines: NOTHING,
  setSpi: NOTHING,
  keepLevel: NOTHING,
  notifiersChanged: NOTHING,
  trap: NOTHING,
  mmio: () => null,
};
