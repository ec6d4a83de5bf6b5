// Owns: a Linux guest's way from its start to its power-off, typed to over HTTP. Tool, test and
// bench process.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Client } from "../../dist/cli/client.js";
import type { Operations } from "../../dist/generated/client.js";
import { initramfs, type KernelName, kernelFile, TUNED } from "./initramfs.js";
import { interruptTables, SHOW_LOG, stillOnes } from "./interrupts.js";

export interface BootSpec {
  readonly kernel: KernelName;
  readonly gic: 2 | 3 | 5;
  readonly smp: number;
  readonly clock: "wall" | "virtual";
  /** Words for `init`, behind the tuned options; the shell's if absent. */
  readonly words?: string;
  readonly memoryMiB?: number;
  /** Entries of each vCPU's dirty ring. */
  readonly dirtyRingEntries?: number;
  /** With a virtio disk: it is written to, and read again after a `reboot -f`. */
  readonly disk?: boolean;
}

/** What is typed at the prompt, one after the other. */
const TABLE = "cat /proc/interrupts";
const TYPED = ["uname -a", TABLE, "poweroff -f"];
const REBOOT = "reboot -f";
export const DISK_BYTES = 8 * 2 ** 20;
/** What the kernel has of the disk is forgotten first. */
const READ_DISK = "echo 3 > /proc/sys/vm/drop_caches; md5sum < /dev/vda";
/** A CPU that idles has no clock tick: each gets work for some of them. */
const BUSY = "for cpu in $(seq $(nproc)); do for n in $(seq 5000); do :; done & done; wait";
/** The shell prints it, and asks a terminal where the cursor is. */
export const PROMPT = "guest# ";
export const MEMORY_MIB = 256;
/** INTID of the virtual timer. */
const TIMER = 27;
/** On a machine that others are busy on. */
export const LIMIT_MS = 300_000;

export interface Booted {
  readonly vm: string;
  readonly console: string;
  /** From the start to the banner, and to power-off. */
  readonly bannerMs: number;
  readonly totalMs: number;
  readonly instructions: number;
}

interface Typing {
  /** One line at each prompt. */
  readonly typed?: readonly string[];
  readonly prompt?: string;
  readonly limitMs?: number;
}

/** The guest didn't get there: what it printed, and where its CPUs are. */
export class BootError extends Error {
  override readonly name = "BootError";
}

/** @param upload false: it is on the host. @returns the name, which is of the content */
async function putImage(client: Client, bytes: Uint8Array, upload: boolean): Promise<string> {
  const image = `boot-${createHash("sha256").update(bytes).digest("hex").slice(0, 32)}`;
  if (upload) await client.call("putImage", { image }, bytes);
  return image;
}

/** The images of each kernel, by name. */
const named = new Map<KernelName, { readonly image: string; readonly initrd: string }>();

async function imagesOf(client: Client, kernel: KernelName, upload: boolean) {
  const known = named.get(kernel);
  if (!upload && known !== undefined) return known;
  const file = kernelFile(kernel);
  if (file === null) throw new BootError(`no kernel ${kernel} here: npm run guests:fetch`);
  const images = {
    image: await putImage(client, Uint8Array.from(readFileSync(file)), upload),
    initrd: await putImage(client, initramfs(kernel), upload),
  };
  named.set(kernel, images);
  return images;
}

/** The kernel's command line. */
export function cmdlineOf({ words, disk = false }: BootSpec): string {
  return `${TUNED} ${words ?? (disk ? "g.disk g.sh" : "g.sh")}`;
}

/**
 * A VM that is ready to start.
 * @param upload false where the host has had this kernel before
 */
export async function createLinux(
  client: Client,
  spec: BootSpec,
  { upload = true } = {},
): Promise<string> {
  const { kernel, gic, smp, clock, disk = false } = spec;
  const board = {
    ...(await imagesOf(client, kernel, upload)),
    cmdline: cmdlineOf(spec),
    memoryMiB: spec.memoryMiB ?? MEMORY_MIB,
    vcpus: smp,
    gic,
    ...(spec.dirtyRingEntries === undefined ? {} : { dirtyRingEntries: spec.dirtyRingEntries }),
    ...(disk ? { disk: await putImage(client, new Uint8Array(DISK_BYTES), upload) } : {}),
  };
  const name = `linux-${kernel}-gic${gic}-smp${smp}`;
  return (await client.call("createVm", {}, { name, clock: { mode: clock }, board })).id;
}

/** What stopped a boot: board, the last lines, the program counters. */
async function postMortem(client: Client, vm: string, console: string): Promise<string> {
  const board: Operations["getBoard"]["answer"] = await client.call("getBoard", { vm });
  const lines = console.split("\n").slice(-20).join("\n");
  const { items } = await client.call("listVcpus", { vm });
  // Registers are read where the guest stands still.
  if (board.state === "running") await client.call("pauseVm", { vm });
  const pcs = await Promise.all(
    items.map(async ({ id }) => {
      const registers = await client.call("getDecodedRegisters", { vm, n: String(id) });
      const value = registers.items.find(({ name }) => name === "PC")?.value;
      return `vCPU ${id}: PC ${value ?? "unknown"}`;
    }),
  );
  const { state, reason, unassigned } = board;
  return [
    `${state}: ${reason ?? "no reason"}`,
    ...pcs,
    `${unassigned.count} unassigned accesses, the last at ${unassigned.last ?? "none"}`,
    `last lines:\n${lines}`,
  ].join("\n");
}

/**
 * Starts the VM, types at each prompt, and waits for power-off.
 * @throws BootError with what stopped it
 */
