// Owns: where programs and guests of Debian packages are, and whether they work.
// Test and tool process.
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readdirSync, statSync } from "node:fs";
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
  const { package: name, from, withGuests = false } = rowOf(command) ?? {};
  const how = `npm run guests:fetch${withGuests ? " -- --guests" : ""}`;
  return `no ${command} here; \`${how}\` gets it (Debian: ${from ?? name})`;
}

/** @returns {boolean} */
export const works = ({ commands }) =>
  commands.every((command) => programVersion(command) !== null);

/** Paths under a folder that fit; a name of the path may hold `*`. */
function matching(folder, path) {
  const [name, ...rest] = path.split("/");
  const pattern = new RegExp(`^${name.split("*").map(escaped).join(".*")}$`);
  const found = name.includes("*") ? namesIn(folder).filter((one) => pattern.test(one)) : [name];
  const paths = found.map((one) => join(folder, one)).filter(existsSync);
  return rest.length === 0 ? paths : paths.flatMap((one) => matching(one, rest.join("/")));
}

const escaped = (text) => text.replace(/[.+]/g, "\\$&");
const namesIn = (folder) => (statSync(folder).isDirectory() ? readdirSync(folder).sort() : []);

/**
 * @param {string} name a guest of the table
 * @param {string} [path] under the unpacked package, with `*` in its names; its image if absent
 * @returns {string | null} the first such file, or null before `npm run guests:fetch -- --guests`
 */
export function guest(name, path) {
  const row = GUESTS.find((row) => row.package === name);
  if (row === undefined) throw new Error(`${name} has no row in debian.table.mjs`);
  const root = join(CACHE, name, "root");
  return existsSync(root) ? (matching(root, path ?? row.file)[0] ?? null) : null;
}

/**
 * Why a test can't run.
 * @param {string} name a guest of the table
 * @returns {string}
 */
export function missingGuest(name) {
  return `no ${name} here; \`npm run guests:fetch -- --guests\` gets it`;
}
