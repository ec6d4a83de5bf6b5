// Owns: `npm run demo:migrate`: a booted Debian whose program dirties pages and checks its own
// stamps is moved back and forth between two processes; a table.
//   --times 50         moves of each row
//   --tracking LIST    methods: bitmap,manual-protect,ring,hdbss,hdbss+hacdbs,async-run
//   --kernel 6.1       6.1 or 7.2
//   --gic 3            2, 3, or 5 with kernel 7.2
//   --smp 2            vCPUs
//   --dirty 32,4096    working set in MiB, pages a second
//   --json FILE        the rows as JSON
// Every move compares digests of all memory before the target is ready. Exit status 1 when any
// stamp was bad, a move failed, or a guest fell silent.
// Own process; starts two hosts and ends them.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type Name, other, TwoHosts } from "../test/support/two-hosts.js";
import { createLinux } from "./linux/boot.js";
import { KERNELS, type KernelName, missingLinux } from "./linux/initramfs.js";
import { ConsoleWatch, reportsIn } from "./migrate/console.js";
import { type Migration, migrate, vmOf } from "./migrate/move.js";

const METHODS = [
  ...(["bitmap", "manual-protect", "ring", "hdbss", "hdbss+hacdbs", "async-run"] as const),
];
type Method = (typeof METHODS)[number];

const { values: options } = parseArgs({
  options: {
    times: { type: "string", default: "50" },
    tracking: { type: "string", default: METHODS.join(",") },
    kernel: { type: "string", default: "6.1" },
    gic: { type: "string", default: "3" },
    smp: { type: "string", default: "2" },
    dirty: { type: "string", default: "32,4096" },
    json: { type: "string" },
  },
});

interface Row {
  readonly method: Method;
  readonly moves: number;
  readonly reports: number;
  readonly bad: number;
  readonly totalMs: readonly number[];
  readonly downtimeMs: readonly number[];
  readonly rounds: number;
  readonly faults: readonly string[];
}

const RING_ENTRIES = 4096; // tidy: entries of a ring
const BOOT_MS = 180_000;
const MOVE_MS = 120_000;
const REPORT_MS = 60_000;

function kernelNamed(name: string): KernelName {
  if (name in KERNELS) return name as KernelName;
  throw new Error(`--kernel is ${Object.keys(KERNELS).join(" or ")}`);
}

function gicNamed(name: string): 2 | 3 | 5 {
  const found = ([2, 3, 5] as const).find((version) => String(version) === name);
  if (found === undefined) throw new Error("--gic is 2, 3 or 5");
  return found;
}

function methods(): readonly Method[] {
  return options.tracking.split(",").map((name) => {
    const found = METHODS.find((method) => method === name);
    if (found === undefined) throw new Error(`--tracking is of ${METHODS.join(", ")}`);
    return found;
  });
}

const KERNEL = kernelNamed(options.kernel);
const TIMES = Number(options.times);
const GIC = gicNamed(options.gic);

/** What a session says of why it ended. */
function whyOf({ state, failure, stateReason }: Migration): string {
  const causes = failure?.causes.join(": ") ?? "";
  return `${state}: ${failure?.detail ?? stateReason ?? "no reason"} ${causes}`.trim();
}

class Journey {
  readonly #hosts: TwoHosts;
  readonly #method: Method;
  readonly #totalMs: number[] = [];
  readonly #downtimeMs: number[] = [];
  readonly #faults: string[] = [];
  #rounds = 0;
  /** What the console said, whole. */
  #said = "";

  constructor(hosts: TwoHosts, method: Method) {
    this.#hosts = hosts;
    this.#method = method;
  }

