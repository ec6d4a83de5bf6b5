// Owns: raw connections to the SQLite file, below Prisma's client: lock and migrator use them.
// HTTP thread, at start.
import { PrismaBetterSqlite3 } from "@prisma/adapter-better-sqlite3";
import { StoreError } from "./errors.js";

/** How long a start waits for a process that is still shutting down. */
const LOCK_WAIT_MS = 2_000;

export type Connection = Awaited<ReturnType<PrismaBetterSqlite3["connect"]>>;

export function connect(file: string, busyTimeoutMs = 5_000): Promise<Connection> {
  return new PrismaBetterSqlite3({ url: `file:${file}`, timeout: busyTimeoutMs }).connect();
}

/** Runs one statement; @returns its rows as objects by column name, as the caller knows them. */
export async function query<Row>(
  connection: Connection,
  sql: string,
  args: readonly (string | number | null)[] = [],
): Promise<readonly Row[]> {
  const argTypes = args.map(() => ({ scalarType: "unknown", arity: "scalar" }) as const);
  const result = await connection.queryRaw({ sql, args: [...args], argTypes });
  const named = result.rows.map((row) =>
    Object.fromEntries(result.columnNames.map((name, i) => [name, row[i]])),
  );
  return named as Row[];
}

/**
 * Takes the exclusive right to a database file for this process's life. The right is an operating
 * system lock on a file beside the database, so it ends with the process however that ends, and
 * backups may still read the database itself.
 * @throws StoreError "database-in-use" when another process keeps it for two seconds
 */
export async function lockFile(file: string): Promise<{ release(): Promise<void> }> {
  const connection = await connect(`${file}.lock`, LOCK_WAIT_MS);
  try {
    await connection.executeScript("BEGIN EXCLUSIVE");
  } catch (error) {
    await connection.dispose();
    const sentence = `Another process uses ${file}: stop it, or choose another data directory.`;
    throw new StoreError("database-in-use", sentence, error);
  }
  return { release: () => connection.dispose() };
}
