// Owns: VMs over HTTP as the subjects need them: one big slot, one or more storing vCPUs.
// Bench process.
import type { Api } from "./client.js";

export const MIB = 2 ** 20;
export const GIB = 2 ** 30;
export const PAGE = 4096;
const SLOT = 1;
const MANUAL_PROTECT = "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2";

export interface Pattern {
  readonly pattern: "uniform" | "sequential";
  readonly bytes: number;
  /** 0: without end. */
  readonly count: number;
  readonly base?: number;
}

const hex = (value: number): string => `0x${value.toString(16)}`;

/** Stores that dirty about this share of `pages`, drawn uniformly. */
export function storesFor(share: number, pages: number): number {
  return Math.round(-Math.log(1 - share) * pages);
}

interface Run {
  readonly id: string;
  readonly state: string;
}

/** A VM with one logging slot of unbacked memory at guest address 0, in manual-protect mode. */
export class Guest {
  readonly api: Api;
  readonly path: string;
  readonly pages: number;

  static async create(
    api: Api,
    options: {
      readonly bytes: number;
      readonly vcpus?: number;
      readonly dirtyTracking?: "write-protect" | "dbm";
      /** 3: every page starts out dirty. */
      readonly manualProtect?: 1 | 3;
    },
  ): Promise<Guest> {
    const { bytes, vcpus = 1, dirtyTracking = "write-protect", manualProtect = 1 } = options;
    const { id } = await api.json<{ id: string }>("POST", "/v1/vms", { dirtyTracking });
    const guest = new Guest(api, `/v1/vms/${id}`, bytes / PAGE);
    await api.json("PUT", `${guest.path}/capabilities/${MANUAL_PROTECT}`, {
      args: [hex(manualProtect)],
    });
    const object = await api.json<{ id: number }>("POST", `${guest.path}/memory-objects`, {
      size: hex(bytes),
      backing: "unbacked",
    });
    await api.json("PUT", `${guest.path}/memslots/${SLOT}`, {
      flags: ["KVM_MEM_LOG_DIRTY_PAGES"],
      guestPhysAddr: "0x0",
      memorySize: hex(bytes),
      memoryObjectId: object.id,
    });
    for (let n = 0; n < vcpus; n++) await api.json("PUT", `${guest.path}/vcpus/${n}`, {});
    return guest;
  }

  private constructor(api: Api, path: string, pages: number) {
    this.api = api;
    this.path = path;
    this.pages = pages;
  }

  get logPath(): string {
    return `${this.path}/memslots/${SLOT}/dirty-log`;
  }

  get clearPath(): string {
    return `${this.logPath}/clears?firstPage=0&numPages=${this.pages}`;
  }

  get bitmapBytes(): number {
    return Math.ceil(this.pages / 64) * 8;
  }

  async program(pattern: Pattern, vcpu = 0): Promise<void> {
    const { base = 0, bytes, ...rest } = pattern;
    await this.api.json("PUT", `${this.path}/vcpus/${vcpu}/program`, {
      kind: "pattern",
      writePercent: 100,
      base: hex(base),
      bytes: hex(bytes),
      seed: hex(vcpu + 1),
      ...rest,
    });
  }

  /** Starts a run. @returns its path */
  async start(vcpu = 0): Promise<string> {
    const runs = `${this.path}/vcpus/${vcpu}/runs`;
    const run = await this.api.json<Run>("POST", runs, {});
    return `${runs}/${run.id}`;
  }

  /** Runs the program to its end. */
  async finish(vcpu = 0): Promise<void> {
    const run = await this.start(vcpu);
    for (;;) {
      const { state } = await this.api.json<Run>("GET", `${run}?wait=30`);
      if (state === "exited") return;
    }
  }

  /** Kicks a run and waits for its exit. */
  async kick(run: string): Promise<void> {
    await this.api.json("DELETE", run);
    await this.api.json("GET", `${run}?wait=30`);
  }

  /** Pages that the log names. */
  async dirtyPages(): Promise<number> {
    const answer = await this.api.connection.request("GET", this.logPath, {
      keep: true,
      headers: { accept: "application/octet-stream" },
    });
    let count = 0;
    for (const byte of answer.body) {
      for (let rest = byte; rest !== 0; rest &= rest - 1) count++;
    }
    return count;
  }

  async delete(): Promise<void> {
    await this.api.json("DELETE", this.path);
  }
}