  async run(): Promise<Row> {
    let at: Name = "host-a";
    let vm = await createLinux(this.#hosts.client(at), {
      kernel: KERNEL,
      gic: GIC,
      smp: Number(options.smp),
      clock: "wall",
      words: `g.dirty=${options.dirty},0`,
      ...(this.#method === "ring" ? { dirtyRingEntries: RING_ENTRIES } : {}),
    });
    const { uuid } = await this.#hosts.client(at).call("getVm", { vm });
    try {
      await this.#hosts.client(at).call("startVm", { vm });
      await this.#hear(at, vm, BOOT_MS);
      for (let n = 0; n < TIMES; n++) {
        await this.#move(at, vm);
        at = other(at);
        vm = await vmOf(this.#hosts.client(at), uuid);
        await this.#hear(at, vm, REPORT_MS);
      }
    } catch (error) {
      this.#faults.push((error as Error).message);
    }
    await this.#hosts
      .client(at)
      .call("deleteVm", { vm })
      .catch(() => {});
    return this.#row();
  }

  async #move(from: Name, vm: string): Promise<void> {
    const client = this.#hosts.client(from);
    const parameters = { tracking: this.#method, verify: true, downtimeMs: 300 };
    const asked = { vmId: vm, peer: other(from), parameters };
    const moved = await migrate(client, asked, MOVE_MS);
    if (moved.state !== "completed") throw new Error(whyOf(moved));
    this.#totalMs.push(moved.statistics?.totalMs ?? Number.NaN);
    this.#downtimeMs.push(moved.statistics?.downtimeMs ?? Number.NaN);
    this.#rounds += moved.progress?.round ?? 0;
    // The tombstone goes: the VM comes back here.
    await client.call("deleteVm", { vm });
  }

  /** Waits for a report that is new; its program's clock never goes back. */
  async #hear(at: Name, vm: string, limitMs: number): Promise<void> {
    const known = reportsIn(this.#said).length;
    const watch = new ConsoleWatch(this.#hosts.client(at), vm);
    try {
      await watch.until((text) => reportsIn(text).length > known, limitMs);
      this.#said = watch.text;
    } finally {
      await watch.close();
    }
    const reports = reportsIn(this.#said);
    const bad = reports.find((report) => report.bad > 0);
    if (bad !== undefined) throw new Error(`at ${bad.t} s ${bad.bad} stamps were bad`);
    if (reports.some(({ t }, n) => n > 0 && t <= (reports[n - 1]?.t ?? 0))) {
      throw new Error("the program's clock went back");
    }
  }

  #row(): Row {
    const reports = reportsIn(this.#said);
    return {
      method: this.#method,
      moves: this.#totalMs.length,
      reports: reports.length,
      bad: Math.max(0, ...reports.map(({ bad }) => bad)),
      totalMs: this.#totalMs,
      downtimeMs: this.#downtimeMs,
      rounds: this.#rounds,
      faults: this.#faults,
    };
  }
}

function median(values: readonly number[]): string {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[Math.floor(sorted.length / 2)] ?? Number.NaN).toFixed(0);
}

function print(row: Row): void {
  const { method, moves, reports, bad, totalMs, downtimeMs, rounds, faults } = row;
  const verdict = faults.length === 0 ? "good" : faults.join("; ");
  const cells = [
    method.padEnd(15),
    `${moves} moves`,
    `${(rounds / Math.max(1, moves)).toFixed(1)} rounds each`,
    `total ${median(totalMs)} ms`,
    `pause ${median(downtimeMs)} ms (most ${Math.max(0, ...downtimeMs).toFixed(0)})`,
    `${reports} reports, ${bad} bad stamps`,
    verdict,
  ];
  console.log(cells.join("  "));
}

async function main(): Promise<void> {
  const missing = missingLinux(KERNEL);
  if (missing !== null) throw new Error(missing);
  const hosts = await TwoHosts.start("demo");
  const rows: Row[] = [];
  try {
    for (const method of methods()) {
      const row = await new Journey(hosts, method).run();
      rows.push(row);
      print(row);
    }
  } finally {
    await hosts.stop();
  }
  if (options.json !== undefined) {
    writeFileSync(options.json, `${JSON.stringify(rows, null, 2)}\n`);
  }
  if (rows.some(({ faults }) => faults.length > 0)) process.exitCode = 1;
}

await main();
