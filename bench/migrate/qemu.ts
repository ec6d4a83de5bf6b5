// Owns: one migration between two qemu-system-aarch64 under TCG. Bench process; starts two children
// and ends them.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { program } from "../../tools/debian.mjs";
import { Qmp } from "./qmp.js";
import { DOWNTIME_MS, MEMORY_MIB, type MigrationCase, type Moved } from "./rows.table.js";

export const QEMU = "qemu-system-aarch64";

export interface Guest {
  readonly kernel: string;
  readonly initrd: string;
  readonly cmdline: string;
}

const READY_MS = 120_000;
/** After the completion the guest's program says whether its stamps were right. */
const SETTLE_MS = 2500;
const REPORTS = /bad=([0-9]+)/g;

class Side {
  readonly #child: ChildProcess;
  readonly #path: string;
  said = "";

  constructor(guest: Guest, of: MigrationCase, path: string, more: readonly string[]) {
    this.#path = path;
    const args = [
      ...["-M", "virt,gic-version=3", "-cpu", "cortex-a53", "-accel", "tcg"],
      ...["-smp", String(of.smp ?? 1), "-m", String(of.memoryMiB ?? MEMORY_MIB)],
      ..."-nodefaults -display none -serial stdio".split(" "),
      ...["-kernel", guest.kernel, "-initrd", guest.initrd, "-append", guest.cmdline],
      ...["-qmp", `unix:${path},server=on,wait=off`],
      ...more,
    ];
    this.#child = spawn(program(QEMU), args, { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on("data", (bytes: Buffer) => {
        this.said += bytes.toString("latin1");
      });
    }
  }

  async monitor(): Promise<Qmp> {
    try {
      return await Qmp.open(this.#path);
    } catch (error) {
      throw new Error(`${(error as Error).message}: ${this.said.slice(-500)}`);
    }
  }

  async untilSaid(text: string, ms: number): Promise<void> {
    const deadline = performance.now() + ms;
    while (!this.said.includes(text)) {
      if (performance.now() > deadline || this.#child.exitCode !== null) {
        throw new Error(`QEMU's guest never said ${text}: ${this.said.slice(-500)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  end(): void {
    this.#child.kill("SIGKILL");
  }
}

async function prepare(source: Qmp, target: Qmp, of: MigrationCase): Promise<void> {
  const capabilities = [
    ...(of.kind === "auto-converge" ? ["auto-converge"] : []),
    ...(of.kind === "postcopy" ? ["postcopy-ram"] : []),
    ...(of.kind === "delta" ? ["xbzrle"] : []),
    ...((of.channels ?? 1) > 1 ? ["multifd"] : []),
  ].map((capability) => ({ capability, state: true }));
  const parameters = {
    // 0 would be a rate of nothing.
    "max-bandwidth": of.bandwidth === 0 ? 2 ** 40 : of.bandwidth,
    "downtime-limit": DOWNTIME_MS,
    ...(of.kind === "delta" ? { "xbzrle-cache-size": 2 ** 28 } : {}),
    ...((of.channels ?? 1) > 1 ? { "multifd-channels": of.channels } : {}),
  };
  await source.run("migrate-set-capabilities", {
    capabilities: [...capabilities, { capability: "events", state: true }],
  });
  await target.run("migrate-set-capabilities", {
    capabilities: [...capabilities, { capability: "events", state: true }],
  });
  await source.run("migrate-set-parameters", parameters);
  const { "max-bandwidth": _, "downtime-limit": __, ...both } = parameters;
  if (Object.keys(both).length > 0) await target.run("migrate-set-parameters", both);
}

const isPass = (pass: number) => (event: { event: string; data: Record<string, unknown> }) =>
  event.event === "MIGRATION_PASS" && Number(event.data["pass"]) >= pass;
const isStatus = (status: string) => (event: { event: string; data: Record<string, unknown> }) =>
  event.event === "MIGRATION" && event.data["status"] === status;

/** What the program said last, of stamps that were wrong. */
function badIn(said: string): number | null {
  const found = [...said.matchAll(REPORTS)].at(-1);
  return found === undefined ? null : Number(found[1]);
}

/** @param limitMs after which it counts as endless and is given up */
export async function migrateOnQemu(
  guest: Guest,
  of: MigrationCase,
  warmMs: number,
  limitMs: number,
): Promise<Moved> {
  const directory = mkdtempSync(join(tmpdir(), "tidemark-qemu-"));
  const wire = join(directory, "wire");
  const sides: Side[] = [];
  try {
    const from = new Side(guest, of, join(directory, "source"), []);
    sides.push(from);
    await from.untilSaid(of.dirty === null ? "GUEST-BANNER" : "bad=", READY_MS);
    await new Promise((resolve) => setTimeout(resolve, warmMs));
    const to = new Side(guest, of, join(directory, "target"), ["-incoming", "defer"]);
    sides.push(to);
    const [source, target] = [await from.monitor(), await to.monitor()];
    await prepare(source, target, of);
    await target.run("migrate-incoming", { uri: `unix:${wire}` });
    const start = performance.now();
    await source.run("migrate", { uri: `unix:${wire}` });
    if (of.kind === "postcopy") {
      await source.until(isPass(2), limitMs);
      await source.run("migrate-start-postcopy");
    }
    const ended = await source.until(isStatus("completed"), limitMs);
    const resumed = ended === null ? null : await target.until((e) => e.event === "RESUME", 5000);
    const stopped = source.events.find((e) => e.event === "STOP");
    const info = (await source.run("query-migrate")) as {
      readonly ram?: { readonly transferred: number; readonly "dirty-sync-count": number };
    };
    if (ended !== null && of.dirty !== null) {
      await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    }
    return {
      completed: ended !== null,
      totalMs: (ended?.at ?? performance.now()) - start,
      blackoutMs: (resumed?.at ?? Number.NaN) - (stopped?.at ?? Number.NaN),
      rounds: info.ram?.["dirty-sync-count"] ?? 0,
      megabytes: (info.ram?.transferred ?? 0) / 1e6,
      bad: badIn(to.said),
    };
  } finally {
    for (const side of sides) side.end();
    rmSync(directory, { recursive: true, force: true });
  }
}
