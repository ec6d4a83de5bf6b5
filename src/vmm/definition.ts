// Owns: what a VM is made from; the durable part of a VM. Plain data. Runs on any thread.
import type { PageSize } from "../base/page.js";
import type { SettingValue } from "../base/settings.js";

export type ClockMode = "virtual" | "wall";
export type IdlePolicy = "jump" | "paced";
/** How stores to logged pages are noticed; see docs/dirty-tracking.md. */
export type DirtyTracking = "write-protect" | "dbm";

/** Settings of the dirty hardware and of KVM's use of it, and defects that are switched on. */
export interface DirtyDefinition {
  readonly settings: Readonly<Record<string, SettingValue>>;
  /** Keys of kvm/dirty/seed-bug.table.ts. */
  readonly seedBugs: readonly string[];
}

/** An image as a VM was given it: the name may come to mean another one, the bytes may not. */
export interface ImageRef {
  readonly name: string;
  /** Lower-case hex digits. */
  readonly sha256: string;
  readonly size: number;
}

/** Versions of Arm's Generic Interrupt Controller that a board can have. */
export type GicVersion = 2 | 3 | 5;

/** The machine that the vmm builds around KVM's VM (DESIGN 10). What is absent isn't there. */
export interface BoardDefinition {
  /** null: the firmware finds what to start. */
  readonly image: ImageRef | null;
  readonly initrd: ImageRef | null;
  readonly cmdline: string;
  readonly memoryMiB: number;
  readonly vcpus: number;
  /** Version of the interrupt controller; absent: nothing interrupts. */
  readonly gic?: GicVersion;
  /** The ITS of a GICv3. */
  readonly its?: true;
  /** Entries of each vCPU's dirty ring; absent: KVM's bitmaps. @source QEMU dirty-ring-size */
  readonly dirtyRingEntries?: number;
  /** PL031. */
  readonly rtc?: true;
  /** A PCIe host bridge with a pci-testdev on its bus. */
  readonly pci?: true;
  /** Register layout of the virtio transports; absent: modern. */
  readonly virtio?: "modern" | "legacy";
  /** virtio-blk over these bytes; what the guest writes lasts as long as the VM. */
  readonly disk?: ImageRef;
  /** virtio-rng. */
  readonly rng?: true;
  /** virtio-console beside the UART; "testdev": `<code>q` on it ends the guest. */
  readonly console?: "virtio" | "testdev";
  /** Flash and fw_cfg, and this in the first bank, entered at reset. */
  readonly firmware?: ImageRef;
}

/** Everything needed to build the same VM again. u64 as bigint. */
export interface VmDefinition {
  /** KVM_CREATE_VM's argument: bits 7:0 IPA size in bits, 0 means 40. */
  readonly type: bigint;
  /** Host profile: page size of the emulated host, so stage-2 granule (DESIGN 6). */
  readonly pageSize: PageSize;
  /** Host CPUs of the slice; 0 means as many as vCPUs (DESIGN 1). */
  readonly hostCpus: number;
  /** Seeds every pseudo-random choice of the VM. */
  readonly seed: bigint;
  readonly clock: {
    readonly mode: ClockMode;
    /** Virtual time of one retired access or instruction, 1 to 1000000. */
    readonly nsPerInstruction: number;
    readonly idle: IdlePolicy;
  };
  readonly dirtyTracking: DirtyTracking;
  /** What differs from the tables of settings; absent: nothing. */
  readonly dirty?: DirtyDefinition;
  /** Absent: the client is the VMM. */
  readonly board?: BoardDefinition;
}

/** One application of a command: when it took effect, in the VM's own time (DESIGN 4). */
export interface Stamp {
  /** Position in the VM's command sequence, from 0. */
  readonly seq: number;
  /** Scheduler steps done before it. */
  readonly step: number;
  /** Instructions and accesses retired by all vCPUs before it. */
  readonly instructions: number;
  /** Virtual nanoseconds before it. */
  readonly virtualNs: number;
  /** Whether the step before it was cut short to let it in; a replay cuts at the same count. */
  readonly cut: boolean;
}
