// Goal: a start brings the database to this build's schema or refuses, and never leaves it between.
// Method: histories in a directory, applied by openStore, looked at through raw connections.
import { spawnSync } from "node:child_process";
import { cp, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { connect, query } from "../../../src/store/connection.js";
import { StoreError, type StoreErrorCode } from "../../../src/store/index.js";
import { type TestStores, testStores } from "../../support/store.js";

const SHIPPED = "prisma/migrations";

let stores: TestStores;
let history: string;
beforeEach(async () => {
  stores = await testStores();
  history = join(stores.directory, "migrations");
  await cp(SHIPPED, history, { recursive: true });
});
afterEach(() => stores.remove());

async function addMigration(name: string, sql: string): Promise<void> {
  await mkdir(join(history, name), { recursive: true });
  await writeFile(join(history, name, "migration.sql"), sql);
}

async function raw<Row>(sql: string): Promise<readonly Row[]> {
  const connection = await connect(stores.file);
  try {
    return await query<Row>(connection, sql);
  } finally {
    await connection.dispose();
  }
}

async function refusal(): Promise<StoreErrorCode> {
  const error: unknown = await stores.open(history).then(
    () => null,
    (reason: unknown) => reason,
  );
  if (error instanceof StoreError) return error.code;
  throw new Error(`expected a StoreError, got ${String(error)}`);
}

const appliedNames = async () =>
  (
    await raw<{ migration_name: string }>(
      "SELECT migration_name FROM _prisma_migrations ORDER BY migration_name",
    )
  ).map((row) => row.migration_name);

describe("the migrator", () => {
  it("creates, then finds nothing to do, then applies what is new in order", async () => {
    await (await stores.open(history)).close();
    const first = await appliedNames();
    await (await stores.open(history)).close();
    expect(await appliedNames()).toEqual(first);
    await addMigration("30000000000002_more", "ALTER TABLE extra ADD COLUMN b TEXT;");
    await addMigration("30000000000001_extra", "CREATE TABLE extra (a TEXT);");
    await (await stores.open(history)).close();
    expect(await appliedNames()).toEqual([...first, "30000000000001_extra", "30000000000002_more"]);
    expect(await raw("SELECT b FROM extra")).toEqual([]);
  });

  it("agrees with Prisma's own command line", async () => {
    await (await stores.open()).close();
    const config = join(stores.directory, "prisma.config.mjs");
    const settings = {
      schema: join(process.cwd(), "prisma/schema.prisma"),
      migrations: { path: join(process.cwd(), SHIPPED) },
      datasource: { url: `file:${stores.file}` },
    };
    await writeFile(config, `export default ${JSON.stringify(settings)};`);
    const run = spawnSync(
      process.execPath,
      ["tools/prisma.mjs", "migrate", "status", "--config", config],
      { encoding: "utf8" },
    );
    expect(run.stdout + run.stderr).toContain("up to date");
    expect(run.status).toBe(0);
  }, 30_000);

  it("refuses a migration whose file was edited", async () => {
    await addMigration("30000000000001_extra", "CREATE TABLE extra (a TEXT);");
    await (await stores.open(history)).close();
    await addMigration("30000000000001_extra", "CREATE TABLE extra (a TEXT, b TEXT);");
    expect(await refusal()).toBe("migration-edited");
  });

  it("refuses a database of a newer build", async () => {
    await addMigration("30000000000001_extra", "CREATE TABLE extra (a TEXT);");
    await (await stores.open(history)).close();
    const older = await stores.open().catch((error: unknown) => error);
    expect(older).toMatchObject({ code: "database-newer" });
  });

  it("refuses a migration that another tool left unfinished, not one it rolled back", async () => {
    await (await stores.open(history)).close();
    await raw("UPDATE _prisma_migrations SET finished_at = NULL RETURNING id");
    expect(await refusal()).toBe("migration-unfinished");
    await raw(
      `INSERT INTO _prisma_migrations (id, checksum, migration_name, rolled_back_at)
       VALUES ('x', 'y', '2_gone', 1) RETURNING id`,
    );
    await raw("UPDATE _prisma_migrations SET finished_at = 1 WHERE id <> 'x' RETURNING id");
    await (await stores.open(history)).close();
  });

  it("changes nothing when a migration fails half way, and goes on once it is mended", async () => {
    await (await stores.open(history)).close();
    await addMigration("30000000000001_half", "CREATE TABLE half (a TEXT); CREATE TABLE half (b);");
    expect(await refusal()).toBe("migration-refused");
    expect(await raw("SELECT name FROM sqlite_schema WHERE name = 'half'")).toEqual([]);
    await addMigration("30000000000001_half", "CREATE TABLE half (a TEXT);");
    await (await stores.open(history)).close();
    expect(await appliedNames()).toContain("30000000000001_half");
  });

  it("redefines a table without losing the rows that refer to it", async () => {
    await addMigration(
      "30000000000001_pair",
      `CREATE TABLE parent (id INTEGER PRIMARY KEY);
       CREATE TABLE child (p INTEGER REFERENCES parent(id) ON DELETE CASCADE);
       INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1);`,
    );
    await (await stores.open(history)).close();
    await addMigration(
      "30000000000002_redefine",
      `PRAGMA foreign_keys=OFF;
       CREATE TABLE new_parent (id INTEGER PRIMARY KEY, x TEXT);
       INSERT INTO new_parent (id) SELECT id FROM parent;
       DROP TABLE parent; ALTER TABLE new_parent RENAME TO parent;
       PRAGMA foreign_keys=ON;`,
    );
    await (await stores.open(history)).close();
    expect(await raw("SELECT p FROM child")).toEqual([{ p: 1 }]);
    await addMigration("30000000000003_break", "DELETE FROM parent;");
    expect(await refusal()).toBe("migration-refused");
    expect(await raw("SELECT id FROM parent")).toEqual([{ id: 1 }]);
  });

  it("refuses a file that is not ours", async () => {
    await raw("CREATE TABLE theirs (a TEXT)");
    expect(await refusal()).toBe("database-foreign");
  });

  it("refuses a second user of the file until the first ends", async () => {
    const first = await stores.open();
    const second = await stores.open().catch((error: unknown) => error);
    expect(second).toMatchObject({ code: "database-in-use" });
    await first.close();
    await (await stores.open()).close();
  });
});
