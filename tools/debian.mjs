// Owns: programs of Debian packages: where each is, whether it works, and fetching what is missing.
// Test and tool process.
//
// Nothing is installed, and nothing needs root: apt resolves and downloads a package with what it
// depends on, and it is unpacked under .guests/PACKAGE. A program there is started by a script that
// knows its libraries.
import { spawnSync } from "node:child_process";
import {
  accessSync,
  chmodSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { TOOLS } from "./debian.table.mjs";

const CACHE = process.env.TIDEMARK_GUESTS ?? fileURLToPath(new URL("../.guests", import.meta.url));
/** A fetch that takes longer is given up: the tests that need it say so. */
const FETCH_MS_MAX = 120_000;
/** Of --version. */
const ANSWER_MS_MAX = 20_000;

const APT = [
  ["Debug::NoLocking", "1"], // nothing of the system is written
  ["Acquire::Retries", "1"],
  ["Acquire::http::Timeout", "10"],
  ["Acquire::https::Timeout", "10"],
  ["Acquire::Languages", "none"],
  ["APT::Sandbox::User", "root"], // its own user couldn't write to our folder
];

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

const works = ({ commands }) => commands.every((command) => programVersion(command) !== null);

class Unreachable extends Error {}

/** One fetch of any number of packages: its deadline, and which lists apt reads. */
class Fetch {
  #end = Date.now() + FETCH_MS_MAX;
  /** The system's until they turn out to be missing or stale. */
  #lists = null;

  #run(command, args) {
    const timeout = this.#end - Date.now();
    if (timeout <= 0) throw new Unreachable(`more than ${FETCH_MS_MAX / 1000} s`);
    const env = { ...process.env, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" };
    const run = spawnSync(command, args, { encoding: "utf8", timeout, env });
    if (run.error?.code === "ENOENT") throw new Unreachable(`no ${command} on this machine`);
    return { ok: run.status === 0, said: `${run.stderr ?? ""}`.trim() };
  }

  #apt(args, options = []) {
    const lists = this.#lists === null ? [] : [["Dir::State::lists", this.#lists]];
    const all = [...APT, ...lists, ...options].flatMap(([name, value]) => [
      "-o",
      `${name}=${value}`,
    ]);
    return this.#run("apt-get", [...all, ...args]);
  }

  /** Lists of our own; a hook of the system that fails afterwards is nothing to us. */
  #update() {
    this.#lists = mkdtempSync(join(CACHE, "lists-"));
    mkdirSync(join(this.#lists, "partial"));
    const { said } = this.#apt(["update"]);
    const has = readdirSync(this.#lists).some((file) => file.includes("Packages"));
    if (!has) throw new Unreachable(`no package lists: ${said.split("\n").at(-1)}`);
  }

  close() {
    if (this.#lists !== null) rmSync(this.#lists, { recursive: true, force: true });
  }

  /** Leaves the package, and what of its dependencies the system hasn't, in a folder. */
  #download(name, folder) {
    mkdirSync(join(folder, "partial"), { recursive: true });
    const args = ["install", "--download-only", "--reinstall", "--yes"];
    const get = () =>
      this.#apt([...args, "--no-install-recommends", name], [["Dir::Cache::archives", folder]]);
    let result = get();
    if (!result.ok && this.#lists === null) {
      this.#update();
      result = get();
    }
    if (!result.ok) throw new Error(result.said);
  }

  /** @throws Error when it can't be had, or doesn't start when it is there */
  package(row) {
    mkdirSync(CACHE, { recursive: true });
    const work = mkdtempSync(join(CACHE, "unpacking-"));
    try {
      const archives = join(work, "archives");
      const root = join(work, "root");
      this.#download(row.package, archives);
      mkdirSync(root);
      // The C library and the loader are one; the system's loader needs the system's library.
      const files = readdirSync(archives).filter((file) => /^(?!libc6_).*\.deb$/.test(file));
      for (const file of files) {
        const { ok, said } = this.#run("dpkg-deb", ["--extract", join(archives, file), root]);
        if (!ok) throw new Error(said);
      }
      rmSync(archives, { recursive: true });
      writeStarters(row, work);
      chmodSync(work, 0o755);
      const place = join(CACHE, row.package);
      rmSync(place, { recursive: true, force: true });
      renameSync(work, place);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
    if (!works(row)) throw new Error("it was unpacked, and doesn't start");
  }
}

/** Folders of an unpacked package that hold shared libraries, relative to it. */
function libraryFolders(root) {
  const foldersIn = (folder) =>
    existsSync(join(root, folder))
      ? readdirSync(join(root, folder), { withFileTypes: true })
          .filter((entry) => entry.isDirectory())
          .map(({ name }) => join(folder, name))
      : [];
  const triplets = ["lib", "usr/lib"].flatMap(foldersIn).filter((name) => /-linux-gnu/.test(name));
  return [...triplets, ...triplets.flatMap(foldersIn)].filter((folder) =>
    readdirSync(join(root, folder)).some((file) => /\.so(\.|$)/.test(file)),
  );
}

/** GDB has Python in it, which looks for its modules where Debian would have put them. */
function pythonLines(root) {
  const folder = join(root, "usr/lib");
  const version = existsSync(folder) && readdirSync(folder).find((name) => /^python3\./.test(name));
  if (!version) return [];
  const modules = `$root/usr/lib/${version}`;
  const isWhole = existsSync(join(folder, version, "os.py"));
  return [
    `export PYTHONPATH="${modules}:${modules}/lib-dynload"`,
    ...(isWhole ? ['export PYTHONHOME="$root/usr"'] : []),
  ];
}

/** Scripts that start the package's commands; they find it beside themselves. */
function writeStarters(row, place) {
  const root = join(place, "root");
  const libraries = libraryFolders(root).map((folder) => `$root/${folder}`);
  const rest = `\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}`;
  mkdirSync(join(place, "run"));
  for (const command of row.commands) {
    const args = (row.args ?? []).map((arg) => `"${arg.replace("{root}", "$root")}"`);
    const lines = [
      "#!/bin/sh",
      `root="\${0%/*}/../root"`,
      ...(libraries.length > 0 ? [`export LD_LIBRARY_PATH="${libraries.join(":")}${rest}"`] : []),
      ...pythonLines(root),
      `exec ${[`"$root/usr/bin/${command}"`, ...args, '"$@"'].join(" ")}`,
    ];
    const file = join(place, "run", command);
    writeFileSync(file, `${lines.join("\n")}\n`);
    chmodSync(file, 0o755);
  }
}

/**
 * Fetches every tool of the table that isn't here.
 * @param {(line: string) => void} say
 * @returns {number} how many are still missing
 */
export function fetchTools(say) {
  const wanted = TOOLS.filter((row) => !works(row));
  const fetch = new Fetch();
  try {
    return fetchEach(wanted, fetch, say);
  } finally {
    fetch.close();
  }
}

function fetchEach(wanted, fetch, say) {
  let failed = 0;
  for (const [at, row] of wanted.entries()) {
    const start = Date.now();
    try {
      fetch.package(row);
      say(`${row.package} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
    } catch (error) {
      if (error instanceof Unreachable) {
        const names = wanted.slice(at).map((row) => row.package);
        say(`GIVEN UP: ${error.message}; missing: ${names.join(", ")}`);
        return failed + names.length;
      }
      failed++;
      say(`NOT FETCHED: ${row.package}: ${error.message}`);
    }
  }
  return failed;
}
