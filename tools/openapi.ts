// Owns: writing openapi/openapi.json from the operations, or checking that it is up to date.
// Usage: tsx tools/openapi.ts [--check]
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { createLogger } from "../src/api/index.js";
import { buildApp } from "../src/app.js";
import { systemClock } from "../src/base/clock.js";
import { loadConfig } from "../src/config.js";

const FILE = fileURLToPath(new URL("../openapi/openapi.json", import.meta.url));

/** The document needs no service; using one while writing it is a defect. */
const noServices = new Proxy(
  {},
  {
    get: (_target, name) =>
      new Proxy(
        {},
        {
          get: (_inner, method) => () => {
            throw new Error(`the document asked ${String(name)}.${String(method)}`);
          },
        },
      ),
  },
);

const { app } = buildApp({
  config: loadConfig({}),
  services: noServices as Parameters<typeof buildApp>[0]["services"],
  clock: systemClock,
  log: createLogger("silent"),
});
const answer = await app.inject({ url: "/openapi.json" });
await app.close();
const text = `${JSON.stringify(answer.json(), null, 1)}\n`;

if (process.argv.includes("--check")) {
  let committed = "";
  try {
    committed = readFileSync(FILE, "utf8");
  } catch {
    // Not there yet: that is drift too.
  }
  if (committed !== text) {
    console.error("openapi/openapi.json is not what the code makes: run npm run openapi.");
    process.exitCode = 1;
  }
} else {
  mkdirSync(dirname(FILE), { recursive: true });
  writeFileSync(FILE, text);
  console.log(`openapi/openapi.json: ${Object.keys(answer.json().paths).length} paths`);
}
