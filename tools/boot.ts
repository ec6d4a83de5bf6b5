// Owns: `npm run boot`: Debian's Linux booted, typed to and powered off over HTTP; a table.
//   --kernel 6.1,7.2   kernels
//   --gic 2,3,5        interrupt controllers; 5 with the kernels that know it
//   --reference        beside gic 5: QEMU 11.1 with the same kernel; what both say is compared
//   --smp 1,2,4        numbers of vCPUs
//   --disk             with a virtio disk, which is written to and read again after `reboot -f`
//   --virtual          the virtual clock instead of the wall clock
//   --replay           in the virtual clock; each boot is replayed from its input log on a second
//                      host that delays translation at random: same count, same console
//   --server URL       a host that runs; --replay then replays on it
//   --limit SECONDS    of one boot, 300
//   --json FILE        the rows as JSON
// Exit status 1 when any row failed. Own process; starts hosts and ends them.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Client } from "../dist/cli/client.js";
import { type RealService, startReal, temporary } from "../test/support/real-service.js";
import {
  type Booted,
  type BootSpec,
  bootLinux,
  createLinux,
  faultsOf,
  replayLinux,
  typedIn,
} from "./linux/boot.js";
import { KERNELS, type KernelName, missingLinux } from "./linux/initramfs.js";
import { controllerLines, differences } from "./linux/interrupts.js";
import { bootReference, missingReference } from "./linux/reference.js";

const { values: options } = parseArgs({
  options: {
    kernel: { type: "string", default: "6.1,7.2" },
    gic: { type: "string", default: "2,3" },
    reference: { type: "boolean", default: false },
    smp: { type: "string", default: "1,2,4" },
    disk: { type: "boolean", default: false },
    virtual: { type: "boolean", default: false },
    replay: { type: "boolean", default: false },
    server: { type: "string" },
    limit: { type: "string", default: "300" },
    json: { type: "string" },
  },
});

interface Row {
  readonly spec: BootSpec;
  readonly booted: Booted | null;
  readonly replayMs: number | null;
  /** What the first host's process computed for it; null where that isn't told. */
  readonly cpuMs: number | null;
  /** What went wrong; empty: nothing. */
  readonly faults: readonly string[];
}

const GICS = { "2": 2, "3": 3, "5": 5 } as const;
/** Its driver came with 7.1. */
const KNOWS_GICV5: readonly KernelName[] = ["7.2"];
/** Of guest code, at most: some code is never translated while others are. */
const TRANSLATION_DELAY = 40;
const MS_PER_S = 1000;
/** Of USER_HZ. */
const MS_PER_TICK = 10;

function listOf<T extends string>(option: string, allowed: readonly T[]): readonly T[] {
  return option.split(",").map((one) => {
    const found = allowed.find((name) => name === one);
    if (found === undefined) throw new Error(`${one} is none of ${allowed.join(", ")}`);
    return found;
  });
}

function specs(): readonly BootSpec[] {
  const clock = options.virtual || options.replay ? "virtual" : "wall";
  const { disk } = options;
  const kernels = listOf(options.kernel, Object.keys(KERNELS) as KernelName[]);
  const gics = listOf(options.gic, ["2", "3", "5"] as const).map((gic) => GICS[gic]);
  const smps = options.smp.split(",").map(Number);
  const all = kernels.flatMap((kernel) =>
    gics.flatMap((gic) => smps.map((smp): BootSpec => ({ kernel, gic, smp, clock, disk }))),
  );
  return all.filter(({ kernel, gic }) => gic !== 5 || KNOWS_GICV5.includes(kernel));
}

/** Milliseconds that a process of this machine has computed. @source proc(5), stat */
function cpuOf(pid: number): number | null {
  const file = `/proc/${pid}/stat`;
  if (!existsSync(file)) return null;
  // Behind the name, which may hold anything; utime and stime are the 14th and 15th of all.
  const fields = readFileSync(file, "latin1").split(") ").at(-1)?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK; // tidy: fields
}

/** Where the two part, as a person looks for it. */
function difference(one: string, other: string): string {
  const lines = [one.split("\n"), other.split("\n")] as const;
  const at = lines[0].findIndex((line, n) => line !== lines[1][n]);
  const from = at < 0 ? lines[0].length : at;
  return `line ${from + 1}: ${JSON.stringify(lines[0][from])} ≠ ${JSON.stringify(lines[1][from])}`;
}

/** A host that was started here has a process; one that was named has none. */
interface Host {
  readonly client: Client;
  readonly pid: number | null;
}

