// Owns: KVM_CHECK_EXTENSION and KVM_ENABLE_CAP. VM thread; the system-level check on any thread.
// @source virt/kvm/kvm_main.c, arch/arm64/kvm/arm.c by behaviour; kvm-uapi.md 3.3, 4.1
import { isPowerOfTwo } from "../base/bits.js";
import { KvmError } from "../base/errors.js";
import { HDBSS_BYTES_MAX } from "./dirty/hdbss-cap.js";
import type { HdbssPort } from "./dirty/hdbss-port.js";
import { eagerSplitChunk, hasHdbss } from "./dirty/leaf-policy.js";
import type { Op } from "./sched/scheduler.js";
import { CAPS, type CapRow } from "./uapi/cap.table.js";
import { KVM_RING_BYTES_MAX } from "./uapi/derived.js";
import {
  KVM_DIRTY_GFN_BYTES,
  KVM_DIRTY_LOG,
  KVM_DIRTY_RING_RSVD_ENTRIES,
  KVM_MAX_VCPUS,
} from "./uapi/flags.js";
import type { Vm } from "./vm.js";

const BY_NUMBER: ReadonlyMap<number, CapRow> = new Map(CAPS.map((row) => [row.number, row]));
const U32_MAX = 0xffff_ffffn;

/** Facts of the machine that a capability's value may name. */
export interface HostCaps {
  readonly hostCpus: number;
  /** Leaf sizes in bytes that stage 2 supports. */
  readonly leafSizes: readonly number[];
}

/**
 * KVM_CHECK_EXTENSION on the system descriptor.
 * @returns 0 for what is unknown or not there
 * @throws KvmError EINVAL for the two capabilities that only a VM can answer
 */
export function checkExtension(cap: number, host: HostCaps, vm: Vm | null): number {
  const value = BY_NUMBER.get(cap)?.value ?? 0;
  if (typeof value === "number") return value;
  if (value === "host-cpus") return host.hostCpus;
  if (value === "vm:eager-split") return vm === null ? 0 : Number(eagerSplitChunk(vm));
  if (value === "vm:block-sizes") return host.leafSizes.reduce((mask, size) => mask + size, 0);
  if (value === "vm:max-vcpus") return vm?.maxVcpus ?? KVM_MAX_VCPUS;
  if (isHdbssCap(value)) return hdbssCap(value, vm);
  if (vm === null) {
    throw new KvmError("EINVAL", "KVM_CHECK_EXTENSION", "only a VM can answer this capability");
  }
  return value === "vm-only:msi-devid" && vm.vgic.dist?.hasIts === true ? 1 : 0;
}

type Enable = (vm: Vm, flags: number, args: readonly bigint[]) => Op<null> | null;

const einval = (why: string) => new KvmError("EINVAL", "KVM_ENABLE_CAP", why);

const ENABLE: Readonly<Record<string, Enable>> = {
  KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: (vm, flags, args) => {
    const value = args[0] ?? 0n;
    if (flags !== 0) throw einval("flags must be 0");
    const allowed = BigInt(KVM_DIRTY_LOG.MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG.INITIALLY_SET);
    if ((value & ~allowed) !== 0n || value === BigInt(KVM_DIRTY_LOG.INITIALLY_SET)) {
      throw einval("args[0] must be 0, 1 (manual protect) or 3 (with INITIALLY_SET)");
    }
    vm.caps.manualDirtyLogProtect = Number(value);
    return null;
  },
  KVM_CAP_HALT_POLL: (vm, flags, args) => {
    const value = args[0] ?? 0n;
    if (flags !== 0 || value > U32_MAX) throw einval("flags must be 0 and args[0] fit 32 bits");
    vm.caps.haltPollNs = Number(value);
    return null;
  },
  KVM_CAP_ARM_NISV_TO_USER: (vm, flags) => {
    if (flags !== 0) throw einval("flags must be 0");
    vm.caps.nisvToUser = true;
    return null;
  },
  KVM_CAP_ARM_SEA_TO_USER: (vm, flags) => {
    if (flags !== 0) throw einval("flags must be 0");
    vm.caps.seaToUser = true;
    return null;
  },
  KVM_CAP_ARM_SYSTEM_SUSPEND: (vm, flags) => {
    if (flags !== 0) throw einval("flags must be 0");
    vm.firmware.systemSuspend = true;
    return null;
  },
  KVM_CAP_ARM_WRITABLE_IMP_ID_REGS: (vm, flags) => {
    if (flags !== 0) throw einval("flags must be 0");
    if (vm.vcpus.length > 0) throw einval("too late: the VM has vCPUs");
    vm.caps.writableImpIdRegs = true;
    return null;
  },
  KVM_CAP_DIRTY_LOG_RING_ACQ_REL: (vm, _flags, args) => enableRing(vm, args[0] ?? 0n),
  KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP: (vm, flags) => {
    if (vm.caps.dirtyRingBytes === 0) throw einval("enable the dirty ring first");
    if (flags !== 0) throw einval("flags must be 0");
    if (vm.slots.size > 0) throw einval("too late: the VM has memory slots");
    vm.caps.dirtyRingWithBitmap = true;
    return null;
  },
  KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE: (vm, flags, args) => {
    const value = args[0] ?? 0n;
    if (flags !== 0) throw einval("flags must be 0");
    if (vm.slots.size > 0) throw einval("too late: the VM has memory slots");
    const sizes = vm.host.geometry.leafSizes;
    if (value !== 0n && !sizes.some((size) => BigInt(size) === value)) {
      throw einval(`args[0] must be 0 or one of ${sizes.join(", ")}`);
    }
    vm.caps.eagerSplitChunkSize = value;
    return null;
  },
  KVM_CAP_ARM_HW_DIRTY_STATE_TRACK: (vm, flags, args) =>
    hdbssOf(vm, "arm-specific").enableCap(flags, args),
  KVM_CAP_HW_DIRTY_STATE_TRACK: (vm, flags, args) =>
    hdbssOf(vm, "arch-generic").enableCap(flags, args),
  KVM_CAP_ARM_HDBSS_BUFFER_SIZE: (vm, flags, args) => {
    hdbssOf(vm, "buffer-size-only").setBufferSize(flags, args);
    return null;
  },
};

