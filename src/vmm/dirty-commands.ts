// Owns: commands around dirty tracking's hardware, as types: settings, registers, faults,
// diagnostics. Part of VmCommands; plain data on both sides. Any thread.
import type { SettingValue } from "../base/settings.js";

/** What is in force now, keys as in dirty-settings.ts. */
export interface DirtyView {
  readonly settings: Readonly<Record<string, SettingValue>>;
  readonly seedBugs: readonly string[];
}

/** HDBSSBR_EL2 or HACDBSBR_EL2. */
export interface BaseRegisterView {
  readonly raw: bigint;
  /** Bits 55:12 as written. */
  readonly baddr: bigint;
  readonly sz: number;
  readonly isReservedSize: boolean;
  /** Where hardware goes: BADDR aligned down to the size. */
  readonly base: bigint;
  /** Entries; 0 for a reserved size. */
  readonly capacity: number;
  readonly bytes: number;
}

export interface HdbssEntryView {
  readonly index: number;
  /** Physical address of the slot. */
  readonly address: bigint;
  readonly raw: bigint;
  readonly valid: boolean;
  readonly ttwl: number;
  /** Level of the descriptor, -2 to 3; null for a reserved code. */
  readonly level: number | null;
  readonly ipa: bigint;
  readonly nsIpa: boolean;
  /** Below INDEX: what is beyond means nothing. */
  readonly isProduced: boolean;
}

export interface HdbssView {
  readonly vcpu: number;
  /** HDBSS is enabled in this VM. */
  readonly isOn: boolean;
  /** Registers of the CPU that the vCPU is loaded on, or KVM's copy; none: it has no buffer. */
  readonly source: "live" | "saved" | "none";
  readonly hostCpu: number | null;
  /** The base lies in a buffer that KVM gave this vCPU. */
  readonly isOwned: boolean;
  readonly br: BaseRegisterView;
  readonly prod: {
    readonly raw: bigint;
    readonly index: number;
    readonly fsc: number;
    readonly fscName: string;
  };
  readonly isFull: boolean;
  readonly from: number;
  readonly entries: readonly HdbssEntryView[];
}

export interface HacdbsView {
  readonly hostCpu: number;
  readonly loadedVcpu: number | null;
  readonly br: BaseRegisterView & { readonly en: boolean };
  readonly cons: {
    readonly raw: bigint;
    readonly index: number;
    readonly err: number;
    readonly errName: string;
  };
  /** EN as it takes effect: EL3 may withhold the feature. */
  readonly isEnabled: boolean;
  readonly isRunning: boolean;
  readonly isFinished: boolean;
  /** Level of HACDBSIRQ. */
  readonly irq: boolean;
  /** Since the VM's thread began. */
  readonly counts: {
    readonly entries: number;
    readonly cleaned: number;
    readonly alreadyClean: number;
    readonly skipped: number;
    readonly terminators: number;
  };
}

/** A fault that was armed; kinds as in machine/dirty/faults.ts. */
export interface FaultView {
  readonly id: number;
  readonly kind: string;
  /** The event that goes wrong, counted from 1 on from when it was armed. */
  readonly nth: number;
  /** Only events of this vCPU count; null: everybody's. */
  readonly vcpu: number | null;
  /** How often; null: at every multiple of nth. */
  readonly times: number | null;
  /** Scheduler steps, for kinds that delay. */
  readonly delay: number;
  readonly seen: number;
  readonly hits: number;
  readonly isArmed: boolean;
}

/** A fault hit, `hits` times since the last news of it. */
export interface FaultNews {
  readonly kind: "fault-injected";
  readonly fault: number;
  readonly what: string;
  /** Whose event it was; -1 for nobody's. */
  readonly vcpu: number;
  readonly hits: number;
}

export interface DiagnosticView {
  readonly kind: string;
  readonly count: number;
  /** The last one in words; null while there was none. */
  readonly last: string | null;
}

/** What a trapped access of L1, or a store of L2, led to; L1 is a model, no guest at EL2. */
export interface NestedView {
  readonly outcome: "undefined" | "written" | "ran" | "stored" | "fault";
  readonly idField: number;
  readonly registers: Readonly<
    Record<"HDBSSBR_EL2" | "HACDBSBR_EL2" | "HDBSSPROD_EL2" | "HACDBSCONS_EL2", bigint>
  > | null;
  readonly cleaned: number;
  readonly invalidated: number;
  readonly irq: boolean;
}

export interface DirtyCommands {
  /** ServiceError "validation", "fault-limit". */
  armFault: [
    {
      kind: string;
      nth: number;
      vcpu: number | null;
      times: number | null;
      delay: number;
    },
    FaultView,
  ];
  listFaults: [Record<string, never>, readonly FaultView[]];
  /** ServiceError "fault-not-found". */
  disarmFault: [{ id: number }, null];
  describeDiagnostics: [Record<string, never>, readonly DiagnosticView[]];
  /** Slots [from, from + limit) of the vCPU's buffer. */
  readHdbss: [{ vcpu: number; from: number; limit: number }, HdbssView];
  /** ServiceError "host-cpu-not-found". */
  readHacdbs: [{ hostCpu: number }, HacdbsView];
  /** What tells the host's kernel of HACDBSIRQ: "madt" or "device-tree". */
  readFirmware: [{ table: string }, Uint8Array];
  /**
   * A register of L1 written: it traps. `vncr`: guest-physical address of L1's VNCR page.
   * @throws ServiceError "validation" no such register
   */
  writeNestedRegister: [{ vncr: bigint; register: string; value: bigint }, NestedView];
  /** A store of L2 by way of L0's shadow stage 2. */
  storeNested: [{ vncr: bigint; ipa: bigint }, NestedView];
  describeDirty: [Record<string, never>, DirtyView];
  /**
   * All or nothing. `seedBugs` null leaves the defects as they are.
   * @throws ServiceError "setting-fixed" for one that may not change any more, "validation"
   */
  changeDirty: [
    {
      settings: Readonly<Record<string, SettingValue>>;
      seedBugs: readonly string[] | null;
    },
    DirtyView,
  ];
}