async function oneRow(spec: BootSpec, host: Host, second: Client | null): Promise<Row> {
  const { client, pid } = host;
  const now = () => (pid === null ? null : cpuOf(pid));
  const before = now();
  const limitMs = Number(options.limit) * MS_PER_S;
  const vms: [Client, string][] = [];
  let [booted, cpuMs]: [Booted | null, number | null] = [null, null];
  try {
    const vm = await createLinux(client, spec);
    vms.push([client, vm]);
    booted = await bootLinux(client, vm, { limitMs, typed: typedIn(spec) });
    const after = now();
    cpuMs = before === null || after === null ? null : after - before;
    const faults = [...faultsOf(spec, booted), ...(await unlikeReference(spec, booted))];
    if (second === null) return { spec, booted, replayMs: null, cpuMs, faults };
    const again = await replayLinux(client, vm, second, limitMs * 3);
    vms.push([second, again.vm]);
    const { instructions } = booted;
    if (again.instructions !== instructions) {
      faults.push(`replayed ${again.instructions} instructions`);
    }
    // What the host read as it came, and what it reads of the replayed VM.
    const text = await client.text("readConsole", { vm });
    if (again.console !== text) faults.push(`replay: ${difference(text, again.console)}`);
    return { spec, booted, replayMs: again.totalMs, cpuMs, faults };
  } catch (error) {
    return { spec, booted, replayMs: null, cpuMs, faults: [(error as Error).message] };
  } finally {
    for (const [where, vm] of vms) await where.call("deleteVm", { vm }).catch(() => {});
  }
}

/** How the kernel finds ours another controller than the reference's; empty: it doesn't. */
async function unlikeReference(spec: BootSpec, booted: Booted): Promise<readonly string[]> {
  if (!options.reference || spec.gic !== 5) return [];
  const theirs = await bootReference(spec, typedIn(spec));
  for (const text of controllerLines(theirs)) console.log(`  ${text}`);
  return differences(booted.console, theirs);
}

function line({ spec, booted, replayMs, cpuMs, faults }: Row): string {
  const { kernel, gic, smp, clock } = spec;
  const seconds = (ms: number | null | undefined) =>
    (ms === null || ms === undefined ? "-" : (ms / MS_PER_S).toFixed(2)).padStart(7);
  const count = booted === null ? "-" : (booted.instructions / 1e6).toFixed(1);
  return [
    `${kernel.padEnd(6)}  ${gic}  ${String(smp).padStart(3)}  ${clock.padEnd(7)}`,
    seconds(booted?.bannerMs),
    seconds(booted?.totalMs),
    seconds(cpuMs),
    count.padStart(9),
    seconds(replayMs),
    faults.length === 0 ? "ok" : `FAILED: ${faults.join("; ")}`,
  ].join("  ");
}

const HEAD =
  "kernel gic smp  clock     banner    total      CPU   M instr.   replay\n" +
  "                            (s)      (s)      (s)                 (s)";

async function main(): Promise<void> {
  const wanted = specs();
  const why = wanted.map(({ kernel }) => missingLinux(kernel)).find((one) => one !== null);
  if (why !== undefined) throw new Error(why ?? "");
  if (wanted.length === 0) throw new Error("no such kernel knows such a controller");
  const noReference = options.reference ? missingReference() : null;
  if (noReference !== null) throw new Error(noReference);
  const folder = await temporary("boot");
  const services: RealService[] = [];
  const start = async (name: string, env: Readonly<Record<string, string>>): Promise<Host> => {
    const dataDir = `${folder.path}/${name}`;
    const service = await startReal({ dataDir, env });
    services.push(service);
    return { client: new Client(service.origin, null), pid: service.pid };
  };
  try {
    const { server } = options;
    const given = server === undefined ? null : { client: new Client(server, null), pid: null };
    const first = given ?? (await start("first", {}));
    const delay = { TRANSLATION_DELAY: String(TRANSLATION_DELAY) };
    const second = options.replay ? (given ?? (await start("second", delay))) : null;
    console.log(HEAD);
    const rows: Row[] = [];
    for (const spec of wanted) {
      const row = await oneRow(spec, first, second?.client ?? null);
      console.log(line(row));
      rows.push(row);
    }
    const failed = rows.filter(({ faults }) => faults.length > 0).length;
    console.log(`${rows.length - failed} of ${rows.length} booted to the shell and powered off`);
    if (options.json !== undefined) writeFileSync(options.json, JSON.stringify(rows, null, 1));
    if (failed > 0) process.exitCode = 1;
  } finally {
    for (const service of services) await service.stop();
    await folder.remove();
  }
}

await main().catch((error: unknown) => {
  console.error(`boot: ${(error as Error).message}`);
  process.exitCode = 1;
});
