// Owns: what an HVC or SMC of a guest does: filter, firmware services, PSCI. VM thread.
//
//   function id ─ filter ─▶ deny | forward to userspace | handle ─ allowed? ─▶ service ─▶ X0…X3
// @source arch/arm64/kvm/hypercalls.c, trng.c, pvtime.c by behaviour; kvm-uapi.md 9
import type { RunOutcome, Vcpu } from "../vcpu.js";
import { SMCCC_FILTER, type SmcccFilter } from "./filter.js";
import type { CallRegisters } from "./guest.js";
import { type CallResult, isPsci, type PsciVm, psciCall } from "./psci.js";
import { SMCCC, SMCCC_RET, SMCCC_VERSION_1_1, TRNG_RET } from "./smccc.table.js";

/** kvm/pvtime.ts, as the VM and its hypercalls see it. */
export interface StolenTime {
  /** Clears the record. @returns its IPA; null without one */
  begin(vcpu: Vcpu): bigint | null;
  update(vcpu: Vcpu): void;
}

export interface HypercallVm extends PsciVm {
  readonly pvTime: StolenTime | null;
  readonly filter: SmcccFilter;
  /** Entropy as the VM's clock mode gives it. @returns `bits` random bits */
  random(bits: number): bigint;
  /** Host time in ns and the counter of that moment as the guest sees it. */
  ptp(physical: boolean): { readonly ns: bigint; readonly counter: bigint };
}

type Results = readonly bigint[];
interface Call {
  readonly vm: HypercallVm;
  readonly vcpu: Vcpu;
  readonly regs: CallRegisters;
}
interface Service {
  /** The bit of a firmware bitmap that allows it; always allowed without one. */
  readonly gate?: readonly ["std" | "stdHyp" | "vendorHyp", bigint];
  readonly call: (call: Call) => Results;
}

const NOT_SUPPORTED: Results = [SMCCC_RET.NOT_SUPPORTED];
const TRNG = ["std", 1n] as const;
const PV_TIME = ["stdHyp", 1n] as const;
const FUNC_FEAT = ["vendorHyp", 1n] as const;
const PTP = ["vendorHyp", 2n] as const;
const KVM_UID: Results = [0xb66f_b428n, 0xe911_c52en, 0x564b_caa9n, 0x743a_004dn];
const TRNG_UUID: Results = [0x0d21_e000n, 0x4384_11ebn, 0x9e37_79b9n, 0x7f4a_7c15n];
const TRNG_VERSION = 0x1_0000n;
const MASK_32 = 0xffff_ffffn;
/** Bits that one call gives at most. */
const RND32_BITS = 96n;
const RND64_BITS = 192n;

/** What ARCH_FEATURES answers; anything else is not supported. */
const ARCH_FEATURES: ReadonlyMap<number, (vm: HypercallVm) => bigint> = new Map<
  number,
  (vm: HypercallVm) => bigint
>([
  [SMCCC.VERSION, () => SMCCC_RET.SUCCESS],
  // This PE doesn't speculate.
  [SMCCC.ARCH_WORKAROUND_1, () => 1n],
  [SMCCC.ARCH_WORKAROUND_2, () => SMCCC_RET.NOT_REQUIRED],
  [SMCCC.ARCH_WORKAROUND_3, () => 1n],
  [
    SMCCC.PV_TIME_FEATURES,
    (vm) => ((vm.firmware.stdHyp & 1n) !== 0n ? SMCCC_RET.SUCCESS : SMCCC_RET.NOT_SUPPORTED),
  ],
]);

function random(bits: bigint, most: bigint, vm: HypercallVm): Results {
  if (bits === 0n || bits > most) return [TRNG_RET.INVALID];
  const width = most / 3n;
  const value = vm.random(Number(bits));
  const word = (n: bigint): bigint => (value >> (n * width)) & ((1n << width) - 1n);
  // The least significant part is in X3.
  return [TRNG_RET.SUCCESS, word(2n), word(1n), word(0n)];
}

function pvTime({ vcpu, regs }: Call): Results {
  const asked = Number(regs.x(1) & MASK_32);
  const isKnown = asked === SMCCC.PV_TIME_FEATURES || asked === SMCCC.PV_TIME_ST;
  return isKnown && vcpu.pvtimeIpa !== null ? [SMCCC_RET.SUCCESS] : NOT_SUPPORTED;
}

