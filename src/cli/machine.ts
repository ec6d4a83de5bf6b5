// Owns: a guest's machine as it was asked for, made on a host. CLI process.
import { basename } from "node:path";
import type { Client } from "./client.js";
import type { Cleanup, Terminal } from "./ending.js";
import { upload } from "./upload.js";

export interface DeviceOptions {
  readonly its: boolean;
  readonly rtc: boolean;
  readonly pci: boolean;
  /** A virtio console by which a test ends its machine. */
  readonly testdev: boolean;
}

export interface MachineOptions {
  /** Files; null: none. */
  readonly kernel: string | null;
  readonly initrd: string | null;
  readonly firmware: string | null;
  readonly disk: string | null;
  readonly append: string;
  readonly smp: number;
  readonly memMiB: number;
  /** null: a machine without an interrupt controller. */
  readonly gic: 2 | 3 | 5 | null;
  /** Devices beside the UART; none where absent. */
  readonly devices?: DeviceOptions;
  readonly clock: "wall" | "virtual";
}

const NAME_MAX = 128;

function devicesOf({ devices }: MachineOptions) {
  if (devices === undefined) return {};
  const { its, rtc, pci, testdev } = devices;
  // kvm-unit-tests' driver knows version 1 alone.
  return { its, rtc, pci, ...(testdev ? ({ virtio: "legacy", console: "testdev" } as const) : {}) };
}

/** Uploads what the machine starts with, and creates its VM. @returns the VM's id */
export async function createMachine(
  client: Client,
  options: MachineOptions,
  cleanup: Cleanup,
  terminal: Terminal,
): Promise<string> {
  const { kernel, initrd, firmware, disk, gic } = options;
  const put = async (path: string | null) =>
    path === null ? null : upload(client, path, cleanup, terminal);
  const board = {
    image: await put(kernel),
    initrd: await put(initrd),
    firmware: await put(firmware),
    disk: await put(disk),
    gic,
    ...devicesOf(options),
    cmdline: options.append,
    memoryMiB: options.memMiB,
    vcpus: options.smp,
  };
  const name = basename(kernel ?? firmware ?? "").slice(0, NAME_MAX);
  const clock = { mode: options.clock };
  const { id } = await client.call("createVm", {}, { name, clock, board });
  cleanup.add(() => client.call("deleteVm", { vm: id }));
  return id;
}
