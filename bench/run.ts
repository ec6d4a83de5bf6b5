// Owns: `npm run bench`: every subject in a process of its own, one after the other; a table.
//   --only NAME    one subject, or several: --only a --only b
//   --part NAME    of a subject that has several, this one alone
//   --quick        small sizes and few rounds: shows that it works, not what it costs
//   --json FILE    the same rows as JSON
//   --strict       exit 1 when a bar is missed
//   --profile DIR  CPU profiles of the processes measured, threads included
// A bar that is missed is a line that says so; only a subject that breaks fails the run.
import { fork } from "node:child_process";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import type { FromSubject, Row } from "./support/subject.js";
import { lineOf, tableOf } from "./support/table.js";

/** A subject that takes longer hangs. */
const SUBJECT_MS_MAX = 20 * 60_000;
const CHILD = new URL("./support/child.ts", import.meta.url);

const { values: options } = parseArgs({
  options: {
    only: { type: "string", multiple: true },
    part: { type: "string", default: "" },
    quick: { type: "boolean", default: false },
    json: { type: "string" },
    strict: { type: "boolean", default: false },
    profile: { type: "string" },
  },
});

function subjects(): readonly string[] {
  const all = readdirSync(new URL(".", import.meta.url))
    .filter((file) => file.endsWith(".bench.ts"))
    .map((file) => file.replace(/\.bench\.ts$/, ""))
    .sort();
  const unknown = options.only?.find((name) => !all.includes(name));
  if (unknown !== undefined) {
    throw new Error(`no subject "${unknown}"; there are ${all.join(", ")}`);
  }
  return all.filter((name) => options.only?.includes(name) ?? true);
}

/** Runs one subject. @returns its rows, and whether it came to its end */
function runSubject(name: string): Promise<{ rows: readonly Row[]; ok: boolean }> {
  const file = new URL(`./${name}.bench.ts`, import.meta.url).href;
  const profileDir = options.profile === undefined ? "" : resolve(options.profile);
  const profiling = profileDir === "" ? [] : ["--cpu-prof", `--cpu-prof-dir=${profileDir}`];
  const size = options.quick ? "quick" : "full";
  const child = fork(CHILD, [name, file, size, profileDir, options.part], {
    execArgv: [...process.execArgv, ...profiling],
  });
  const rows: Row[] = [];
  let done = false;
  child.on("message", (message: FromSubject) => {
    if (message.kind === "row") {
      rows.push(message.row);
      console.error(`  ${lineOf(message.row)}`);
    } else if (message.kind === "note") console.error(`  ${name}: ${message.text}`);
    else done = true;
  });
  return new Promise((resolveEnd) => {
    const limit = setTimeout(() => child.kill("SIGKILL"), SUBJECT_MS_MAX);
    child.once("close", () => {
      clearTimeout(limit);
      resolveEnd({ rows, ok: done });
    });
  });
}

const rows: Row[] = [];
let broken = 0;
if (options.profile !== undefined) mkdirSync(options.profile, { recursive: true });
for (const name of subjects()) {
  console.error(`bench: ${name}`);
  const result = await runSubject(name);
  rows.push(...result.rows);
  if (result.ok) continue;
  broken++;
  console.error(`bench: ${name} broke off`);
}
console.log(tableOf(rows));
const held = rows.filter((row) => row.met !== null);
const missed = held.filter((row) => row.met === false);
console.log(`${held.length - missed.length} bars met, ${missed.length} missed, ${broken} broken`);
if (options.json !== undefined) {
  const machine = { cpus: availableParallelism(), node: process.version };
  const text = JSON.stringify({ machine, quick: options.quick, rows }, null, 2);
  writeFileSync(options.json, `${text}\n`);
}
if (broken > 0 || (options.strict && missed.length > 0)) process.exitCode = 1;
