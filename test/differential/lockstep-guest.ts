// Owns: a flat image on a VM inline, advanced slice by slice, with its UART. Test process.

import { IMAGE_BASE, RAM_BASE } from "../../bench/guest/support/image.js";
import { PL011_BASE, Pl011 } from "../../bench/guest/support/pl011.js";
import type { CoreCode } from "../../src/machine/a64/core.js";
import {
  BOUNCE,
  BUDGET,
  CODE_VA,
  EXCLUSIVE_VA,
  FLAG_N,
  FPCR,
  PC,
  PSTATE,
  SLOT_SINK,
  SYSREGS,
  SYSREGS_BYTES,
  WINDOW_BYTES,
} from "../../src/machine/a64/window.js";
import { A64Machine, a64Pages } from "../../src/machine/index.js";
import { GIB, Inline, type Pending, SOON } from "../support/inline.js";

const K4 = 4096; // tidy: the VM's page size
const PSCI_FEATURE = 4n;
const FEATURE_BUDGET = 2 * GIB;

/** Of the window: what instructions see, as it lies there. Flags have several representations. */
const SEEN = [
  [0, SLOT_SINK],
  [PC, FLAG_N],
  [FPCR, CODE_VA],
  [EXCLUSIVE_VA, BOUNCE],
  [PSTATE, BUDGET],
  [SYSREGS, SYSREGS + SYSREGS_BYTES],
] as const;

type RunResult = ReturnType<Inline["run"]>;

export interface GuestOptions {
  /** null: tier 0 alone. */
  readonly translation: CoreCode["translation"];
  readonly ramBytes: number;
}

export class LockstepGuest {
  readonly vm: Inline;
  readonly pe;
  /** Why it ran no further, or null. */
  ended: string | null = null;
  output = "";
  /** Loads that a device answered. */
  deviceReads = 0;
  readonly #engine;
  readonly #ramBytes: number;
  readonly #uart: Pl011;
  #run: Pending<RunResult> | null = null;
  #mmioData: number[] | undefined;

  constructor(image: Uint8Array, { translation, ramBytes }: GuestOptions) {
    this.#ramBytes = ramBytes;
    this.vm = new Inline({ budgetBytes: FEATURE_BUDGET });
    this.vm.slot(0, ramBytes / K4, { gpa: RAM_BASE });
    this.vm.vcpu();
    const { vm } = this.vm.kvm;
    // As the first initialisation would, but for the translation.
    const arena = vm.host.frames.allocate(a64Pages(vm.pageSize).arena);
    const soon = translation === null ? null : { hotAfter: SOON, ...translation };
    vm.a64 = new A64Machine(vm.host, arena, (more) => vm.ticks(more), soon);
    this.vm.call("vcpuInit", { vcpu: 0, target: 5, features: [PSCI_FEATURE] });
    this.vm.call("writePhysicalMemory", { gpa: BigInt(IMAGE_BASE), bytes: image });
    const engine = vm.vcpus[0]?.a64;
    if (!engine) throw new Error("the vCPU has an engine");
    this.#engine = engine;
    this.pe = engine.pe;
    this.pe.registers.pc = BigInt(IMAGE_BASE);
    this.#uart = new Pl011((character) => {
      this.output += character;
    });
  }

  get retired(): number {
    return this.#engine.retired;
  }

  get u8(): Uint8Array {
    return this.vm.kvm.vm.host.memory.u8;
  }

  /** Bytes that are no memory of the VM's: caches, and the window, which state() has. */
  get apart(): readonly { readonly at: number; readonly bytes: number }[] {
    const { caches } = this.vm.kvm.vm.host.memory;
    return [...caches, { at: this.pe.window, bytes: WINDOW_BYTES }];
  }

  /** An access waits for its device. */
  get isWaiting(): boolean {
    return this.#engine.hasPending;
  }

  /** One step of the scheduler: at most so many instructions. */
  slice(instructions: number): void {
    if (this.ended !== null) return;
    Object.defineProperty(this.#engine, "sliceMax", { value: instructions, configurable: true });
    if (this.#run === null) {
      const data = this.#mmioData;
      this.#run = this.vm.beginRun(0, data === undefined ? {} : { mmioData: data });
    }
    const isIdle = this.vm.instance.advance(1, () => false) === "idle";
    if (this.#run.done) this.#exited(this.#run.value);
    else if (isIdle) this.ended = "nothing is runnable";
  }

  #exited({ exitReason, errno, mmio }: RunResult): void {
    this.#run = null;
    this.#mmioData = undefined;
    if (mmio === undefined) {
      this.ended = errno ?? exitReason ?? "an exit without a reason";
      return;
    }
    const offset = Number(mmio.physAddr - PL011_BASE);
    const isUart = offset >= 0 && offset < K4;
    if (mmio.isWrite && isUart) this.#uart.write(offset, mmio.data[0] ?? 0);
    if (mmio.isWrite) return;
    this.deviceReads++;
    this.#mmioData = Array.from({ length: mmio.len }, () => 0);
    if (isUart) this.#mmioData[0] = this.#uart.read(offset);
  }

  /** A word of guest memory, or null where there is none. */
  word(gpa: number): number | null {
    if (gpa < RAM_BASE || gpa >= RAM_BASE + this.#ramBytes) return null;
    const bytes = this.vm.call("readPhysicalMemory", { gpa: BigInt(gpa), length: 4 });
    return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  }

  /** The parts of the window that instructions see, but for the flags. */
  *state(): Generator<Uint8Array> {
    const { window } = this.pe;
    for (const [from, to] of SEEN) yield this.u8.subarray(window + from, window + to);
  }

  close(): void {
    this.vm.kvm.vm.close();
  }
}
