// Owns: making what is missing after a clone: native module, Prisma client, API types, dist.
// Own process.
// Every step compares contents, not times, so a second call costs milliseconds.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { bundleThread } from "./bundle.mjs";
import { clientTypes } from "./client-types.mjs";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const require = createRequire(import.meta.url);
const CLIENT = "src/generated/prisma";
const TYPES = "src/generated/client.ts";

function run(sentence, command, args) {
  console.log(`build: ${sentence}`);
  const { status, error } = spawnSync(command, args, { cwd: ROOT, stdio: "inherit" });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${sentence} failed (exit ${status})`);
}

function filesUnder(folder) {
  if (!existsSync(join(ROOT, folder))) return [];
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
    .sort();
}

/** Version that is installed, as part of a fingerprint: an upgrade makes outputs stale. */
function installed(name) {
  return JSON.parse(readFileSync(join(ROOT, "node_modules", name, "package.json"), "utf8")).version;
}

function fingerprint(files, extra) {
  const hash = createHash("sha256").update(extra);
  for (const file of files) {
    hash.update(`\0${file}\0`).update(readFileSync(join(ROOT, file)));
  }
  return hash.digest("hex");
}

/** Runs `make` unless the stamp says that the same inputs were made and `outputs` are there. */
function upToDate(stampFile, print, outputs, make) {
  const path = join(ROOT, stampFile);
  const done = existsSync(path) && readFileSync(path, "utf8") === print;
  if (done && outputs.every((file) => existsSync(join(ROOT, file)))) return;
  rmSync(path, { force: true });
  make();
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, print);
}

/** The SQLite driver is compiled by npm ci; installs that skip scripts leave it out. */
function buildNative() {
  const driver = dirname(require.resolve("better-sqlite3/package.json"));
  if (existsSync(join(driver, "build/Release/better_sqlite3.node"))) return;
  const script = ["rebuild", "better-sqlite3", "--ignore-scripts=false"];
  run("compiling the SQLite driver (about a minute)", "npm", script);
}

function generateClient() {
  const inputs = ["prisma/schema.prisma", "prisma.config.ts"].filter((f) =>
    existsSync(join(ROOT, f)),
  );
  const print = fingerprint(inputs, installed("@prisma/client"));
  upToDate("src/generated/.stamp", print, [`${CLIENT}/client.ts`], () => {
    rmSync(join(ROOT, CLIENT), { recursive: true, force: true });
    run("generating the database client", process.execPath, ["tools/prisma.mjs", "generate"]);
  });
}

function generateTypes() {
  const inputs = ["openapi/openapi.json", "tools/client-types.mjs"];
  upToDate("src/generated/.client-stamp", fingerprint(inputs, ""), [TYPES], () => {
    console.log("build: generating the client's types");
    mkdirSync(join(ROOT, dirname(TYPES)), { recursive: true });
    writeFileSync(join(ROOT, TYPES), clientTypes(join(ROOT, "openapi/openapi.json")));
  });
}

function compile() {
  const sources = filesUnder("src").filter((file) => file.endsWith(".ts"));
  const compiled = sources.filter((file) => !file.endsWith(".d.ts"));
  const outputs = compiled.map((file) => file.replace(/^src/, "dist").replace(/\.ts$/, ".js"));
  const inputs = [...sources, "tsconfig.json", "tools/bundle.mjs"];
  const print = fingerprint(inputs, `${installed("typescript")} ${installed("esbuild")}`);
  upToDate("dist/.stamp", print, outputs, () => {
    // Incremental compilation trusts its notes; they are wrong once an output was removed by hand.
    const whole = outputs.every((file) => existsSync(join(ROOT, file)));
    if (!whole) rmSync(join(ROOT, "dist/.tsbuildinfo"), { force: true });
    run("compiling src to dist", process.execPath, [
      require.resolve("typescript/bin/tsc"),
      ...["-p", "tsconfig.json"],
    ]);
    bundleThread(ROOT);
    removeOrphans(new Set(outputs));
  });
}

/** A renamed source must not live on in dist. */
function removeOrphans(outputs) {
  for (const file of filesUnder("dist")) {
    const output = file.replace(/(\.d\.ts|\.js\.map|\.js)$/, ".js");
    if (output.endsWith(".js") && !outputs.has(output)) rmSync(join(ROOT, file));
  }
}

export function build() {
  buildNative();
  generateClient();
  generateTypes();
  compile();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    build();
  } catch (error) {
    console.error(`build: ${error.message}`);
    process.exitCode = 1;
  }
}
