// Owns: what a GICv5 in the kernel shows of itself to whoever looks from outside: counters of SPI
// tracking, and one SPI with its IST entry. Data only. Any thread.
// @source interrupts.md 5.13; gicv5-observed.md 3.1
import type { Stateful } from "../../../base/saved.js";
import type { V5Counters } from "../../../base/v5-counters.table.js";

export type { V5Counters };

export interface V5SpiView {
  /** ID alone; typed it is 0x60000000 + id. */
  readonly id: number;
  readonly config: "edge" | "level";
  /** The line as userspace or an irqfd last drove it, and what is latched of an edge. */
  readonly lineLevel: boolean;
  readonly pendingLatch: boolean;
  /** What KVM would tell the hardware. */
  readonly pending: boolean;
  /** irq.active: as the last look of tracking left it. */
  readonly active: boolean;
  /** On the VM's list of SPIs in flight. */
  readonly isListed: boolean;
  readonly hasNotifier: boolean;
  /** Deactivated as a level SPI with a notifier, and nobody was told. */
  readonly isUnacknowledged: boolean;
  /** The entry of the SPI IST as it lies in memory; -1: the hardware doesn't reach it. */
  readonly iste: number;
}

/** One vCPU's CPU interface while it isn't in the guest. */
export interface V5CpuView {
  readonly vcpu: number;
  readonly index: number;
  readonly iaffid: number;
  readonly cr0: number;
  readonly pcr: number;
  readonly apr: number;
  readonly icsr: bigint;
  /** By PPI, those that the VM has. */
  readonly ppis: readonly {
    readonly id: number;
    readonly enabled: boolean;
    readonly pending: boolean;
    readonly active: boolean;
    readonly level: boolean;
    readonly priority: number;
    readonly lineLevel: boolean;
    /** A device in KVM that alone drives the line. */
    readonly owner: string | null;
  }[];
}

export interface V5View {
  readonly isInitialized: boolean;
  /** The IRS's frames are mapped: a vCPU has run. */
  readonly isReady: boolean;
  /** IPA of the IRS's configuration frame; null: not set. */
  readonly irsBase: bigint | null;
  readonly nrSpis: number;
  /** IRS_CR0.IRSEN. */
  readonly enabled: boolean;
  readonly cr1: number;
  readonly istBaser: bigint;
  readonly istCfgr: number;
  /** Bits of an LPI's ID; 0: the VM has no table of LPIs. */
  readonly lpiIdBits: number;
  readonly tracking: string;
  /** IDs on the list of SPIs in flight, in its order. */
  readonly inFlight: readonly number[];
  readonly counters: Readonly<V5Counters>;
  readonly cpus: readonly V5CpuView[];
}

/** What no attribute tells of an SPI; those that are as after INIT aren't there. */
export interface V5SpiLatent {
  readonly id: number;
  readonly config: "edge" | "level";
  readonly lineLevel: boolean;
  readonly pendingLatch: boolean;
  readonly active: boolean;
  readonly keepsLevel: boolean;
  readonly owedSince: number;
  readonly streak: number;
}

/** What KVM keeps and no attribute tells: it travels beside registers and tables. */
export interface V5Latent {
  readonly spis: readonly V5SpiLatent[];
  /** PPIs whose line is high, by creation order of the vCPUs. */
  readonly lines: readonly (readonly number[])[];
  /** SPI tracking: IDs in flight, in order; those that nobody listens to; level SPIs that rose. */
  readonly list: readonly number[];
  readonly untracked: readonly { readonly id: number; readonly latch: boolean }[];
  readonly raised: readonly number[];
  readonly counters: Readonly<V5Counters>;
}

/** `vm.vgic.v5`: what other rooms may ask of a VM's GICv5, and the state that moves. */
export interface V5Port extends Stateful {
  readonly counters: Readonly<V5Counters>;
  view(): V5View;
  /** @returns null: the VM has no such SPI */
  spi(id: number): V5SpiView | null;
  /** IDs on the list of SPIs in flight, in its order. */
  inFlight(): readonly number[];
  readonly nrSpis: number;
  /** KVM_DEV_ARM_VGIC_GRP_IST, without the way through userspace's memory. */
  saveIst(): { readonly spi: Uint8Array; readonly lpi: Uint8Array | null };
  /** @throws KvmError EBUSY, EINVAL */
  restoreIst(spi: Uint8Array, lpi: Uint8Array | null): void;
  latent(): V5Latent;
  /** After registers and tables. @returns null, or why it is another controller's */
  loadLatent(latent: V5Latent): string | null;
  /** All as INIT has left it; no vCPU is in the guest. */
  reset(): void;
}
