// Owns: small guests for migrations that are cut short: one whose memory is known beforehand, while
// a synthetic vCPU stores beside it, and a board that stamps its pages and checks them. Tool and
// test process.
import { systemClock } from "../../dist/base/clock.js";
import type { Client } from "../../dist/cli/client.js";
import { STAMPS, stampingGuest } from "../../test/support/stamping-guest.js";

const MIB = 2 ** 20;
const POLL_MS = 50;
/** A lap of the board's guest, on a machine that does other things, too. */
const LAP_MS = 30_000;

export interface MovingGuest {
  readonly kind: "synthetic" | "board";
  /** @returns the VM's id; it runs */
  create(client: Client): Promise<string>;
  /** What is wrong with it where it runs now; nothing: it goes on, and lost no page. */
  check(client: Client, vm: string): Promise<readonly string[]>;
}

const hex = (value: number): string => `0x${value.toString(16)}`;

async function read(client: Client, vm: string, gpa: number, length: number): Promise<Buffer> {
  const query = { gpa: hex(gpa), length: String(length) };
  const { base64 } = (await client.call("readPhysicalMemory", { vm }, undefined, query)) as {
    readonly base64: string;
  };
  return Buffer.from(base64, "base64");
}

/** A megabyte whose every word says where it is and of which seed. */
function stampsOf(seed: number): Uint8Array {
  const words = new Uint32Array(MIB / 4);
  for (const at of words.keys()) words[at] = Math.imul(at + 1, 0x9e37_79b1) ^ seed;
  return new Uint8Array(words.buffer);
}

/** Whether vCPU 0 runs, begun anew where a hold has ended the client's run. */
async function retires(client: Client, vm: string): Promise<boolean> {
  const at = { vm, n: "0" };
  const { state, retired } = await client.call("getVcpu", at);
  if (state === "idle") await client.call("createRun", at, {});
  const deadline = systemClock.monotonicMs() + LAP_MS;
  while (systemClock.monotonicMs() < deadline) {
    if ((await client.call("getVcpu", at)).retired > retired) return true;
    await systemClock.sleep(POLL_MS);
  }
  return false;
}

/** RAM whose lower part is known; a vCPU stores to the upper part without end. */
export function syntheticGuest(seed: number): MovingGuest {
  const stamps = stampsOf(seed);
  const size = 8 * MIB;
  return {
    kind: "synthetic",
    create: async (client) => {
      const { id: vm } = await client.call("createVm", {}, {});
      const object = await client.call("createMemoryObject", { vm }, { size: hex(size) });
      const slot = { guestPhysAddr: "0x0", memorySize: hex(size), memoryObjectId: object.id };
      await client.call("setMemslot", { vm, slot: "0" }, slot);
      await client.call("writePhysicalMemory", { vm }, stamps, { gpa: "0x0" });
      await client.call("createVcpu", { vm, n: "0" }, {});
      const pattern = { kind: "pattern", pattern: "uniform", count: 0 } as const;
      const window = { base: hex(4 * MIB), bytes: hex(4 * MIB), seed: hex(seed) };
      await client.call("setProgram", { vm, n: "0" }, { ...pattern, ...window });
      await client.call("createRun", { vm, n: "0" }, {});
      return vm;
    },
    check: async (client, vm) => {
      const found = await read(client, vm, 0, MIB);
      if (!found.equals(stamps)) return ["its memory isn't what it was"];
      return (await retires(client, vm)) ? [] : ["its vCPU stands still"];
    },
  };
}

/** Counts on with every page that it stamps. */
export function boardGuest(): MovingGuest {
  const count = async (client: Client, vm: string) => {
    const bytes = await read(client, vm, STAMPS.count, 16);
    return { laps: Number(bytes.readBigUInt64LE(0)), bad: Number(bytes.readBigUInt64LE(8)) };
  };
  return {
    kind: "board",
    create: async (client) => {
      await client.call("putImage", { image: "stamps" }, stampingGuest());
      const board = { image: "stamps", memoryMiB: 8 };
      const { id: vm } = await client.call("createVm", {}, { board });
      await client.call("startVm", { vm });
      return vm;
    },
    check: async (client, vm) => {
      const first = await count(client, vm);
      const deadline = systemClock.monotonicMs() + LAP_MS;
      for (;;) {
        const { laps, bad } = await count(client, vm);
        if (bad > 0) return [`${bad} bad stamps after ${laps}`];
        if (laps > first.laps + STAMPS.pages) return [];
        if (systemClock.monotonicMs() > deadline) return [`its guest stands still at ${laps}`];
        await systemClock.sleep(POLL_MS);
      }
    },
  };
}