export async function bootLinux(
  client: Client,
  vm: string,
  { typed = TYPED, prompt = PROMPT, limitMs = LIMIT_MS }: Typing = {},
): Promise<Booted> {
  const abort = new AbortController();
  const limit = setTimeout(() => abort.abort(), limitMs);
  const start = performance.now();
  let [console, bannerMs, prompts] = ["", Number.NaN, 0];
  const took = () => performance.now() - start;
  try {
    const events = client.follow("readConsole", { vm }, "", abort.signal);
    await client.call("startVm", { vm });
    for await (const { event, data } of events) {
      if (event === "board.state") {
        const { state } = data as { state: string };
        if (state === "shutdown") return await ended();
        if (state === "crashed") throw new BootError("it crashed");
      }
      if (event !== "console.output") continue;
      console += (data as { text: string }).text;
      if (Number.isNaN(bannerMs) && console.includes("GUEST-BANNER")) bannerMs = took();
      if (console.split(prompt).length - 1 <= prompts) continue;
      const line = typed[prompts++];
      if (line !== undefined) await client.call("typeConsole", { vm }, { text: `${line}\n` });
    }
    throw new BootError("the console ended");
  } catch (error) {
    const why = abort.signal.aborted ? `not over after ${limitMs} ms` : (error as Error).message;
    throw new BootError(`${why}\n${await postMortem(client, vm, console)}`);
  } finally {
    clearTimeout(limit);
    abort.abort();
  }

  async function ended(): Promise<Booted> {
    const totalMs = took();
    const { kvm } = await client.call("getVm", { vm });
    return { vm, console, bannerMs, totalMs, instructions: Number(kvm?.instructions) };
  }
}

/** What is typed at the prompts of a boot. */
export function typedIn({ gic, disk = false }: BootSpec): readonly string[] {
  const [first, ...rest] = disk ? [REBOOT, ...TYPED] : TYPED;
  if (gic !== 5) return [first ?? "", ...rest];
  const between = [...(disk ? [READ_DISK] : []), BUSY, TABLE, SHOW_LOG];
  return [first ?? "", ...rest.slice(0, -1), ...between, ...rest.slice(-1)];
}

/** Interrupts that don't come while they should, between two tables. */
function still({ disk = false }: BootSpec, console: string): readonly string[] {
  return stillOnes(console, [
    { chip: "GICv5-PPI", name: "arch_timer", on: "each CPU" },
    { chip: "GICv5-SPI", name: "uart-pl011", on: "some CPU" },
    ...(disk ? ([{ chip: "GICv5-SPI", name: "virtio", on: "some CPU" }] as const) : []),
  ]);
}

/** Counts of the timer by CPU, as the last table has them. */
function timerCounts({ gic }: BootSpec, console: string): readonly number[] {
  const chip = { 2: "GIC-0", 3: "GICv3", 5: "GICv5-PPI" }[gic];
  const row = interruptTables(console)
    .at(-1)
    ?.find((row) => row.chip === chip && row.number === TIMER && row.name === "arch_timer");
  return row?.trigger === "Level" ? row.counts : [];
}

/** What the first system wrote the second one has read. */
function diskWasKept(console: string): boolean {
  const said = [
    .../^GUEST-DISK good .* filesystem=(\w+) before=(\w+) sum=(\w+)/gm[Symbol.matchAll](console),
  ];
  const [first, second] = said.map(([, filesystem, before, sum]) => ({ filesystem, before, sum }));
  return (
    said.length === 2 &&
    first?.filesystem === "made" &&
    second?.filesystem === "kept" &&
    second.before === first.sum
  );
}

/** What a boot lacks that its spec promised; empty: nothing. */
export function faultsOf(spec: BootSpec, { console }: Booted): readonly string[] {
  const { kernel, gic, smp, disk = false } = spec;
  const counts = timerCounts(spec, console);
  const quiet = gic === 5 ? still(spec, console) : [];
  const checks: readonly (readonly [string, boolean])[] = [
    ["no banner", console.includes(`GUEST-BANNER ${kernel}.`)],
    ["another number of CPUs", console.includes(`cpus=${smp} `)],
    ["no uname", new RegExp(`^Linux \\(none\\) ${kernel}\\..* aarch64`, "m").test(console)],
    [`no timer interrupts on each of ${smp} CPUs`, counts.length === smp && !counts.includes(0)],
    [`no interrupts of ${quiet.join(" and ")}`, quiet.length === 0],
    ["the disk's content was not kept over a reboot", !disk || diskWasKept(console)],
    ["no power-off", console.includes("reboot: Power down")],
  ];
  return checks.filter(([, isGood]) => !isGood).map(([what]) => what);
}

/**
 * A second VM from the first one's input log.
 * @param to the client of the host that replays; it may be another one
 * @returns its console and count, as the first one's
 */
export async function replayLinux(
  client: Client,
  vm: string,
  to: Client = client,
  limitMs = 3 * LIMIT_MS,
): Promise<Pick<Booted, "vm" | "console" | "instructions" | "totalMs">> {
  const log = await client.call("getVmInputs", { vm });
  const start = performance.now();
  const { id } = await to.call("createVm", {}, { inputs: { log } });
  for (;;) {
    const { kvm, state } = await to.call("getVm", { vm: id });
    if (state !== "active" || kvm === null) throw new BootError(`the replay is ${state}`);
    if (!kvm.replaying) {
      const console = await to.text("readConsole", { vm: id });
      const totalMs = performance.now() - start;
      return { vm: id, console, totalMs, instructions: Number(kvm.instructions) };
    }
    if (performance.now() - start > limitMs) throw new BootError("the replay takes too long");
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
