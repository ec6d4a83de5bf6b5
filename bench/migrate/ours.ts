// Owns: one migration between two of our hosts, with the guest and settings of a baseline.
// Bench process.
import type { Client } from "../../dist/cli/client.js";
import type { TwoHosts } from "../../test/support/two-hosts.js";
import { createLinux } from "../../tools/linux/boot.js";
import { ConsoleWatch, reportsIn } from "../../tools/migrate/console.js";
import { type Asked, migrate, vmOf } from "../../tools/migrate/move.js";
import { DOWNTIME_MS, MEMORY_MIB, type MigrationCase, type Moved } from "./rows.table.js";

const READY_MS = 120_000;
const REPORT_MS = 60_000;
/** Cancelled by its own limit before that. */
const GIVE_UP_MS = 60_000;
/** Rounds within which a guest that is too fast has to be called so. */
export const ROUNDS_MAX = 5;

export interface OurMove extends Moved {
  /** The round in which the policy said that it doesn't converge; null: in none. */
  readonly notConverging: number | null;
}

function askedOf(of: MigrationCase, vmId: string, limitMs: number): Asked {
  const parameters = {
    bandwidthBytesPerSecond: of.bandwidth,
    downtimeMs: DOWNTIME_MS,
    channels: of.channels ?? 1,
    timeoutMs: limitMs,
    // What QEMU never ends has to end here, by the policy that was asked for.
    ...(of.endless === true ? { autoConverge: true, onTimeout: "force" as const } : {}),
    ...(of.kind === "auto-converge" ? { autoConverge: true } : {}),
    ...(of.kind === "delta" ? { compression: "delta" as const } : {}),
  };
  const strategy = of.kind === "postcopy" ? ("hybrid" as const) : ("pre-copy" as const);
  return { vmId, peer: "host-b", strategy, parameters };
}

async function roundOfDoubt(client: Client, migration: string): Promise<number | null> {
  const { items } = await client.call("listMigrationRounds", { migration });
  return items.find(({ decision }) => !decision.isConverging)?.round ?? null;
}

/** @param kernel of the initramfs that both have */
export async function migrateHere(
  hosts: TwoHosts,
  of: MigrationCase,
  words: string,
  warmMs: number,
  limitMs: number,
): Promise<OurMove> {
  const [from, to] = [hosts.client("host-a"), hosts.client("host-b")];
  const vm = await createLinux(from, {
    kernel: "6.1",
    gic: 3,
    smp: of.smp ?? 1,
    clock: "wall",
    words,
    memoryMiB: of.memoryMiB ?? MEMORY_MIB,
  });
  const { uuid } = await from.call("getVm", { vm });
  await from.call("startVm", { vm });
  const watch = new ConsoleWatch(from, vm);
  const isUp = (text: string) =>
    of.dirty === null ? text.includes("GUEST-BANNER") : reportsIn(text).length > 0;
  await watch.until(isUp, READY_MS);
  await new Promise((resolve) => setTimeout(resolve, warmMs));
  await watch.close();
  const moved = await migrate(from, askedOf(of, vm, limitMs), GIVE_UP_MS + limitMs);
  const notConverging = await roundOfDoubt(from, moved.id);
  const completed = moved.state === "completed";
  const [home, id] = completed ? [to, await vmOf(to, uuid)] : [from, vm];
  const bad = of.dirty === null ? null : await badOf(home, id, reportsIn(watch.text).length);
  await home.call("deleteVm", { vm: id });
  if (completed) await from.call("deleteVm", { vm }).catch(() => {});
  return {
    completed,
    totalMs: moved.statistics?.totalMs ?? Number.NaN,
    blackoutMs: moved.statistics?.downtimeMs ?? Number.NaN,
    rounds: moved.progress?.round ?? 0,
    megabytes: (moved.progress?.bytes ?? 0) / 1e6,
    bad,
    notConverging,
  };
}

/** Stamps that were wrong, of two reports that are new. */
async function badOf(client: Client, vm: string, known: number): Promise<number | null> {
  const watch = new ConsoleWatch(client, vm);
  try {
    await watch.until((text) => reportsIn(text).length > known + 1, REPORT_MS);
    return Math.max(...reportsIn(watch.text).map(({ bad }) => bad));
  } catch {
    return null;
  } finally {
    await watch.close();
  }
}
