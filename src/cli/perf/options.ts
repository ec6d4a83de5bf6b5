// Owns: what was asked of `tidemark dirty-log-perf`, checked and bounded. CLI process.
import { parseArgs } from "node:util";
import { Failure } from "../failure.js";
import type { HostOptions } from "../host.js";
import { type Settings, settingsOf } from "../options.js";
import { STRATEGY_HELP, type Strategy, strategyOf } from "./strategy.js";

export interface PerfOptions extends HostOptions {
  readonly vcpus: number;
  readonly bytesPerVcpu: number;
  readonly iterations: number;
  /** null: all that the host has. */
  readonly strategies: readonly Strategy[] | null;
  /** Pages that each vCPU writes in an iteration. */
  readonly pagesPerVcpu: number;
  readonly pageSize: 4096 | 16384 | 65536; // tidy: what the API takes
  readonly writePercent: number;
  readonly isRandom: boolean;
  readonly isOverlapping: boolean;
  /** 0: GET clears too; 1: CLEAR does; 3: and every page starts out dirty. */
  readonly manualProtect: 0 | 1 | 3;
  readonly seed: number;
  /** The caller's settings of the VM, on top of the strategy's. */
  readonly settings: Settings;
  /** The caller's costs, by key. */
  readonly costs: Readonly<Record<string, number>>;
  readonly asJson: boolean;
  readonly timeoutS: number;
}

const VCPUS_MAX = 256;
const ITERATIONS_MAX = 1000;
const TOTAL_BYTES_MAX = 256 * 2 ** 30;
const TIMEOUT_S = 600;

export const PERF_USAGE = `usage: tidemark dirty-log-perf [options]

Measures dirty tracking as the kernel's dirty_log_perf_test does: vCPUs write their memory, the log
is turned on, then read and cleared after each of some iterations. Prints every phase for every
strategy, in cycles of the cost model and in real time.

  -v, --vcpus N             vCPUs (1)
  -b, --bytes SIZE          memory of each vCPU, as 64M or 1G (64M)
  -i, --iterations N        iterations with the log on (3)
  -s, --strategy LIST       some of the strategies below, with commas (all that the host has)
      --pages N             pages that each vCPU writes in an iteration, evenly spread (all)
      --page-size SIZE      4K, 16K or 64K (4K)
  -w, --write-percent N     share of stores among the accesses (100)
  -a, --random-access       at random instead of in order
  -o, --overlap             all vCPUs write the same memory
  -g, --legacy              without KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: reading clears
      --no-initially-set    every page starts out clean and protected, as it does with --legacy
  -r, --random-seed N       (1)
      --set KEY=VALUE       a setting of GET /v1/dirty-settings; may be repeated
      --cost KEY=CYCLES     another cost than the model's; may be repeated
      --timeout SECONDS     gives up after that long, with status 124 (${TIMEOUT_S})
      --json                everything that was counted, as JSON
      --server URL          the host to use (one of its own)
      --token-file FILE     holds the bearer token for it

Strategies:
${STRATEGY_HELP.map((line) => `  ${line}\n`).join("")}`;

const text = { type: "string" } as const;
const flag = { type: "boolean", default: false } as const;
const OPTIONS = {
  vcpus: { type: "string", short: "v", default: "1" },
  bytes: { type: "string", short: "b", default: "64M" },
  iterations: { type: "string", short: "i", default: "3" },
  strategy: { type: "string", short: "s" },
  pages: text,
  "page-size": { type: "string", default: "4K" },
  "write-percent": { type: "string", short: "w", default: "100" },
  "random-access": { ...flag, short: "a" },
  overlap: { ...flag, short: "o" },
  legacy: { ...flag, short: "g" },
  "no-initially-set": flag,
  "random-seed": { type: "string", short: "r", default: "1" },
  set: { type: "string", multiple: true, default: [] as string[] },
  cost: { type: "string", multiple: true, default: [] as string[] },
  timeout: { type: "string", default: String(TIMEOUT_S) },
  json: flag,
  server: text,
  "token-file": text,
  help: { ...flag, short: "h" },
} as const;

const UNITS: Readonly<Record<string, number>> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

function usage(why: string): Failure {
  return new Failure(`${why}\n${PERF_USAGE}`);
}

/** @returns bytes of a size as 64M, or NaN */
export function sizeOf(given: string): number {
  const match = /^([0-9]{1,12})([KMG]?)(?:i?B)?$/i.exec(given);
  if (match === null) return Number.NaN;
  const [, digits, unit = ""] = match;
  return Number(digits) * (UNITS[unit.toUpperCase()] ?? Number.NaN);
}

function whole(name: string, given: string, min: number, max: number): number {
  const value = /^[0-9]{1,12}$/.test(given) ? Number(given) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw usage(`--${name} takes a whole number from ${min} to ${max}, not ${given}.`);
}

function pageSizeOf(given: string): PerfOptions["pageSize"] {
  const size = sizeOf(given);
  if (size === 4096 || size === 16384 || size === 65536) return size; // tidy: what the API takes
  throw usage(`--page-size is 4K, 16K or 64K, not ${given}.`);
}

function bytesOf(given: string, vcpus: number, pageSize: number): number {
  const bytes = sizeOf(given);
  if (bytes >= pageSize && bytes % pageSize === 0 && bytes * vcpus <= TOTAL_BYTES_MAX) return bytes;
  throw usage(
    `--bytes takes whole pages, as 64M or 1G, of which all vCPUs together have 256G at most; ` +
      `not ${given}.`,
  );
}

function costsOf(given: readonly string[]): Readonly<Record<string, number>> {
  const pairs = given.map((pair) => {
    const match = /^([A-Za-z0-9]+)=([0-9]{1,12}(?:\.[0-9]{1,6})?)$/.exec(pair);
    if (match === null) throw usage(`--cost takes KEY=CYCLES, not ${pair}.`);
    return [match[1], Number(match[2])] as const;
  });
  return Object.fromEntries(pairs) as Readonly<Record<string, number>>;
}

function read(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS }).values;
  } catch (error) {
    throw usage((error as Error).message);
  }
}

/** @returns null where only help was asked for. @throws Failure with the usage */
export function perfOptions(args: readonly string[]): PerfOptions | null {
  const values = read(args);
  if (values.help) return null;
  const vcpus = whole("vcpus", values.vcpus, 1, VCPUS_MAX);
  const pageSize = pageSizeOf(values["page-size"]);
  const bytesPerVcpu = bytesOf(values.bytes, vcpus, pageSize);
  const pages = bytesPerVcpu / pageSize;
  const { server = null } = values;
  if (server !== null && !/^https?:\/\//.test(server)) {
    throw usage(`--server takes http://HOST:PORT, not ${server}.`);
  }
  return {
    vcpus,
    bytesPerVcpu,
    iterations: whole("iterations", values.iterations, 1, ITERATIONS_MAX),
    strategies: values.strategy?.split(",").map(strategyOf) ?? null,
    pagesPerVcpu: values.pages === undefined ? pages : whole("pages", values.pages, 1, pages),
    pageSize,
    writePercent: whole("write-percent", values["write-percent"], 0, 100),
    isRandom: values["random-access"],
    isOverlapping: values.overlap,
    manualProtect: values.legacy ? 0 : values["no-initially-set"] ? 1 : 3,
    seed: whole("random-seed", values["random-seed"], 0, 0xffff_ffff),
    settings: settingsOf(values.set, usage),
    costs: costsOf(values.cost),
    asJson: values.json,
    timeoutS: whole("timeout", values.timeout, 1, 86_400),
    server,
    tokenFile: values["token-file"] ?? null,
  };
}
