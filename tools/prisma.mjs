#!/usr/bin/env node
// Owns: Prisma's command line for `npm run db:*`. Development only.
// Where Prisma's native schema engine was installed it is used; where it is not, the stand-in is,
// so that no command has to download anything.
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const require = createRequire(import.meta.url);
const here = dirname(fileURLToPath(import.meta.url));

function nativeEngineIsPresent() {
  // The engines package is a dependency of the command line, not ours.
  const cli = createRequire(require.resolve("prisma/package.json"));
  try {
    const folder = dirname(cli.resolve("@prisma/engines/package.json"));
    return readdirSync(folder).some((name) => name.startsWith("schema-engine-"));
  } catch {
    return false;
  }
}

const env = { ...process.env, CHECKPOINT_DISABLE: "1", PRISMA_HIDE_UPDATE_MESSAGE: "1" };
if (env.PRISMA_SCHEMA_ENGINE_BINARY === undefined && !nativeEngineIsPresent()) {
  env.PRISMA_SCHEMA_ENGINE_BINARY = join(here, "schema-engine.mjs");
}
const cli = join(dirname(require.resolve("prisma/package.json")), "build/index.js");
// The engine opens the database even to compare two schemas; a fresh clone has no folder for it.
mkdirSync(join(dirname(here), "data"), { recursive: true });
const run = spawnSync(process.execPath, [cli, ...process.argv.slice(2)], {
  cwd: dirname(here),
  env,
  stdio: "inherit",
});
process.exitCode = run.status ?? 1;