/** Whoever asks the system learns what some VM may have. */
function hdbssCap(value: HdbssCap, vm: Vm | null): number {
  if (vm === null) return value === "vm:hdbss-bytes" ? HDBSS_BYTES_MAX : 1;
  if (!hasHdbss(vm) || SHAPE_OF[value] !== vm.policies["hdbss.capShape"]) return 0;
  if (value !== "vm:hdbss-bytes") return 1;
  return vm.caps.hdbssBufferBytes === 0 ? vm.pageSize : vm.caps.hdbssBufferBytes;
}

const SHAPE_OF = {
  "vm:hdbss": "arm-specific",
  "vm:hdbss-generic": "arch-generic",
  "vm:hdbss-bytes": "buffer-size-only",
} as const;

type HdbssCap = keyof typeof SHAPE_OF;

function isHdbssCap(value: string): value is HdbssCap {
  return value in SHAPE_OF;
}

function hdbssOf(vm: Vm, shape: Vm["policies"]["hdbss.capShape"]): HdbssPort {
  if (vm.hdbss === null || vm.policies["hdbss.capShape"] !== shape) {
    throw einval("this VM's KVM knows no such capability");
  }
  return vm.hdbss;
}

/** Flags and upper bits are not looked at, as in KVM: the size is cut to 32 bits. */
function enableRing(vm: Vm, arg: bigint): Op<null> | null {
  const bytes = Number(arg & U32_MAX);
  if (!isPowerOfTwo(bytes)) throw einval("the ring size must be a power of two");
  if (bytes < vm.pageSize || bytes < KVM_DIRTY_RING_RSVD_ENTRIES * KVM_DIRTY_GFN_BYTES) {
    throw einval(`the ring size must be at least one page, ${vm.pageSize} bytes`);
  }
  if (bytes > KVM_RING_BYTES_MAX) {
    throw new KvmError(
      "E2BIG",
      "KVM_ENABLE_CAP",
      `the ring size must be at most ${KVM_RING_BYTES_MAX} bytes`,
    );
  }
  if (vm.caps.dirtyRingBytes !== 0) throw einval("the ring is enabled already, for good");
  if (vm.vcpus.length > 0) throw einval("too late: the VM has vCPUs");
  const givesWay = vm.hdbss?.ringsCome(bytes) ?? null;
  vm.caps.dirtyRingBytes = bytes;
  // Rings pin a buffer to one page, and no scan fills them.
  vm.caps.hdbssBufferBytes = 0;
  vm.vtcr = vm.vtcrFor(false);
  return givesWay;
}

/**
 * KVM_ENABLE_CAP on a VM.
 * @returns the steps that it takes; null if it is done
 * @throws KvmError EINVAL unknown or wrong argument; E2BIG ring too large
 */
export function enableCap(
  vm: Vm,
  cap: number,
  flags: number,
  args: readonly bigint[],
): Op<null> | null {
  const row = BY_NUMBER.get(cap);
  const enable = row?.enable === true ? ENABLE[row.name] : undefined;
  if (enable === undefined) {
    throw einval(`capability ${row?.name ?? cap} can't be enabled on an arm64 VM`);
  }
  return enable(vm, flags, args);
}
