// Owns: stores by a pattern: memory of the client's own, vCPUs without code. HTTP thread.
import { KvmError } from "../../base/errors.js";
import { parseU64 } from "../../base/hex.js";
import type { RunResult } from "../../runtime/index.js";
import { type Call, type Load, SLOT, type Stretch } from "./load.js";
import { slotBytes } from "./spec.js";
import type { SyntheticWorkload } from "./types.js";

const LOG_DIRTY_PAGES = 1;
/** T-01's place. */
const BASE = 0x4000_0000n;

export class SyntheticLoad implements Load {
  readonly #call: Call;
  readonly #workload: SyntheticWorkload;
  readonly #vcpus: readonly bigint[];
  /** vCPUs that have not come to the end of their programs. */
  #left: readonly bigint[] = [];
  #userspaceAddr = 0n;

  constructor(call: Call, workload: SyntheticWorkload) {
    this.#call = call;
    this.#workload = workload;
    this.#vcpus = Array.from({ length: workload.vcpus }, (_, at) => BigInt(at));
  }

  async build(): Promise<void> {
    const { backing, hugePages } = this.#workload;
    const size = BigInt(slotBytes(this.#workload));
    const object = { size, userspaceAddr: null, backing, hugePages };
    this.#userspaceAddr = (await this.#call("createMemoryObject", object)).userspaceAddr;
    await this.#setSlot(0);
    for (const vcpu of this.#vcpus) await this.#call("createVcpu", { id: Number(vcpu) });
  }

  async startLogging(): Promise<void> {
    await this.#setSlot(LOG_DIRTY_PAGES);
  }

  #setSlot(flags: number) {
    return this.#call("setUserMemoryRegion", {
      slot: SLOT,
      flags,
      guestPhysAddr: BASE,
      memorySize: BigInt(slotBytes(this.#workload)),
      userspaceAddr: this.#userspaceAddr,
    });
  }

  async begin(round: number): Promise<void> {
    if (round === 0) return this.#populate();
    const { storesPerRound, pattern, strides, pageSize, bytesPerVcpu } = this.#workload;
    const stride = strides[(round - 1) % Math.max(1, strides.length)] ?? pageSize;
    const count = storesPerRound === 0 ? Math.ceil(bytesPerVcpu / stride) : storesPerRound;
    const first = (parseU64(this.#workload.seed) ?? 1n) + BigInt(round) * 65_537n;
    for (const vcpu of this.#vcpus) {
      await this.#setProgram(vcpu, count, pattern, stride, BigInt.asUintN(64, first + vcpu));
    }
    this.#left = this.#vcpus;
  }

  async enter(): Promise<void> {
    this.#left = this.#vcpus.slice(0, 1);
  }

  /** Every page is stored to once, in order. */
  async #populate(): Promise<void> {
    const { pageSize, bytesPerVcpu, sharedWindow } = this.#workload;
    const share = bytesPerVcpu / pageSize;
    for (const vcpu of this.#vcpus) {
      const isIdle = sharedWindow && vcpu > 0n;
      await this.#setProgram(vcpu, isIdle ? 0 : share, "sequential", pageSize, 0n);
    }
    this.#left = sharedWindow ? this.#vcpus.slice(0, 1) : this.#vcpus;
  }

  #setProgram(
    vcpu: bigint,
    count: number,
    pattern: SyntheticWorkload["pattern"],
    stride: number,
    seed: bigint,
  ) {
    const { bytesPerVcpu, sharedWindow, skew } = this.#workload;
    const base = BASE + (sharedWindow ? 0n : vcpu * BigInt(bytesPerVcpu));
    return this.#call("setProgram", {
      vcpu: Number(vcpu),
      program: {
        kind: "pattern",
        pattern,
        base,
        bytes: BigInt(bytesPerVcpu),
        count,
        writePercent: 100,
        // A window of whole strides is stored to once before anything is stored to twice.
        length: 1,
        stride,
        skew,
        seed,
      },
    });
  }

  async run(): Promise<Stretch> {
    const results = await this.#call("runVcpus", { vcpus: this.#left });
    this.#left = this.#left.filter((_, at) => results[at]?.exitReason !== "KVM_EXIT_HLT");
    const failed = results.filter(({ errno }) => errno !== null);
    const ringFull = results.some(isRingFull);
    const error = failed[0] === undefined ? null : errorOf(failed[0]);
    const isOver = this.#left.length === 0;
    const cleaned = results.flatMap((result) =>
      result.cleaned === undefined ? [] : [Number(result.cleaned.firstPage)],
    );
    return { isOver, ringFull, cleaned, errors: failed.length, error };
  }
}

function isRingFull({ exitReason }: RunResult): boolean {
  return exitReason === "KVM_EXIT_DIRTY_RING_FULL";
}

function errorOf({ errno, exitReason }: RunResult): KvmError | null {
  if (errno === null) return null;
  return new KvmError(errno, "KVM_RUN", `runs fail again and again: ${exitReason}`);
}
