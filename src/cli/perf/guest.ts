// Owns: the VM that is measured: one slot, vCPUs that write it, its log or its rings; by the public
// API alone. CLI process.
import type { VmCreate } from "../../generated/client.js";
import type { Client } from "../client.js";
import { Failure } from "../failure.js";
import type { PerfOptions } from "./options.js";
import type { Strategy } from "./strategy.js";

type DirtySettings = NonNullable<NonNullable<VmCreate["dirty"]>["settings"]>;
type Counted = Readonly<Record<string, number>>;

const SLOT = "1";
const MANUAL_PROTECT = "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2";
export const HDBSS_CAP = "KVM_CAP_ARM_HW_DIRTY_STATE_TRACK";
const RING = "KVM_CAP_DIRTY_LOG_RING_ACQ_REL";
/** sizeof(struct kvm_dirty_gfn). @source linux/kvm.h */
const RING_ENTRY_BYTES = 16;
const WAIT_S = "30";
const PAGES_PER_WORD = 64;

const hex = (value: number): string => `0x${value.toString(16)}`;

function bitsIn(bitmap: Uint8Array): number {
  let count = 0;
  for (const byte of bitmap) {
    for (let rest = byte; rest !== 0; rest &= rest - 1) count++;
  }
  return count;
}

export class PerfGuest {
  readonly #client: Client;
  readonly #options: PerfOptions;
  readonly #strategy: Strategy;
  readonly #vm: string;
  readonly #memoryObject: number;
  readonly #pages: number;
  /** What the last GET gave, for CLEAR. */
  #bitmap: Uint8Array = new Uint8Array(0);
  /** Ring entries that were harvested since the log was read. */
  #harvested = 0;

  /** A VM in its id's charge: whoever creates it deletes it. */
  static async create(
    client: Client,
    options: PerfOptions,
    strategy: Strategy,
    onCreated: (vm: string) => void,
  ): Promise<PerfGuest> {
    const { id } = await client.call(
      "createVm",
      {},
      {
        name: `dirty-log-perf ${strategy.name}`,
        pageSize: options.pageSize,
        seed: hex(options.seed),
        clock: { mode: "virtual" },
        dirtyTracking: strategy.tracking,
        dirty: { settings: { ...strategy.settings, ...options.settings } as DirtySettings },
      },
    );
    onCreated(id);
    const enable = (cap: string, ...args: readonly number[]) =>
      client.call("enableVmCapability", { vm: id, cap }, { args: args.map(hex) });
    const { ringEntries, hdbssOrder } = strategy;
    if (ringEntries > 0) await enable(RING, ringEntries * RING_ENTRY_BYTES);
    else if (options.manualProtect > 0) await enable(MANUAL_PROTECT, options.manualProtect);
    if (hdbssOrder !== null) await enable(HDBSS_CAP, hdbssOrder, 1);
    const { vcpus, bytesPerVcpu, isOverlapping } = options;
    const bytes = bytesPerVcpu * (isOverlapping ? 1 : vcpus);
    const object = await client.call(
      "createMemoryObject",
      { vm: id },
      { size: hex(bytes), backing: "unbacked" },
    );
    const guest = new PerfGuest(client, options, strategy, id, object.id, bytes);
    await guest.setLogging(false);
    for (let n = 0; n < vcpus; n++) await client.call("createVcpu", { vm: id, n: String(n) }, {});
    return guest;
  }

  private constructor(
    client: Client,
    options: PerfOptions,
    strategy: Strategy,
    vm: string,
    memoryObject: number,
    bytes: number,
  ) {
    this.#client = client;
    this.#options = options;
    this.#strategy = strategy;
    this.#vm = vm;
    this.#memoryObject = memoryObject;
    this.#pages = bytes / options.pageSize;
  }

