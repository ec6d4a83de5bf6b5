// Owns: a run of the guest image on Tidemark: a VM in the caller's thread with one a64 vCPU, RAM
// and a UART. Inline.
import { readFileSync } from "node:fs";
import { EventfdCounters } from "../../../dist/base/eventfd-counters.js";
import { MemoryBudget } from "../../../dist/base/memory-budget.js";
import { A64Machine, a64Pages } from "../../../dist/machine/index.js";
import {
  type Command,
  type CommandArgs,
  type CommandName,
  type CommandResult,
  createInstance,
  type Outcome,
  type RunResult,
} from "../../../dist/vmm/index.js";
import { IMAGE_BASE, imageFor, RAM_BASE, RAM_BYTES, type Work } from "./image.js";
import { PL011_BASE, Pl011 } from "./pl011.js";
import { type Sample, Transcript } from "./transcript.js";

type Instance = ReturnType<typeof createInstance>;

export type DirtyTracking = "write-protect" | "dbm";

export interface TidemarkOptions {
  /** How KVM tracks dirty pages; write-protect by default. */
  readonly dirtyTracking?: DirtyTracking;
  readonly clock?: "wall" | "virtual";
  /** The interpreter alone. */
  readonly tier0?: boolean;
  /** The repetition of a waiting phase before which the dirty log is turned on. */
  readonly logFrom?: number;
  readonly image?: Uint8Array;
}

export interface TidemarkRun {
  readonly samples: readonly Sample[];
  /** Growth of resident executable memory since the first run began: what V8 compiled. */
  readonly codeBytes: number;
  /** What tier 1 translated, as the machine counts it. */
  readonly translated: Readonly<Record<string, number>>;
}

const BUDGET_BYTES = 2 * 2 ** 30;
const KVM_MEM_LOG_DIRTY_PAGES = 1;
const FEATURE_PSCI_0_2 = 4n;
const REG_PC = 0x6030_0000_0010_0040n;
const SLOT = 0;

/** Resident bytes of anonymous executable mappings: code made at run time. */
function executableBytes(): number {
  let counts = false;
  let kib = 0;
  for (const line of readFileSync("/proc/self/smaps", "utf8").split("\n")) {
    const [, permissions, inode] = /^[0-9a-f]+-[0-9a-f]+ (\S+) \S+ \S+ (\d+)/.exec(line) ?? [];
    if (permissions !== undefined) counts = permissions.includes("x") && inode === "0";
    const [, rss] = /^Rss: +(\d+)/.exec(line) ?? [];
    if (counts && rss !== undefined) kib += Number(rss);
  }
  return kib * 1024;
}

/** The one place that turns tiers off: what runs guest code is made before the first vCPU would. */
function chooseTiers(instance: Instance, tier0: boolean): void {
  const { vm } = instance.machine.kvm;
  if (!tier0) return;
  const arena = vm.host.frames.allocate(a64Pages(vm.pageSize).arena);
  vm.a64 = new A64Machine(vm.host, arena, (more) => vm.ticks(more), null);
}

let baseline: number | null = null;

class BenchGuest {
  readonly #instance: Instance;
  #userspaceAddr = 0n;
  retired = 0;

  constructor(image: Uint8Array, options: TidemarkOptions) {
    const { clock = "wall", tier0 = false } = options;
    this.#instance = createInstance(
      {
        type: 40n,
        pageSize: 4096,
        hostCpus: 0,
        seed: 1n,
        clock: { mode: clock, nsPerInstruction: 1, idle: "jump" },
        dirtyTracking: options.dirtyTracking ?? "write-protect",
      },
      {
        budget: MemoryBudget.create(BUDGET_BYTES),
        eventfds: EventfdCounters.create(64),
        schedule: "round-robin",
      },
    );
    const { userspaceAddr } = this.call("createMemoryObject", {
      size: BigInt(RAM_BYTES),
      userspaceAddr: null,
      backing: "ram",
      hugePages: false,
    });
    this.#userspaceAddr = userspaceAddr;
    this.slot(0);
    this.call("createVcpu", { id: 0 });
    chooseTiers(this.#instance, tier0);
    this.call("vcpuInit", { vcpu: 0, target: 5, features: [FEATURE_PSCI_0_2] });
    this.call("writePhysicalMemory", { gpa: BigInt(IMAGE_BASE), bytes: image });
    const value = new Uint8Array(8);
    new DataView(value.buffer).setBigUint64(0, BigInt(IMAGE_BASE), true);
    this.call("setOneReg", { vcpu: 0, reg: REG_PC, value });
  }

  call<K extends CommandName>(name: K, args: CommandArgs<K>): CommandResult<K> {
    let outcome: Outcome | null = null;
    this.#instance.submit({ name, args } as Command, (settled) => {
      outcome = settled;
    });
    if (outcome === null) {
      this.#instance.advance(Number.POSITIVE_INFINITY, () => outcome !== null);
    }
    const settled = outcome as Outcome | null;
    if (settled === null) throw new Error(`${name} has no answer`);
    if (!settled.ok) throw settled.error;
    return settled.value as CommandResult<K>;
  }

  slot(flags: number): void {
    this.call("setUserMemoryRegion", {
      slot: SLOT,
      flags,
      guestPhysAddr: BigInt(RAM_BASE),
      memorySize: BigInt(RAM_BYTES),
      userspaceAddr: this.#userspaceAddr,
    });
  }

  /** KVM_RUN until the guest powers off; its device accesses go to the UART. */
  run(uart: Pl011): void {
    let mmioData: Uint8Array | null = null;
    for (;;) {
      const result: RunResult = this.call("run", { vcpu: 0, immediateExit: false, mmioData });
      this.retired += result.retired;
      mmioData = null;
      if (result.exitReason === "KVM_EXIT_SYSTEM_EVENT") return;
      const { mmio } = result;
      if (mmio === undefined) {
        throw new Error(`the guest ended with ${result.exitReason} (${result.errno})`);
      }
      const offset = Number(mmio.physAddr - PL011_BASE);
      if (mmio.isWrite) uart.write(offset, mmio.data[0] ?? 0);
      else {
        mmioData = new Uint8Array(mmio.len);
        mmioData[0] = uart.read(offset);
      }
    }
  }

  /** What tier 1 did, by name. */
  get translated(): Readonly<Record<string, number>> {
    return { ...this.#instance.machine.kvm.vm.a64?.translated };
  }

  close(): void {
    this.#instance.close();
  }
}

/**
 * Runs the image to its end.
 * @throws Error when the guest ends in another way than by PSCI SYSTEM_OFF
 */
export function runOnTidemark(work: Work, options: TidemarkOptions = {}): TidemarkRun {
  baseline ??= executableBytes();
  const guest = new BenchGuest(imageFor(work, options.image), options);
  let waits = 0;
  const transcript = new Transcript(() => {
    if (waits++ === options.logFrom) guest.slot(KVM_MEM_LOG_DIRTY_PAGES);
    uart.receive(0x0a);
  });
  const uart = new Pl011((character) => {
    transcript.take(character, performance.now(), guest.retired);
  });
  guest.run(uart);
  const codeBytes = executableBytes() - baseline;
  const { translated } = guest;
  guest.close();
  if (!transcript.ended) throw new Error("the guest ended without saying so");
  return { samples: transcript.samples, codeBytes, translated };
}
