// Owns: where programs and guests of Debian packages are, and whether they work.
// Test and tool process.
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readdirSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { GUESTS, TOOLS } from "./debian.table.mjs";

/** What was fetched: a folder per package. */
export const CACHE =
  process.env.TIDEMARK_GUESTS ?? fileURLToPath(new URL("../.guests", import.meta.url));
/** Of --version. */
const ANSWER_MS_MAX = 20_000;

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

const rowOf = (command) => TOOLS.find(({ commands }) => commands.includes(command));

/**
 * What to spawn for a command of the table: the system's, else the fetched one.
 * @param {string} command
 * @returns {string} the bare name where there is neither, so that a spawn says ENOENT
 */
export function program(command) {
  const row = rowOf(command);
  if (row === undefined) throw new Error(`${command} has no row in debian.table.mjs`);
  const onPath = (process.env.PATH ?? "").split(delimiter).some((folder) => {
    return folder !== "" && isExecutable(join(folder, command));
  });
  const fetched = join(CACHE, row.package, "run", command);
  return !onPath && isExecutable(fetched) ? fetched : command;
}

/**
 * @param {string} command
 * @returns {string | null} first line of --version, or null where it is missing or doesn't start
 */
export function programVersion(command) {
  const options = { encoding: "utf8", timeout: ANSWER_MS_MAX };
  const { status, stdout } = spawnSync(program(command), ["--version"], options);
  return status === 0 ? (stdout.split("\n")[0] ?? null) : null;
}

/**
 * Why a test can't run.
 * @param {string} command
 * @returns {string}
 */
export function missing(command) {
  const name = rowOf(command)?.package;
  return `no ${command} here; \`npm run guests:fetch\` gets it (Debian: ${name})`;
}

/** @returns {boolean} */
export const works = ({ commands }) =>
  commands.every((command) => programVersion(command) !== null);

/**
 * @param {string} name a package of the table
 * @returns {string | null} its image, or null before `npm run guests:fetch -- --guests`
 */
export function guest(name) {
  const row = GUESTS.find((row) => row.package === name);
  if (row === undefined) throw new Error(`${name} has no row in debian.table.mjs`);
  const folder = join(CACHE, name, "root", row.folder);
  const file = existsSync(folder) ? readdirSync(folder).find((file) => row.file.test(file)) : null;
  return file ? join(folder, file) : null;
}
