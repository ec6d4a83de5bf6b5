#!/usr/bin/env node
// Owns: a stand-in for Prisma's native schema engine where that can't be fetched. Development only.
// Prisma's command line drives its engine by one-line JSON-RPC on stdin and stdout. The same engine
// is published as WebAssembly with methods of the same names; this file joins the two for SQLite.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { PrismaBetterSqlite3 } from "@prisma/adapter-better-sqlite3";
import { bindMigrationAwareSqlAdapterFactory } from "@prisma/driver-adapter-utils";

// The bookkeeping table exactly as the engine creates it.
const BOOKKEEPING = `CREATE TABLE IF NOT EXISTS "_prisma_migrations" (
    "id"                    TEXT PRIMARY KEY NOT NULL,
    "checksum"              TEXT NOT NULL,
    "finished_at"           DATETIME,
    "migration_name"        TEXT NOT NULL,
    "logs"                  TEXT,
    "rolled_back_at"        DATETIME,
    "started_at"            DATETIME NOT NULL DEFAULT current_timestamp,
    "applied_steps_count"   INTEGER UNSIGNED NOT NULL DEFAULT 0
);`;

const argv = process.argv.slice(2);
const url = datasourceUrl();
const datamodels = argv.flatMap((word, i) =>
  word === "--datamodels" ? [[argv[i + 1], readFileSync(argv[i + 1], "utf8")]] : [],
);

function datasourceUrl() {
  const at = argv.indexOf("--datasource");
  const given = at < 0 ? {} : JSON.parse(argv[at + 1] ?? "{}");
  return given.url ?? ":memory:";
}

/** The driver adapter, with connections that accept a whole script where one statement is due. */
function adapterFactory() {
  const factory = new PrismaBetterSqlite3({ url });
  for (const name of ["connect", "connectToShadowDb"]) {
    const open = factory[name].bind(factory);
    factory[name] = async () => {
      const connection = await open();
      const executeOne = connection.executeRaw.bind(connection);
      connection.executeRaw = async (query) => {
        if (query.args.length > 0) return executeOne(query);
        await connection.executeScript(query.sql);
        return 0;
      };
      return connection;
    };
  }
  return factory;
}

async function touchDatabase(script) {
  const connection = await adapterFactory().connect();
  if (script !== undefined) await connection.executeScript(script);
  await connection.dispose();
}

async function startEngine() {
  const glue = await import("@prisma/schema-engine-wasm/schema_engine_bg");
  const entry = createRequire(import.meta.url).resolve("@prisma/schema-engine-wasm");
  const bytes = readFileSync(entry.replace(/[^/]+$/, "schema_engine_bg.wasm"));
  const imports = { "./schema_engine_bg.js": glue };
  const { instance } = await WebAssembly.instantiate(bytes, imports);
  glue.__wbg_set_wasm(instance.exports);
  instance.exports.__wbindgen_start();
  const options = datamodels.length > 0 ? { datamodels } : {};
  const adapter = bindMigrationAwareSqlAdapterFactory(adapterFactory());
  return glue.SchemaEngine.new(options, () => {}, adapter);
}

let engine;

async function answer(method, params) {
  if (method === "createDatabase") {
    await touchDatabase();
    return { databaseName: url };
  }
  // The WebAssembly engine's reset deletes rows and leaves tables: worse than saying no.
  if (method === "reset") throw new Error("Delete the database file, then run migrate deploy.");
  engine ??= await startEngine();
  const call = () => engine[method === "getDatabaseVersion" ? "version" : method](params);
  try {
    return await call();
  } catch (error) {
    // P1014 (no such table) stands for "no history yet", as the native engine would say.
    if (error.code !== "P1014") throw error;
    await touchDatabase(BOOKKEEPING);
    return call();
  }
}

function send(message) {
  process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
}

async function serve() {
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, method, params } = JSON.parse(line);
    if (method === undefined) continue; // the command line's acknowledgement of a print
    try {
      const result = await answer(method, params);
      if (method === "diff" && result?.stdout != null) {
        send({ id: 900_000 + id, method: "print", params: { content: result.stdout } });
      }
      send({ id, result: result ?? {} });
    } catch (error) {
      const data = {
        is_panic: false,
        message: error.message ?? String(error),
        meta: error.meta ?? null,
        error_code: error.code ?? null,
      };
      send({ id, error: { code: 4466, message: "see data", data } });
    }
  }
}

// "cli can-connect-to-database" and "cli create-database": SQLite creates on connect.
if (argv.includes("cli")) await touchDatabase();
else await serve();