  /** 64-page words that clearing the whole slot walks. */
  get words(): number {
    return Math.ceil(this.#pages / PAGES_PER_WORD);
  }

  /** What the model has to know of the VM's settings, with the host's defaults. */
  get completion(): string {
    return String(this.#setting("hacdbs.completion", "poll-quantum"));
  }

  get quantumUs(): number {
    return Number(this.#setting("hacdbs.quantumUs", 10));
  }

  #setting(key: string, otherwise: string | number): string | number | boolean {
    return this.#options.settings[key] ?? this.#strategy.settings[key] ?? otherwise;
  }

  async counters(): Promise<Counted> {
    const { counters } = await this.#client.call("getVmCounters", { vm: this.#vm });
    return counters;
  }

  async setLogging(on: boolean): Promise<null> {
    await this.#client.call(
      "setMemslot",
      { vm: this.#vm, slot: SLOT },
      {
        flags: on ? ["KVM_MEM_LOG_DIRTY_PAGES"] : [],
        guestPhysAddr: "0x0",
        memorySize: hex(this.#pages * this.#options.pageSize),
        memoryObjectId: this.#memoryObject,
      },
    );
    return null;
  }

  /** Gives every vCPU its next list of accesses. @param all every page of its memory, once */
  async load(all: boolean): Promise<void> {
    const { bytesPerVcpu, pageSize, pagesPerVcpu, isRandom, isOverlapping } = this.#options;
    const pages = bytesPerVcpu / pageSize;
    const count = all ? pages : pagesPerVcpu;
    for (let vcpu = 0; vcpu < this.#options.vcpus; vcpu++) {
      await this.#client.call("setProgram", this.#at(vcpu), {
        kind: "pattern",
        pattern: isRandom && !all ? "uniform" : "sequential",
        base: hex(isOverlapping ? 0 : vcpu * bytesPerVcpu),
        bytes: hex(bytesPerVcpu),
        count,
        writePercent: all ? 100 : this.#options.writePercent,
        length: 1,
        stride: Math.floor(pages / count) * pageSize,
        seed: hex(this.#options.seed + vcpu),
      });
    }
  }

  /** Runs every vCPU to the end of its list; full rings are emptied as they come. */
  async run(): Promise<null> {
    const all = Array.from({ length: this.#options.vcpus }, (_, vcpu) => this.#runOne(vcpu));
    await Promise.all(all);
    return null;
  }

  async #runOne(vcpu: number): Promise<void> {
    for (;;) {
      let run = await this.#client.call("createRun", this.#at(vcpu), {});
      const at = { ...this.#at(vcpu), run: run.id };
      while (run.state !== "exited") {
        run = await this.#client.call("getRun", at, undefined, { wait: WAIT_S });
      }
      const { exitReason = "", errno = null } = run.result ?? {};
      if (exitReason === "KVM_EXIT_HLT") return;
      if (exitReason !== "KVM_EXIT_DIRTY_RING_FULL") {
        throw new Failure(`vCPU ${vcpu} ended with ${errno ?? exitReason}.`);
      }
      await this.#harvest(vcpu);
      await this.#reset();
    }
  }

  /** Reads the log, or what is in the rings. @returns pages it names */
  async get(): Promise<number> {
    if (this.#strategy.ringEntries > 0) {
      for (let vcpu = 0; vcpu < this.#options.vcpus; vcpu++) await this.#harvest(vcpu);
      const count = this.#harvested;
      this.#harvested = 0;
      return count;
    }
    const at = { vm: this.#vm, slot: SLOT };
    if (this.#options.manualProtect > 0) {
      this.#bitmap = await this.#client.bytes("getDirtyLog", at);
    } else {
      const { bytes, headers } = await this.#client.answer("createHarvest", at);
      const harvest = decodeURIComponent(headers.get("tidemark-harvest-id") ?? "");
      await this.#client.call("deleteHarvest", { ...at, harvest });
      this.#bitmap = bytes;
    }
    return bitsIn(this.#bitmap);
  }

  /** Clears what was read last. */
  async clear(): Promise<null> {
    if (this.#strategy.ringEntries > 0) return this.#reset();
    const window = { firstPage: "0", numPages: String(this.#pages) };
    const at = { vm: this.#vm, slot: SLOT };
    await this.#client.call("clearDirtyLog", at, this.#bitmap, window);
    return null;
  }

  async #harvest(vcpu: number): Promise<void> {
    const window = (limit: number) =>
      this.#client.answer("getDirtyRing", this.#at(vcpu), { limit: String(limit) });
    const { headers } = await window(0);
    const indexes = (headers.get("tidemark-ring-indexes") ?? "").split(", ").map(Number);
    const [upTo = 0, , harvestIndex = 0] = indexes;
    const { bytes } = await window(upTo - harvestIndex);
    this.#harvested += bytes.length / RING_ENTRY_BYTES;
    await this.#client.call("harvestDirtyRing", this.#at(vcpu), { upTo });
  }

  async #reset(): Promise<null> {
    await this.#client.call("resetDirtyRings", { vm: this.#vm });
    return null;
  }

  #at(vcpu: number): { vm: string; n: string } {
    return { vm: this.#vm, n: String(vcpu) };
  }
}
