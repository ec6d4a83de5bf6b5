// Owns: what the arguments of HDBSS's capabilities mean. VM thread.
// @source dirty-tracking.md 4.2, 4.7 (hdbss.enableBy, hdbss.sizeUnit; the contract of HL)
import { isPowerOfTwo } from "../../base/bits.js";
import { KvmError } from "../../base/errors.js";
import { SZ_MAX, SZ_UNIT_BYTES } from "../../machine/index.js";
import type { Vm } from "../vm.js";
import { hasHdbss } from "./leaf-policy.js";

const einval = (why: string) => new KvmError("EINVAL", "KVM_ENABLE_CAP", why);

export const HDBSS_BYTES_MAX = SZ_UNIT_BYTES * 2 ** SZ_MAX;

/** What the caller wants: on with this order, or off. */
export interface Wanted {
  readonly isOn: boolean;
  readonly order: number;
}

/** @returns null for a size that no buffer has */
function orderOf(vm: Vm, arg: bigint): number | null {
  if (vm.policies["hdbss.sizeUnit"] === "order") return arg > BigInt(SZ_MAX) ? null : Number(arg);
  if (arg > BigInt(HDBSS_BYTES_MAX) || !isPowerOfTwo(Number(arg))) return null;
  const order = Math.log2(Number(arg) / SZ_UNIT_BYTES);
  return order < 0 ? null : order;
}

/**
 * Reads args of the enabling capability, in the seed's order of checks.
 * @throws KvmError EINVAL
 */
export function readEnable(vm: Vm, flags: number, args: readonly bigint[]): Wanted {
  const [size = 0n, switches = 0n, ...rest] = args;
  if (!hasHdbss(vm)) throw einval("this host's CPUs have no HDBSS that KVM could use");
  const { "hdbss.enableBy": by } = vm.policies;
  if (by !== "ioctl-v3" && by !== "ioctl-v2") throw einval("KVM turns HDBSS on by itself");
  if (flags !== 0) throw einval("flags must be 0");
  const isV2 = by === "ioctl-v2";
  if (rest.some((arg) => arg !== 0n) || (isV2 && switches !== 0n)) {
    throw einval("arguments without a meaning must be 0");
  }
  const isOn = isV2 ? size !== 0n : switches !== 0n;
  const order = orderOf(vm, size);
  // The seed checks the size although it wants none; version 2's off is a size.
  const isChecked = isOn || (vm.seedBugs.has("B18") && !isV2);
  if (order === null && isChecked) throw einval("args[0] is no size of a buffer");
  return { isOn, order: order ?? 0 };
}

/**
 * KVM_CAP_ARM_HDBSS_BUFFER_SIZE.
 * @throws KvmError EINVAL, EBUSY
 */
export function setBufferSize(vm: Vm, flags: number, args: readonly bigint[]): void {
  const [bytes = 0n] = args;
  if (!hasHdbss(vm)) throw einval("this host's CPUs have no HDBSS that KVM could use");
  if (flags !== 0) throw einval("flags must be 0");
  const isSize = bytes <= BigInt(HDBSS_BYTES_MAX) && isPowerOfTwo(Number(bytes));
  if (!isSize || Number(bytes) < vm.pageSize) {
    throw einval(`args[0] must be a power of two from ${vm.pageSize} to ${HDBSS_BYTES_MAX}`);
  }
  if (vm.vcpus.length > 0) throw einval("too late: the VM has vCPUs");
  if (vm.caps.hdbssBufferBytes !== 0) {
    throw new KvmError("EBUSY", "KVM_ENABLE_CAP", "the size was set already");
  }
  if (vm.caps.dirtyRingBytes !== 0) throw einval("with dirty rings a buffer is one page");
  vm.caps.hdbssBufferBytes = Number(bytes);
}