function ptp({ vm, regs }: Call): Results {
  const which = regs.x(1) & MASK_32;
  if (which > 1n) return NOT_SUPPORTED;
  const { ns, counter } = vm.ptp(which === 1n);
  return [ns >> 32n, ns & MASK_32, counter >> 32n, counter & MASK_32];
}

const TRNG_IDS: readonly number[] = [
  SMCCC.TRNG_VERSION,
  SMCCC.TRNG_FEATURES,
  SMCCC.TRNG_GET_UUID,
  SMCCC.TRNG_RND32,
  SMCCC.TRNG_RND64,
];

const SERVICES: ReadonlyMap<number, Service> = new Map<number, Service>([
  [SMCCC.VERSION, { call: () => [SMCCC_VERSION_1_1] }],
  [
    SMCCC.ARCH_FEATURES,
    {
      call: ({ vm, regs }) => [
        ARCH_FEATURES.get(Number(regs.x(1) & MASK_32))?.(vm) ?? SMCCC_RET.NOT_SUPPORTED,
      ],
    },
  ],
  [SMCCC.TRNG_VERSION, { gate: TRNG, call: () => [TRNG_VERSION] }],
  [
    SMCCC.TRNG_FEATURES,
    {
      gate: TRNG,
      call: ({ regs }) =>
        TRNG_IDS.includes(Number(regs.x(1) & MASK_32)) ? [TRNG_RET.SUCCESS] : NOT_SUPPORTED,
    },
  ],
  [SMCCC.TRNG_GET_UUID, { gate: TRNG, call: () => TRNG_UUID }],
  [
    SMCCC.TRNG_RND32,
    { gate: TRNG, call: ({ vm, regs }) => random(regs.x(1) & MASK_32, RND32_BITS, vm) },
  ],
  [SMCCC.TRNG_RND64, { gate: TRNG, call: ({ vm, regs }) => random(regs.x(1), RND64_BITS, vm) }],
  [SMCCC.PV_TIME_FEATURES, { gate: PV_TIME, call: pvTime }],
  [
    SMCCC.PV_TIME_ST,
    {
      gate: PV_TIME,
      call: ({ vm, vcpu }) => [vm.pvTime?.begin(vcpu) ?? SMCCC_RET.NOT_SUPPORTED],
    },
  ],
  [SMCCC.VENDOR_HYP_CALL_UID, { gate: FUNC_FEAT, call: () => KVM_UID }],
  [
    SMCCC.VENDOR_HYP_FEATURES,
    {
      gate: FUNC_FEAT,
      call: ({ vm: { firmware } }) => [firmware.vendorHyp, 0n, firmware.vendorHyp2],
    },
  ],
  [SMCCC.VENDOR_HYP_PTP, { gate: PTP, call: ptp }],
]);

function isAllowed(vm: HypercallVm, { gate }: Service): boolean {
  return gate === undefined || (vm.firmware[gate[0]] & gate[1]) !== 0n;
}

/**
 * kvm_smccc_call_handler. PC is past the call already.
 * @returns null to go on with the guest, or the exit
 */
export function hypercall(
  vm: HypercallVm,
  vcpu: Vcpu,
  regs: CallRegisters,
  isSmc: boolean,
): RunOutcome | null {
  const id = Number(regs.x(0) & MASK_32);
  const action = vm.filter.action(id);
  if (action === SMCCC_FILTER.FWD_TO_USER) {
    const hypercallExit = { nr: BigInt(id), flags: isSmc ? 1n : 0n };
    return { errno: null, exitReason: "KVM_EXIT_HYPERCALL", hypercall: hypercallExit };
  }
  const result =
    action === SMCCC_FILTER.DENY ? SMCCC_RET.NOT_SUPPORTED : handle(vm, vcpu, regs, id);
  if (result === null) return null;
  if (typeof result === "object" && "exitReason" in result) return result;
  const values = typeof result === "bigint" ? [result] : result;
  for (let n = 0; n < 4; n++) regs.setX(n, BigInt.asUintN(64, values[n] ?? 0n));
  return null;
}

function handle(
  vm: HypercallVm,
  vcpu: Vcpu,
  regs: CallRegisters,
  id: number,
): CallResult | Results {
  if (isPsci(id)) return psciCall(vm, vcpu, regs, id);
  const service = SERVICES.get(id);
  if (service === undefined || !isAllowed(vm, service)) return SMCCC_RET.NOT_SUPPORTED;
  return service.call({ vm, vcpu, regs });
}
