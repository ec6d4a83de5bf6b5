// Owns: `tidemark boot`: a kernel or firmware on a machine of its own, its console on this
// terminal, every key the guest's. CLI process.
import { parseArgs } from "node:util";
import type { Client } from "./client.js";
import { checkEnd, follow, type } from "./console.js";
import { Cleanup, endings, type Terminal } from "./ending.js";
import { EXIT } from "./failure.js";
import { type HostOptions, openHost } from "./host.js";
import { createMachine, type MachineOptions } from "./machine.js";
import {
  clockOf,
  flag,
  gicOf,
  HOST_OPTIONS,
  hostOf,
  positive,
  text,
  type Usage,
  usageOf,
} from "./options.js";

interface BootOptions extends HostOptions, MachineOptions {
  readonly timeoutS: number | null;
  /** The VM outlives this command. */
  readonly keep: boolean;
}

const BOOT_USAGE = `usage: tidemark boot --kernel FILE [options]

Boots a Linux Image (or a flat or ELF one) or firmware. The guest's console is this terminal: every
key goes to the guest, Ctrl-C too. Ctrl-] leaves.

      --kernel FILE         what to boot
      --initrd FILE         its initrd
      --append TEXT         its command line (console=ttyAMA0)
      --firmware FILE       runs from flash instead, and finds the kernel by fw_cfg
      --disk FILE           what a virtio disk shows; the file itself stays as it is
      --memory MIB          RAM (256)
      --smp N               vCPUs (1)
      --gic VERSION         interrupt controller: 2, 3, 5 or none (3)
      --clock MODE          wall or virtual (wall)
      --timeout SECONDS     gives up after that long, with status 124
      --keep                leaves the VM and its images on the host, to go on there
      --server URL          the host to use (one of its own)
      --token-file FILE     holds the bearer token for it

Status: 0 when the guest powered off or was left, 124 after the time-out, 125 when it crashed or the
host failed.
`;

const OPTIONS = {
  kernel: text,
  initrd: text,
  append: { ...text, default: "console=ttyAMA0" },
  firmware: text,
  disk: text,
  memory: text,
  smp: text,
  gic: { ...text, default: "3" },
  clock: { ...text, default: "wall" },
  timeout: text,
  keep: flag,
  ...HOST_OPTIONS,
} as const;

const MEMORY_MIB = 256;
/** Ctrl-], as in telnet and virsh. */
const LEAVE = 0x1d;

function read(args: readonly string[], usage: Usage) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS }).values;
  } catch (error) {
    throw usage((error as Error).message);
  }
}

/** @returns null where only help was asked for. @throws Failure with the usage */
function bootOptions(args: readonly string[]): BootOptions | null {
  const usage = usageOf(BOOT_USAGE);
  const values = read(args, usage);
  if (values.help) return null;
  const { kernel = null, firmware = null, keep } = values;
  if (kernel === null && firmware === null) throw usage("boot takes --kernel or --firmware.");
  const host = hostOf(values, null, usage);
  if (keep && host.server === null) throw usage("--keep wants a --server to keep the VM.");
  return {
    ...host,
    kernel,
    firmware,
    keep,
    initrd: values.initrd ?? null,
    disk: values.disk ?? null,
    append: values.append,
    smp: positive("smp", values.smp, 1, usage),
    memMiB: positive("memory", values.memory, MEMORY_MIB, usage),
    gic: gicOf(values.gic, usage),
    clock: clockOf(values.clock, usage),
    timeoutS: values.timeout === undefined ? null : positive("timeout", values.timeout, 0, usage),
  };
}

/** Types what comes in. @returns whether the user left; false at the input's end */
async function typeKeys(client: Client, vm: string, terminal: Terminal): Promise<boolean> {
  for await (const bytes of terminal.input) {
    const at = bytes.indexOf(LEAVE);
    const typed = new Uint8Array(at < 0 ? bytes : bytes.subarray(0, at));
    if (typed.length > 0) await type(client, vm, typed);
    if (at >= 0) return true;
  }
  return false;
}

/** From the start to power-off, or until the user leaves. @returns whether the user left */
async function session(
  client: Client,
  vm: string,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<boolean> {
  const ended = follow(client, vm, terminal, terminal.write, signal);
  // It is awaited below; a refused start comes first.
  ended.catch(() => {});
  await client.call("startVm", { vm });
  const cooked = terminal.raw();
  try {
    const end = ended.then((state) => {
      checkEnd(state);
      return false;
    });
    const left = typeKeys(client, vm, terminal).then(
      (hasLeft) => (hasLeft ? true : end),
      () => end, // the guest has gone while a key was on its way
    );
    return await Promise.race([end, left]);
  } finally {
    cooked();
  }
}

/** @returns the exit code */
export async function boot(args: readonly string[], terminal: Terminal): Promise<number> {
  const options = bootOptions(args);
  if (options === null) {
    terminal.write(BOOT_USAGE);
    return EXIT.ok;
  }
  const { ending, stop } = endings("The guest", options.timeoutS, terminal);
  const { signal } = ending.controller;
  const host = await openHost(options);
  const cleanup = new Cleanup();
  let isKept = false;
  try {
    const vm = await createMachine(host.client, options, cleanup, terminal);
    signal.throwIfAborted();
    const hasLeft = await session(host.client, vm, terminal, signal);
    ending.controller.abort();
    isKept = options.keep;
    if (isKept) terminal.warn(`VM ${vm} ${hasLeft ? "goes on" : "is kept"}.`);
    return EXIT.ok;
  } catch (error) {
    throw ending.cause ?? error;
  } finally {
    terminal.input.destroy();
    stop();
    if (!isKept) await cleanup.run();
    await host.close();
  }
}
