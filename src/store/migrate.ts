// Owns: bringing the database to this build's schema at start, in Prisma's own bookkeeping, so
// that `prisma migrate status` agrees afterwards. HTTP thread, at start, under the file's lock.
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, timestamp } from "../base/clock.js";
import { newUuid } from "../base/ids.js";
import { type Connection, query } from "./connection.js";
import { StoreError } from "./errors.js";

// The table exactly as Prisma's schema engine creates it.
const BOOKKEEPING = `CREATE TABLE "_prisma_migrations" (
    "id"                    TEXT PRIMARY KEY NOT NULL,
    "checksum"              TEXT NOT NULL,
    "finished_at"           DATETIME,
    "migration_name"        TEXT NOT NULL,
    "logs"                  TEXT,
    "rolled_back_at"        DATETIME,
    "started_at"            DATETIME NOT NULL DEFAULT current_timestamp,
    "applied_steps_count"   INTEGER UNSIGNED NOT NULL DEFAULT 0
);`;

interface Migration {
  readonly name: string;
  readonly sql: string;
  /** SHA-256 of the file, hex. */
  readonly checksum: string;
}

interface HistoryRow {
  readonly migration_name: string;
  readonly checksum: string;
  readonly finished_at: string | null;
}

/**
 * Applies what is missing of `directory`/NAME/migration.sql, in order of name. Each migration and
 * its bookkeeping row are one transaction: a crash leaves all of it or nothing.
 * @returns names of the migrations that were applied now
 * @throws StoreError, and the database is as it was before the migration that failed
 */
export async function migrate(
  connection: Connection,
  directory: string,
  clock: Clock,
): Promise<readonly string[]> {
  const shipped = await readMigrations(directory);
  await ensureBookkeeping(connection);
  const applied = await checkHistory(connection, shipped);
  const missing = shipped.filter((migration) => !applied.has(migration.name));
  for (const migration of missing) await apply(connection, migration, clock);
  return missing.map((migration) => migration.name);
}

async function readMigrations(directory: string): Promise<readonly Migration[]> {
  const entries = await readdir(directory, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  return Promise.all(
    names.sort().map(async (name) => {
      const bytes = await readFile(join(directory, name, "migration.sql"));
      const checksum = createHash("sha256").update(bytes).digest("hex");
      return { name, sql: bytes.toString("utf8"), checksum };
    }),
  );
}

async function ensureBookkeeping(connection: Connection): Promise<void> {
  const tables = await query<{ name: string }>(
    connection,
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
  );
  if (tables.some((row) => row.name === "_prisma_migrations")) return;
  if (tables.length > 0) {
    throw new StoreError(
      "database-foreign",
      "The database holds tables but no migration history, so it is not one of ours.",
    );
  }
  await connection.executeScript(BOOKKEEPING);
}

/** @returns names of what was applied before; refuses whatever this build can't continue from. */
async function checkHistory(
  connection: Connection,
  shipped: readonly Migration[],
): Promise<ReadonlySet<string>> {
  const rows = await query<HistoryRow>(
    connection,
    `SELECT migration_name, checksum, finished_at FROM _prisma_migrations
     WHERE rolled_back_at IS NULL ORDER BY started_at`,
  );
  const names = new Set<string>();
  for (const row of rows) {
    const name = row.migration_name;
    const known = shipped.find((migration) => migration.name === name);
    if (row.finished_at === null) {
      throw new StoreError(
        "migration-unfinished",
        `Migration ${name} failed earlier: restore a backup, or use "prisma migrate resolve".`,
      );
    }
    if (known === undefined) {
      throw new StoreError(
        "database-newer",
        `The database has migration ${name}, which this build does not know: use a newer build.`,
      );
    }
    if (row.checksum !== known.checksum) {
      throw new StoreError(
        "migration-edited",
        `Migration ${name} differs from the one that was applied: restore its file, add a new one.`,
      );
    }
    names.add(name);
  }
  return names;
}

async function apply(connection: Connection, migration: Migration, clock: Clock): Promise<void> {
  const startedAt = timestamp(clock);
  // Prisma switches foreign keys off inside its scripts, which does nothing in a transaction.
  await connection.executeScript("PRAGMA foreign_keys = OFF; BEGIN IMMEDIATE");
  try {
    await connection.executeScript(migration.sql);
    const broken = await query(connection, "PRAGMA foreign_key_check");
    if (broken.length > 0) throw new Error(`${broken.length} rows refer to rows that are gone`);
    await query(
      connection,
      `INSERT INTO _prisma_migrations
         (id, checksum, migration_name, started_at, finished_at, applied_steps_count)
       VALUES (?, ?, ?, ?, ?, 1) RETURNING id`,
      [newUuid(), migration.checksum, migration.name, startedAt, timestamp(clock)],
    );
    await connection.executeScript("COMMIT");
  } catch (error) {
    await connection.executeScript("ROLLBACK");
    const why = error instanceof Error ? error.message : String(error);
    throw new StoreError(
      "migration-refused",
      `Migration ${migration.name} can't be applied and nothing was changed: ${why}`,
      error,
    );
  } finally {
    await connection.executeScript("PRAGMA foreign_keys = ON");
  }
}
