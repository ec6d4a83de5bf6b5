// Owns: a guest of ours that goes back and forth between two of our hosts, with the guest and
// settings of a baseline. Bench process.
import type { Client } from "../../dist/cli/client.js";
import { type Name, other, type TwoHosts } from "../../test/support/two-hosts.js";
import { createLinux } from "../../tools/linux/boot.js";
import { ConsoleWatch, reportsIn } from "../../tools/migrate/console.js";
import { type Asked, ENDED, type Migration, migrate, vmOf } from "../../tools/migrate/move.js";
import { DOWNTIME_MS, MEMORY_MIB, type MigrationCase, type Moved } from "./rows.table.js";

const READY_MS = 120_000;
const REPORT_MS = 60_000;
/** Cancelled by its own limit before that. */
const GIVE_UP_MS = 60_000;
/** Rounds within which a guest that is too fast has to be called so. */
export const ROUNDS_MAX = 5;
/** What a guest that was paused has missed it writes as fast as this, pages a second, or faster. */
const CATCH_UP_RATE = 100_000;
const WOKEN_MS = 500;

type Round = Readonly<Record<string, unknown>>;

export interface OurMove extends Moved {
  /** Of it, until the target had built its VM: QEMU's target is a process that runs already. */
  readonly setupMs: number;
  /** The round in which the policy said that it doesn't converge; null: in none. */
  readonly notConverging: number | null;
  readonly statistics: Migration["statistics"];
  readonly records: readonly Round[];
}

function askedOf(of: MigrationCase, vmId: string, peer: Name, limitMs: number): Asked {
  const parameters = {
    bandwidthBytesPerSecond: of.bandwidth,
    downtimeMs: DOWNTIME_MS,
    channels: of.channels ?? 1,
    timeoutMs: limitMs,
    // What QEMU never ends has to end here, by the policy that was asked for.
    ...(of.endless === true ? { autoConverge: true, onTimeout: "force" as const } : {}),
    ...(of.kind === "auto-converge" ? { autoConverge: true } : {}),
    ...(of.kind === "delta" ? { compression: "delta" as const, deltaCacheBytes: 2 ** 28 } : {}),
  };
  return { vmId, peer, strategy: "pre-copy", parameters };
}

/** As QEMU's client does: once the first pass is over. */
async function postcopyAfterPass(client: Client, migration: string): Promise<void> {
  const abort = new AbortController();
  try {
    const news = client.follow("getMigration", { migration }, "", abort.signal);
    for await (const { data } of news) {
      const { state, progress } = data as Partial<Migration>;
      if (state === "active" && (progress?.round ?? 0) > 1) {
        await client.call("startPostcopy", { migration });
        return;
      }
      if (state !== undefined && ENDED.has(state)) return;
    }
  } finally {
    abort.abort();
  }
}

export class OurGuest {
  readonly #hosts: TwoHosts;
  readonly #of: MigrationCase;
  readonly #uuid: string;
  #at: Name = "host-a";
  #vm: string;
  #reports = 0;
  #restingMs: number | null = null;

  private constructor(hosts: TwoHosts, of: MigrationCase, vm: string, uuid: string) {
    this.#hosts = hosts;
    this.#of = of;
    this.#vm = vm;
    this.#uuid = uuid;
  }

  /** @param words of the initramfs that both have */
  static async boot(
    hosts: TwoHosts,
    of: MigrationCase,
    words: string,
    warmMs: number,
  ): Promise<OurGuest> {
    const client = hosts.client("host-a");
    const vm = await createLinux(client, {
      kernel: "6.1",
      gic: 3,
      smp: of.smp ?? 1,
      clock: "wall",
      words,
      memoryMiB: of.memoryMiB ?? MEMORY_MIB,
    });
    const { uuid } = await client.call("getVm", { vm });
    await client.call("startVm", { vm });
    const guest = new OurGuest(hosts, of, vm, uuid);
    const isUp = (text: string) =>
      of.dirty === null ? text.includes("GUEST-BANNER") : reportsIn(text).length > 0;
    await guest.#hear(isUp, READY_MS);
    await new Promise((resolve) => setTimeout(resolve, warmMs));
    return guest;
  }

  get #client(): Client {
    return this.#hosts.client(this.#at);
  }

  /** What its console says, whole. */
  async #hear(is: (text: string) => boolean, limitMs: number): Promise<string> {
    const watch = new ConsoleWatch(this.#client, this.#vm);
    try {
      await watch.until(is, limitMs);
      return watch.text;
    } finally {
      await watch.close();
      this.#reports = Math.max(this.#reports, reportsIn(watch.text).length);
    }
  }

  /** It takes no time of the machine's while somebody else is measured. */
  async rest(): Promise<void> {
    await this.#client.call("pauseVm", { vm: this.#vm });
    this.#restingMs = performance.now();
  }

  async wake(): Promise<void> {
    if (this.#restingMs === null) return;
    await this.#client.call("resumeVm", { vm: this.#vm });
    const missed = (performance.now() - this.#restingMs) * (this.#of.dirty?.pagesPerSecond ?? 0);
    this.#restingMs = null;
    const ms = missed / CATCH_UP_RATE + WOKEN_MS;
    await new Promise((resolve) => setTimeout(resolve, ms));
  }

  /** To the other host. */
  async move(limitMs: number): Promise<OurMove> {
    await this.wake();
    const [from, vm, to] = [this.#client, this.#vm, other(this.#at)];
    const asked = askedOf(this.#of, vm, to, limitMs);
    const isPostcopy = this.#of.kind === "postcopy";
    let following: Promise<void> | null = null;
    const moved = await migrate(from, asked, GIVE_UP_MS + limitMs, (id) => {
      if (isPostcopy) following = postcopyAfterPass(from, id);
    });
    await following;
    const completed = moved.state === "completed";
    if (completed) {
      this.#at = to;
      this.#vm = await vmOf(this.#client, this.#uuid);
      // What is left of it there would be in its way back.
      await from.call("deleteVm", { vm });
    }
    const { items: records } = await from.call("listMigrationRounds", { migration: moved.id });
    const doubt = records.find(({ decision }) => !decision.isConverging);
    return {
      completed,
      totalMs: moved.statistics?.totalMs ?? Number.NaN,
      setupMs: moved.statistics?.setupMs ?? Number.NaN,
      blackoutMs: moved.statistics?.downtimeMs ?? Number.NaN,
      rounds: moved.progress?.round ?? 0,
      megabytes: (moved.progress?.bytes ?? 0) / 1e6,
      bad: this.#of.dirty === null ? null : await this.#bad(),
      notConverging: doubt?.round ?? null,
      statistics: moved.statistics,
      records,
    };
  }

  /** Stamps that were wrong, of two reports that are new. */
  async #bad(): Promise<number | null> {
    const known = this.#reports;
    try {
      const said = await this.#hear((text) => reportsIn(text).length > known + 1, REPORT_MS);
      return Math.max(...reportsIn(said).map(({ bad }) => bad));
    } catch {
      return null;
    }
  }

  async end(): Promise<void> {
    await this.#client.call("deleteVm", { vm: this.#vm });
  }
}
