// Owns: the durable records, one SQLite file (DESIGN 12). HTTP thread.
//
//   openStore: lock file → migrate → client with WAL, synchronous=FULL → Store
//   reads go to the client directly; every write goes through commit() and the one write queue
import { mkdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { PrismaBetterSqlite3 } from "@prisma/adapter-better-sqlite3";
import { assert } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import type { Log } from "../base/log.js";
import { PrismaClient } from "../generated/prisma/client.js";
import { connect, lockFile } from "./connection.js";
import { ImageFiles } from "./image-files.js";
import { migrate } from "./migrate.js";
import type {
  AutosnapshotRecord,
  BootRecord,
  Change,
  EventRecord,
  ExperimentRecord,
  IdempotencyRecord,
  ImageRecord,
  MigrationRecord,
  MigrationRoundRecord,
  SnapshotRecord,
  StoredVm,
} from "./records.js";
import * as rows from "./rows.js";
import { WriteQueue } from "./write-queue.js";

/** The history that ships with this build; the same place from src/ and from dist/. */
const SHIPPED_MIGRATIONS = fileURLToPath(new URL("../../prisma/migrations", import.meta.url));

/** VMs read in one go; between two goes the event loop turns. */
const VMS_PER_READ = 20;

export interface StoreOptions {
  /** Path of the SQLite file; its directory is created. */
  readonly file: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Directory of NAME/migration.sql; by default the build's own. */
  readonly migrations?: string;
}

export interface Store {
  /**
   * Makes all changes or none. Durable when it resolves; commits take effect in call order.
   * Rejects with the database's error.
   */
  commit(changes: readonly Change[]): Promise<void>;
  /** Every VM with its parts, in order of creation. */
  loadVms(): Promise<readonly StoredVm[]>;
  /** Events with id > after, ascending, at most `limit`. */
  readEvents(after: number, limit: number): Promise<readonly EventRecord[]>;
  /** Ids of the oldest and newest event that is kept; zeros when there is none. */
  eventRange(): Promise<{ readonly oldest: number; readonly newest: number }>;
  findIdempotency(key: string): Promise<IdempotencyRecord | null>;
  newestBoot(): Promise<BootRecord | null>;
  /** By name. */
  loadImages(): Promise<readonly ImageRecord[]>;
  /** Bytes of images, by hash. */
  readonly imageFiles: ImageFiles;
  /** In order of creation. */
  loadExperiments(): Promise<readonly ExperimentRecord[]>;
  /** JSON text, or null when there is none. */
  readExperimentResult(id: string): Promise<string | null>;
  /** In order of creation. */
  loadMigrations(): Promise<readonly MigrationRecord[]>;
  /** In order. */
  readMigrationRounds(migrationId: string): Promise<readonly MigrationRoundRecord[]>;
  loadSnapshots(): Promise<readonly SnapshotRecord[]>;
  loadAutosnapshots(): Promise<readonly AutosnapshotRecord[]>;
  /** Directory of the snapshots' files, which another thread writes. */
  readonly snapshotFolder: string;
  /** Resolves when everything committed before is on disk. */
  drained(): Promise<void>;
  /** Finishes pending writes and gives the file free. */
  close(): Promise<void>;
}

/**
 * Opens the file, alone, at this build's schema.
 * @throws StoreError in use, newer, foreign, or with a history that was edited or failed
 */
export async function openStore(options: StoreOptions): Promise<Store> {
  const file = resolve(options.file);
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const lock = await lockFile(file);
  try {
    const applied = await migrateFile(file, options);
    for (const name of applied) options.log.info({ migration: name }, "Migration applied.");
    const client = await openClient(file);
    return new SqliteStore(client, options.clock, lock, dirname(file));
  } catch (error) {
    await lock.release();
    throw error;
  }
}

async function migrateFile(file: string, options: StoreOptions): Promise<readonly string[]> {
  const connection = await connect(file);
  try {
    await connection.executeScript("PRAGMA journal_mode = WAL");
    return await migrate(connection, options.migrations ?? SHIPPED_MIGRATIONS, options.clock);
  } finally {
    await connection.dispose();
  }
}

async function openClient(file: string): Promise<PrismaClient> {
  const client = new PrismaClient({ adapter: new PrismaBetterSqlite3({ url: `file:${file}` }) });
  // A setting of the connection, not of the file; the driver's own default is NORMAL with WAL.
  await client.$queryRawUnsafe("PRAGMA synchronous = FULL");
  const [row] = await client.$queryRawUnsafe<{ synchronous: bigint }[]>("PRAGMA synchronous");
  assert(Number(row?.synchronous) === 2, "commits wait for the disk");
  return client;
}

class SqliteStore implements Store {
  readonly imageFiles: ImageFiles;
  readonly snapshotFolder: string;
  readonly #client: PrismaClient;
  readonly #queue: WriteQueue;
  readonly #clock: Clock;
  readonly #lock: { release(): Promise<void> };
  #isClosed = false;

  constructor(
    client: PrismaClient,
    clock: Clock,
    lock: { release(): Promise<void> },
    folder: string,
  ) {
    this.imageFiles = new ImageFiles(join(folder, "images"));
    this.snapshotFolder = join(folder, "snapshots");
    this.#client = client;
    this.#clock = clock;
    this.#lock = lock;
    this.#queue = new WriteQueue(client, clock);
  }

  async commit(changes: readonly Change[]): Promise<void> {
    // The client would quietly open the file again, without its lock.
    if (this.#isClosed) throw new Error("the store is closed");
    await this.#queue.write(changes);
  }

  async loadVms(): Promise<readonly StoredVm[]> {
    const all: StoredVm[] = [];
    let after = -1n;
    for (;;) {
      const page = await this.#client.vm.findMany({
        where: { seq: { gt: after } },
        orderBy: { seq: "asc" },
        take: VMS_PER_READ,
        include: {
          capabilities: { orderBy: { ordinal: "asc" } },
          memoryObjects: { orderBy: { ordinal: "asc" } },
          guestMemfds: { orderBy: { ordinal: "asc" } },
          memslots: { orderBy: { slot: "asc" } },
          vcpus: { orderBy: { ordinal: "asc" } },
        },
      });
      for (const { capabilities, memoryObjects, guestMemfds, memslots, vcpus, ...vm } of page) {
        all.push({
          vm: rows.vmFromRow(vm),
          shape: {
            capabilities: capabilities.map(rows.capabilityFromRow),
            memoryObjects: memoryObjects.map(rows.memoryObjectFromRow),
            guestMemfds: guestMemfds.map(rows.guestMemfdFromRow),
            memslots: memslots.map(rows.memslotFromRow),
            vcpus: vcpus.map(rows.vcpuFromRow),
          },
        });
        after = vm.seq;
      }
      if (page.length < VMS_PER_READ) return all;
      await this.#clock.yieldToLoop();
    }
  }

  async readEvents(after: number, limit: number): Promise<readonly EventRecord[]> {
    const found = await this.#client.event.findMany({
      where: { id: { gt: BigInt(after) } },
      orderBy: { id: "asc" },
      take: limit,
    });
    return found.map(rows.eventFromRow);
  }

  async eventRange(): Promise<{ readonly oldest: number; readonly newest: number }> {
    const range = await this.#client.event.aggregate({ _min: { id: true }, _max: { id: true } });
    return { oldest: Number(range._min.id ?? 0n), newest: Number(range._max.id ?? 0n) };
  }

  async findIdempotency(key: string): Promise<IdempotencyRecord | null> {
    const row = await this.#client.idempotencyKey.findUnique({ where: { key } });
    return row === null ? null : rows.idempotencyFromRow(row);
  }

  async newestBoot(): Promise<BootRecord | null> {
    const row = await this.#client.serviceBoot.findFirst({ orderBy: { seq: "desc" } });
    return row === null ? null : rows.bootFromRow(row);
  }

  async loadImages(): Promise<readonly ImageRecord[]> {
    const found = await this.#client.image.findMany({ orderBy: { name: "asc" } });
    return found.map(rows.imageFromRow);
  }

  async loadExperiments(): Promise<readonly ExperimentRecord[]> {
    const found = await this.#client.experiment.findMany({ orderBy: { seq: "asc" } });
    return found.map(rows.experimentFromRow);
  }

  async readExperimentResult(id: string): Promise<string | null> {
    const row = await this.#client.experimentResult.findUnique({ where: { id } });
    return row?.document ?? null;
  }

  async loadMigrations(): Promise<readonly MigrationRecord[]> {
    const found = await this.#client.migration.findMany({ orderBy: { seq: "asc" } });
    return found.map(rows.migrationFromRow);
  }

  async readMigrationRounds(migrationId: string): Promise<readonly MigrationRoundRecord[]> {
    const orderBy = { round: "asc" } as const;
    const found = await this.#client.migrationRound.findMany({ where: { migrationId }, orderBy });
    return found.map(rows.roundFromRow);
  }

  async loadSnapshots(): Promise<readonly SnapshotRecord[]> {
    const found = await this.#client.snapshot.findMany({ orderBy: { seq: "asc" } });
    return found.map(rows.snapshotFromRow);
  }

  loadAutosnapshots(): Promise<readonly AutosnapshotRecord[]> {
    return this.#client.autosnapshot.findMany();
  }

  drained(): Promise<void> {
    return this.#queue.drained();
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#queue.drained();
    await this.#client.$disconnect();
    await this.#lock.release();
  }
}
