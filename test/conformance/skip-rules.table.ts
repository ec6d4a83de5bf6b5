// Owns: which recorded calls have no meaning over HTTP, by named rule; data only. Any thread.
// A rule looks at the form of a call, never at a file. Together the rules may skip at most
// SKIP_SHARE_MAX of the lines that are not another architecture's.
import type { Line } from "./line.js";

/** Largest share of unmarked lines that rules may skip. */
export const SKIP_SHARE_MAX = 0.02;

export interface SkipRule {
  readonly name: string;
  readonly why: string;
  readonly applies: (line: Line) => boolean;
  /**
   * What the call did to KVM's state although it has no meaning here:
   * "none", or "take-bits": legacy GET had cleared the log before its copy to the caller failed.
   */
  readonly effect: "none" | "take-bits";
}

/** What kind of descriptor a call belongs to; calls that are not listed are pseudo-ops. */
const DESCRIPTORS: Readonly<Record<string, readonly string[]>> = {
  KVM_GET_API_VERSION: ["system"],
  KVM_CREATE_VM: ["system"],
  KVM_GET_VCPU_MMAP_SIZE: ["system"],
  KVM_CHECK_EXTENSION: ["system", "vm"],
  KVM_ENABLE_CAP: ["vm"],
  KVM_CREATE_VCPU: ["vm"],
  KVM_SET_USER_MEMORY_REGION: ["vm"],
  KVM_SET_USER_MEMORY_REGION2: ["vm"],
  KVM_GET_DIRTY_LOG: ["vm"],
  KVM_CLEAR_DIRTY_LOG: ["vm"],
  KVM_RESET_DIRTY_RINGS: ["vm"],
  KVM_REGISTER_COALESCED_MMIO: ["vm"],
  KVM_UNREGISTER_COALESCED_MMIO: ["vm"],
  KVM_CREATE_IRQCHIP: ["vm"],
  KVM_IRQ_LINE: ["vm"],
  KVM_IRQ_LINE_STATUS: ["vm"],
  KVM_IRQFD: ["vm"],
  KVM_IOEVENTFD: ["vm"],
  KVM_SET_GSI_ROUTING: ["vm"],
  KVM_SIGNAL_MSI: ["vm"],
  KVM_CREATE_DEVICE: ["vm"],
  KVM_HAS_DEVICE_ATTR: ["vm", "vcpu", "device"],
  KVM_GET_DEVICE_ATTR: ["vm", "vcpu", "device"],
  KVM_SET_DEVICE_ATTR: ["vm", "vcpu", "device"],
  KVM_RUN: ["vcpu"],
};

/** Calls whose third argument is a number that a route carries, so a raw one is expressible. */
const NUMBER_ARGUMENT = ["KVM_CHECK_EXTENSION", "KVM_CREATE_VM", "KVM_CREATE_VCPU"];
/** Calls without an argument. Those in the second list look at it all the same. */
const NO_ARGUMENT = ["KVM_RESET_DIRTY_RINGS", "KVM_CREATE_IRQCHIP"];
const ZERO_ARGUMENT = ["KVM_GET_API_VERSION", "KVM_GET_VCPU_MMAP_SIZE", "KVM_RUN"];

function descriptorKind(on: string): string {
  if (on === "host" || on === "system") return on;
  if (/^(vm\d+\.)?vcpu\d+$/.test(on)) return "vcpu";
  if (/^(vm\d+\.)?dev\d+$/.test(on)) return "device";
  return "vm";
}

function rawArgument(line: Line): bigint | undefined {
  const keys = Object.keys(line.args);
  if (keys.length !== 1 || keys[0] !== "arg") return undefined;
  const text = String(line.args["arg"]);
  return /^(0x[0-9a-fA-F]+|[0-9]+)$/.test(text) ? BigInt(text) : undefined;
}

export const SKIP_RULES: readonly SkipRule[] = [
  {
    name: "unknown-request",
    why: "a request number without a name has no route",
    applies: (line) => line.op === "unknown ioctl",
    effect: "none",
  },
  {
    name: "wrong-descriptor",
    why: "a path names its resource, so a call can't reach the wrong kind of descriptor",
    applies: (line) => {
      const kinds = DESCRIPTORS[line.op];
      return kinds !== undefined && !kinds.includes(descriptorKind(line.on));
    },
    effect: "none",
  },
  {
    name: "raw-argument",
    why: "the call has no argument over HTTP, so it can't be given one that is not zero",
    applies: (line) => ZERO_ARGUMENT.includes(line.op) && (rawArgument(line) ?? 0n) !== 0n,
    effect: "none",
  },
  {
    name: "unreadable-argument",
    why: "a body is always readable; there is no pointer to an argument block",
    applies: (line) =>
      rawArgument(line) !== undefined &&
      line.op in DESCRIPTORS &&
      ![...NUMBER_ARGUMENT, ...NO_ARGUMENT, ...ZERO_ARGUMENT].includes(line.op),
    effect: "none",
  },
  {
    name: "unmapped-get-bitmap",
    why: "an answer has no buffer that could be unmapped; the bits are taken all the same",
    applies: (line) => line.op === "KVM_GET_DIRTY_LOG" && isCopyFault(line),
    effect: "take-bits",
  },
  {
    name: "unmapped-clear-bitmap",
    why: "a body's bitmap is always readable; a failed copy clears nothing",
    applies: (line) => line.op === "KVM_CLEAR_DIRTY_LOG" && isCopyFault(line),
    effect: "none",
  },
  {
    name: "physical-address-width",
    why: "EINVAL beyond 52 bits is the recording machine's; arm64 answers EFAULT beyond the IPA size",
    applies: isBeyondPhysicalWidth,
    effect: "none",
  },
  {
    name: "mapping-mode",
    why: "the ring is a resource, not a mapping with protection bits",
    applies: (line) => line.op === "mmap_vcpu",
    effect: "none",
  },
];

/** Refusals that come before the pointer is used are KVM's rules, and are compared. */
function isCopyFault(line: Line): boolean {
  return line.args["dirty_bitmap"] === "unmapped" && line.errno === "EFAULT";
}

/**
 * A refused slot that would be sound but for its place: aligned, neither empty nor of too many pages,
 * without wraparound, its end beyond every physical address. The format's description gives both answers (section 5), but
 * such a line may come unmarked, and mainline decides then.
 */
function isBeyondPhysicalWidth(line: Line): boolean {
  if (!/^KVM_SET_USER_MEMORY_REGION2?$/.test(line.op) || line.errno !== "EINVAL") return false;
  const { guest_phys_addr: gpaText, memory_size: sizeText, userspace_addr: addrText } = line.args;
  if (![gpaText, sizeText, addrText].every((text) => /^0x[0-9a-f]+$/i.test(String(text)))) {
    return false;
  }
  const [gpa, size, addr] = [gpaText, sizeText, addrText].map((text) => BigInt(String(text)));
  const isAligned = ((gpa! | size! | addr!) & 0xfffn) === 0n;
  const end = gpa! + size!;
  return isAligned && size! > 0n && size! < 2n ** 43n && end > 2n ** 52n && end < 2n ** 64n;
}

export function skipRuleFor(line: Line): SkipRule | undefined {
  return SKIP_RULES.find((rule) => rule.applies(line));
}
