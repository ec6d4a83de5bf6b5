// Owns: the SMCCC filter: which function identifiers KVM handles, denies or hands to userspace.
// VM thread.
// @source arch/arm64/kvm/hypercalls.c (kvm_smccc_set_filter) by behaviour; kvm-uapi.md 4.6
import { KvmError } from "../../base/errors.js";

export const SMCCC_FILTER = { HANDLE: 0, DENY: 1, FWD_TO_USER: 2 } as const;

interface Range {
  readonly base: number;
  readonly end: number;
  readonly action: number;
}

/** KVM keeps these for itself. */
const RESERVED: readonly (readonly [base: number, count: number])[] = [
  // SMCCC_VERSION and ARCH_FEATURES, in both conventions.
  [0x8000_0000, 0x1_0000],
  [0xc000_0000, 0x1_0000],
];

export class SmcccFilter {
  readonly #ranges: Range[] = [];

  /** @throws KvmError EINVAL, EEXIST; EBUSY once the VM has run */
  set(base: number, count: number, action: number, hasRun: boolean): void {
    const refuse = (errno: "EINVAL" | "EEXIST" | "EBUSY", why: string): never => {
      throw new KvmError(errno, "KVM_SET_DEVICE_ATTR", why);
    };
    if (count === 0) refuse("EINVAL", "a range holds at least one function");
    if (base + count > 2 ** 32) refuse("EINVAL", "the range wraps around");
    if (action > SMCCC_FILTER.FWD_TO_USER) refuse("EINVAL", "action is handle, deny or forward");
    if (hasRun) refuse("EBUSY", "the filter is fixed once a vCPU has run");
    const end = base + count;
    const overlaps = (from: number, to: number): boolean => base < to && from < end;
    if (RESERVED.some(([from, n]) => overlaps(from, from + n))) {
      refuse("EEXIST", "the architecture's own range belongs to KVM");
    }
    if (this.#ranges.some((range) => overlaps(range.base, range.end))) {
      refuse("EEXIST", "a part of the range has an action already");
    }
    this.#ranges.push({ base, end, action });
  }

  action(id: number): number {
    const range = this.#ranges.find(({ base, end }) => id >= base && id < end);
    return range?.action ?? SMCCC_FILTER.HANDLE;
  }

  list(): readonly Range[] {
    return this.#ranges;
  }

  restore(ranges: readonly Range[]): void {
    this.#ranges.length = 0;
    this.#ranges.push(...ranges);
  }
}
