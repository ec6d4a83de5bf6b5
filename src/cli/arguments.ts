// Owns: what was asked for on the command line, checked. CLI process.
import { parseArgs } from "node:util";
import type { ExperimentOptions } from "./experiment.js";
import type { HostOptions } from "./host.js";
import {
  clockOf,
  flag,
  gicOf,
  HOST_OPTIONS,
  hostOf,
  positive,
  SERVER_DEFAULT,
  text,
  usageOf,
} from "./options.js";
import type { RunOptions } from "./run.js";

export const USAGE = `usage: tidemark COMMAND

  serve                     the host; its settings are in the environment, see .env.example
  run FILE [options]        runs a flat binary or a Linux Image, ends with the guest's status
      --smp N               vCPUs (1)
      --mem MIB             RAM (128)
      --append TEXT         the kernel's command line, or a test's arguments
      --initrd FILE         an initrd, or a test's environment
      --gic VERSION         interrupt controller: 2, 3, 5 or none (none)
      --its, --rtc          with the ITS of a GICv3; with a real-time clock
      --pci                 with a PCIe bus and a pci-testdev on it
      --testdev             with the virtio console by which a test ends its machine
      --clock MODE          wall or virtual (wall)
      --timeout SECONDS     gives up after that long, with status 124
  boot [options]            a kernel or firmware, its console on this terminal; --help says more
  experiment FILE [options] compares ways to track dirty pages, see docs/experiments
      --csv FILE, --svg FILE, --json FILE   where results go
      --metric NAME         of the picture: cycles, per-page, exits, pages or wall (cycles)
  dirty-log VERB VM SLOT    reads, clears or watches the dirty pages of a VM; --help says more
  irqfd VERB ...            eventfds that raise a VM's interrupts; --help says more
  scenario NAME [options]   a VM dies while its device asserts, and the next; --help says more
  dirty-log-perf [options]  dirty tracking by every strategy, phase by phase; --help says more
  migrate VM --to PEER      moves a VM to another host; --help says more
  migrations                lists them, and what they took
  snapshot VERB ...         VMs on disk: taken, listed, restored, deleted; --help says more
  vm ls                     lists VMs
  vm show ID                shows a VM
  vm rm ID...               deletes VMs
  vgic ID                   what is pending or active in a VM's interrupt controller

  --server URL              the host to use (run, experiment: one of its own; vm, vgic: http://127.0.0.1:8080)
  --token-file FILE         holds the bearer token for it
  --help, --version

run prints the guest's console and types what comes in on standard input. Status: 0 when the guest
says "EXIT: STATUS=1" or just powers off, n>>1 (or 1) for "EXIT: STATUS=n", 124 after the time-out,
125 when it crashed or the host failed, 130 after Ctrl-C.
`;

export type Asked =
  | { readonly command: "help" | "version" | "serve" }
  | { readonly command: "run"; readonly options: RunOptions }
  | { readonly command: "experiment"; readonly options: ExperimentOptions }
  | { readonly command: OwnOptions; readonly args: readonly string[] }
  | {
      readonly command: "vm";
      readonly verb: "ls" | "show" | "rm";
      readonly ids: readonly string[];
      readonly host: HostOptions;
    }
  | { readonly command: "vgic"; readonly vm: string; readonly host: HostOptions };

/** They have options of their own. */
const WITH_OPTIONS = [
  ...(["boot", "dirty-log", "dirty-log-perf", "irqfd", "scenario"] as const),
  ...(["migrate", "migrations", "snapshot"] as const),
] as const;
type OwnOptions = (typeof WITH_OPTIONS)[number];

const OPTIONS = {
  smp: text,
  mem: text,
  append: text,
  initrd: text,
  clock: { ...text, default: "wall" },
  gic: { ...text, default: "none" },
  its: flag,
  rtc: flag,
  pci: flag,
  testdev: flag,
  timeout: text,
  csv: text,
  svg: text,
  json: text,
  metric: text,
  version: flag,
  ...HOST_OPTIONS,
} as const;

const MEMORY_MIB = 128;

type Values = ReturnType<typeof read>["values"];

function read(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw usage((error as Error).message);
  }
}

const usage = usageOf(USAGE);

function runOf(values: Values, rest: readonly string[]): Asked {
  const [file, ...more] = rest;
  if (file === undefined || more.length > 0) throw usage("run takes one file.");
  const options: RunOptions = {
    ...hostOf(values, null, usage),
    kernel: file,
    initrd: values.initrd ?? null,
    firmware: null,
    disk: null,
    append: values.append ?? "",
    smp: positive("smp", values.smp, 1, usage),
    memMiB: positive("mem", values.mem, MEMORY_MIB, usage),
    gic: gicOf(values.gic, usage),
    devices: { its: values.its, rtc: values.rtc, pci: values.pci, testdev: values.testdev },
    clock: clockOf(values.clock, usage),
    timeoutS: values.timeout === undefined ? null : positive("timeout", values.timeout, 0, usage),
  };
  return { command: "run", options };
}

function experimentOf(values: Values, rest: readonly string[]): Asked {
  const [file, ...more] = rest;
  if (file === undefined || more.length > 0) throw usage("experiment takes one file.");
  const { csv = null, svg = null, json = null, metric = "cycles" } = values;
  return {
    command: "experiment",
    options: { ...hostOf(values, null, usage), file, csv, svg, json, metric },
  };
}

function vmOf(values: Values, rest: readonly string[]): Asked {
  const [verb, ...ids] = rest;
  const host = hostOf(values, SERVER_DEFAULT, usage);
  const isKnown = verb === "ls" || verb === "show" || verb === "rm";
  if (!isKnown) throw usage("vm takes ls, show or rm.");
  const fits =
    verb === "ls" ? ids.length === 0 : verb === "show" ? ids.length === 1 : ids.length > 0;
  if (!fits) throw usage(`vm ${verb} takes ${verb === "ls" ? "no" : "an"} id.`);
  return { command: "vm", verb, ids, host };
}

function vgicOf(values: Values, rest: readonly string[]): Asked {
  const [vm, ...more] = rest;
  if (vm === undefined || more.length > 0) throw usage("vgic takes an id.");
  return { command: "vgic", vm, host: hostOf(values, SERVER_DEFAULT, usage) };
}

/** @throws Failure with the usage */
export function asked(args: readonly string[]): Asked {
  const own = WITH_OPTIONS.find((name) => name === args[0]);
  if (own !== undefined) return { command: own, args: args.slice(1) };
  const { values, positionals } = read(args);
  const [command, ...rest] = positionals;
  if (values.help) return { command: "help" };
  if (values.version) return { command: "version" };
  if (command === "serve" && rest.length === 0) return { command };
  if (command === "run") return runOf(values, rest);
  if (command === "experiment") return experimentOf(values, rest);
  if (command === "vm") return vmOf(values, rest);
  if (command === "vgic") return vgicOf(values, rest);
  throw usage(command === undefined ? "A command is missing." : `There is no command ${command}.`);
}
