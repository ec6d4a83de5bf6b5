// Owns: what was asked for on the command line, checked. CLI process.
import { parseArgs } from "node:util";
import type { ExperimentOptions } from "./experiment.js";
import { Failure } from "./failure.js";
import type { HostOptions } from "./host.js";
import type { RunOptions } from "./run.js";

export const USAGE = `usage: tidemark COMMAND

  serve                     the host; its settings are in the environment, see .env.example
  run FILE [options]        runs a flat binary or a Linux Image, ends with the guest's status
      --smp N               vCPUs (1)
      --mem MIB             RAM (128)
      --append TEXT         the kernel's command line, or a test's arguments
      --initrd FILE         an initrd, or a test's environment
      --clock MODE          wall or virtual (wall)
      --timeout SECONDS     gives up after that long, with status 124
  experiment FILE [options] compares ways to track dirty pages, see docs/experiments
      --csv FILE, --svg FILE, --json FILE   where results go
      --metric NAME         of the picture: cycles, per-page, exits, pages or wall (cycles)
  dirty-log-perf [options]  dirty tracking by every strategy, phase by phase; --help says more
  vm ls                     lists VMs
  vm show ID                shows a VM
  vm rm ID...               deletes VMs

  --server URL              the host to use (run, experiment: one of its own; vm: http://127.0.0.1:8080)
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
  | { readonly command: "dirty-log-perf"; readonly args: readonly string[] }
  | {
      readonly command: "vm";
      readonly verb: "ls" | "show" | "rm";
      readonly ids: readonly string[];
      readonly host: HostOptions;
    };

const SERVER_DEFAULT = "http://127.0.0.1:8080";
const text = { type: "string" } as const;
const OPTIONS = {
  smp: text,
  mem: text,
  append: text,
  initrd: text,
  clock: text,
  timeout: text,
  csv: text,
  svg: text,
  json: text,
  metric: text,
  server: text,
  "token-file": text,
  help: { type: "boolean", short: "h" },
  version: { type: "boolean" },
} as const;

type Values = ReturnType<typeof read>["values"];

function read(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw new Failure(`${(error as Error).message}\n${USAGE}`);
  }
}

function usage(why: string): Failure {
  return new Failure(`${why}\n${USAGE}`);
}

function integer(values: Values, name: "smp" | "mem" | "timeout", otherwise: number): number {
  const given = values[name];
  if (given === undefined) return otherwise;
  const value = Number(given);
  if (/^[0-9]{1,9}$/.test(given) && value > 0) return value;
  throw usage(`--${name} takes a positive integer, not ${given}.`);
}

function hostOf(values: Values, otherwise: string | null): HostOptions {
  const server = values.server ?? otherwise;
  if (server !== null && !/^https?:\/\//.test(server)) {
    throw usage(`--server takes http://HOST:PORT, not ${server}.`);
  }
  return { server, tokenFile: values["token-file"] ?? null };
}

function runOf(values: Values, rest: readonly string[]): Asked {
  const [file, ...more] = rest;
  if (file === undefined || more.length > 0) throw usage("run takes one file.");
  const { clock = "wall" } = values;
  if (clock !== "wall" && clock !== "virtual") throw usage("--clock is wall or virtual.");
  const options: RunOptions = {
    ...hostOf(values, null),
    file,
    initrd: values.initrd ?? null,
    append: values.append ?? "",
    smp: integer(values, "smp", 1),
    memMiB: integer(values, "mem", 128),
    clock,
    timeoutS: values.timeout === undefined ? null : integer(values, "timeout", 0),
  };
  return { command: "run", options };
}

function experimentOf(values: Values, rest: readonly string[]): Asked {
  const [file, ...more] = rest;
  if (file === undefined || more.length > 0) throw usage("experiment takes one file.");
  const { csv = null, svg = null, json = null, metric = "cycles" } = values;
  return {
    command: "experiment",
    options: { ...hostOf(values, null), file, csv, svg, json, metric },
  };
}

function vmOf(values: Values, rest: readonly string[]): Asked {
  const [verb, ...ids] = rest;
  const host = hostOf(values, SERVER_DEFAULT);
  const isKnown = verb === "ls" || verb === "show" || verb === "rm";
  if (!isKnown) throw usage("vm takes ls, show or rm.");
  const fits =
    verb === "ls" ? ids.length === 0 : verb === "show" ? ids.length === 1 : ids.length > 0;
  if (!fits) throw usage(`vm ${verb} takes ${verb === "ls" ? "no" : "an"} id.`);
  return { command: "vm", verb, ids, host };
}

/** @throws Failure with the usage */
export function asked(args: readonly string[]): Asked {
  // It has its own options, as the kernel's program has.
  if (args[0] === "dirty-log-perf") return { command: args[0], args: args.slice(1) };
  const { values, positionals } = read(args);
  const [command, ...rest] = positionals;
  if (values.help === true) return { command: "help" };
  if (values.version === true) return { command: "version" };
  if (command === "serve" && rest.length === 0) return { command };
  if (command === "run") return runOf(values, rest);
  if (command === "experiment") return experimentOf(values, rest);
  if (command === "vm") return vmOf(values, rest);
  throw usage(command === undefined ? "A command is missing." : `There is no command ${command}.`);
}
