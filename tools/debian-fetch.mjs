// Owns: fetching Debian packages into .guests. Tool process.
//
// Nothing is installed, and nothing needs root: apt resolves and downloads a package with what it
// depends on, and it is unpacked under .guests/PACKAGE. A program there is started by a script that
// knows its libraries. Guests are another machine's, so theirs come without dependencies.
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { CACHE, guest, works } from "./debian.mjs";
import { GUESTS, TOOLS } from "./debian.table.mjs";

/** A fetch that takes longer is given up: the tests that need it say so. */
const TOOLS_MS_MAX = 120_000;
/** Of `apt-get update`, seconds where there is a network. */
const UPDATE_MS_MAX = 60_000;
/** Nobody waits for these but who asked. */
const GUESTS_MS_MAX = 600_000;

const APT = [
  ["Debug::NoLocking", "1"], // nothing of the system is written
  ["Acquire::Retries", "1"],
  ["Acquire::http::Timeout", "10"],
  ["Acquire::https::Timeout", "10"],
  ["Acquire::Languages", "none"],
  ["APT::Sandbox::User", "root"], // its own user couldn't write to our folder
];
/** The same archive as a machine with nothing installed sees it, and one that is an arm64. */
const BARE = [["Dir::State::status", "/dev/null"]];
const ARM64 = [["APT::Architecture", "arm64"], ["APT::Architectures", "arm64"], ...BARE];

/** Suites that a machine's apt may have as its own; others are beside them in the same archive. */
const OWN_SUITE = /^(bookworm|trixie|forky|sid|testing|(old)*stable|unstable)$/;
/** A suite on top of another one. */
const ON_TOP = /-backports$/;
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

class Unreachable extends Error {}

/** One fetch of any number of packages: its deadline, and which lists apt reads. */
class Fetch {
  #end;
  /** The system's until they turn out to be missing or stale. */
  #lists = null;
  #options;
  #suite;
  #isWhole;
  /** Of packages, as they were downloaded. */
  bytes = 0;

  /**
   * @param {readonly (readonly string[])[]} options of apt, besides those of every fetch
   * @param {string | null} suite its packages come from there; null: from where the system's do
   * @param {boolean} isWhole with all that they depend on, as a machine of that suite sees it
   */
  constructor(msMax, options = [], suite = null, isWhole = false) {
    this.#end = Date.now() + msMax;
    const own = isWhole ? [...BARE, ["APT::Default-Release", suite]] : [];
    this.#options = [...APT, ...own, ...options];
    this.#suite = suite;
    this.#isWhole = isWhole;
  }

  #run(command, args, { cwd = CACHE, msMax = GUESTS_MS_MAX } = {}) {
    const timeout = Math.min(msMax, this.#end - Date.now());
    if (timeout <= 0) throw new Unreachable("it takes too long");
    const env = { ...process.env, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" };
    const run = spawnSync(command, args, { encoding: "utf8", timeout, env, cwd });
    if (run.error?.code === "ENOENT") throw new Unreachable(`no ${command} on this machine`);
    const said = `${run.stderr ?? ""}`.trim();
    return { ok: run.status === 0, said, output: `${run.stdout ?? ""}` };
  }

  #apt(command, args, { options = [], ...run } = {}) {
    const lists = this.#lists === null ? [] : [["Dir::State::lists", this.#lists]];
    const all = [...this.#options, ...lists, ...options].flatMap(([name, value]) => [
      "-o",
      `${name}=${value}`,
    ]);
    return this.#run(command, [...all, ...args], run);
  }

  /** Another suite of the archive that the system's apt uses, signatures checked as there. */
  #useSuite() {
    // What an update would ask for: that is known before any list is there.
    const { output } = this.#apt("apt-get", ["update", "--print-uris"]);
    const all = [...output.matchAll(/^'([^']+)\/dists\/([^/']+)\//gm)];
    const archive = all.find(([, , suite]) => OWN_SUITE.test(suite))?.[1];
    if (archive === undefined) throw new Unreachable("this machine's apt knows no Debian archive");
    const signed = existsSync(KEYRING) ? `[signed-by=${KEYRING}] ` : "";
    const file = `${this.#lists}.list`; // beside it: an update removes what is no list
    const base = this.#suite.replace(ON_TOP, "");
    const suites = this.#isWhole ? [...new Set([this.#suite, base])] : [this.#suite];
    const lines = suites.map((suite) => `deb ${signed}${archive} ${suite} main\n`);
    writeFileSync(file, lines.join(""));
    this.#options.push(
      ["Dir::Etc::sourcelist", file],
      ["Dir::Etc::sourceparts", "/dev/null"],
      ["Dir::Etc::preferencesparts", "/dev/null"],
    );
  }

  /** Lists of our own; a hook of the system that fails afterwards is nothing to us. */
  #update() {
    this.#lists = mkdtempSync(join(CACHE, "lists-"));
    mkdirSync(join(this.#lists, "partial"));
    if (this.#suite !== null) this.#useSuite();
    const { said } = this.#apt("apt-get", ["update"], { msMax: UPDATE_MS_MAX });
    const has = readdirSync(this.#lists).some((file) => file.includes("Packages"));
    if (!has) {
      throw new Unreachable(`no package lists: ${said.split("\n")[0] || "no answer in time"}`);
    }
  }

  close() {
    if (this.#lists === null) return;
    for (const place of [this.#lists, `${this.#lists}.list`]) {
      rmSync(place, { recursive: true, force: true });
    }
  }

  /** Leaves the package, and what of its dependencies the system hasn't, in a folder. */
  #download(name, folder) {
    mkdirSync(join(folder, "partial"), { recursive: true });
    const args = ["install", "--download-only", "--reinstall", "--yes"];
    const get = () =>
      this.#apt("apt-get", [...args, "--no-install-recommends", name], {
        options: [["Dir::Cache::archives", folder]],
      });
    let result = get();
    if (!result.ok && this.#lists === null) {
      this.#update();
      result = get();
    }
    if (!result.ok) throw new Error(result.said);
  }

  /** The package's real name. */
  #meant({ package: name, means, newest }) {
    if (means !== undefined) {
      const { output } = this.#apt("apt-cache", ["depends", "--important", name]);
      const found = [...output.matchAll(/Depends: (\S+)/g)].find(([, other]) => means.test(other));
      if (found === undefined) throw new Error("it depends on no such package");
      return found[1];
    }
    if (newest === undefined) return name;
    const { output } = this.#apt("apt-cache", ["pkgnames"]);
    const found = output
      .split("\n")
      .map((line) => newest.exec(line))
      .filter(Boolean);
    const best = found.sort((a, b) => Number(b[1]) - Number(a[1]))[0];
    if (best === undefined) throw new Error(`${this.#suite} has none of it any more`);
    return best[0];
  }

  /** @throws Error when it can't be had, or its image isn't where the table says */
  guest(row) {
    mkdirSync(CACHE, { recursive: true });
    if (this.#lists === null) this.#update();
    this.#unpack(row, (archives) => {
      mkdirSync(archives);
      const name = this.#meant(row);
      const names = row.also === undefined ? [name] : [name, row.also(name)];
      const { ok, said } = this.#apt("apt-get", ["download", ...names], { cwd: archives });
      if (!ok) throw new Error(said);
    });
    if (guest(row.package) === null) throw new Error(`it has no ${row.file}`);
  }

  /** @throws Error when it can't be had, or doesn't start when it is there */
  tool(row) {
    mkdirSync(CACHE, { recursive: true });
    if (this.#suite !== null && this.#lists === null) this.#update();
    this.#unpack(
      row,
      (archives) => this.#download(row.from ?? row.package, archives),
      (work) => writeStarters(row, work),
    );
    if (!works(row)) throw new Error("it was unpacked, and doesn't start");
  }

  /** Leaves in the cache the whole package or nothing. */
  #unpack(row, download, finish = () => {}) {
    const work = mkdtempSync(join(CACHE, "unpacking-"));
    try {
      const archives = join(work, "archives");
      const root = join(work, "root");
      download(archives);
      mkdirSync(root);
      // The C library and the loader are one; the system's loader needs the system's library.
      const wanted = this.#isWhole ? /\.deb$/ : /^(?!libc6_).*\.deb$/;
      const files = readdirSync(archives).filter((file) => wanted.test(file));
      for (const file of files) this.bytes += statSync(join(archives, file)).size;
      for (const file of files) {
        const { ok, said } = this.#run("dpkg-deb", ["--extract", join(archives, file), root]);
        if (!ok) throw new Error(said);
      }
      rmSync(archives, { recursive: true });
      finish(work);
      chmodSync(work, 0o755);
      const place = join(CACHE, row.package);
      rmSync(place, { recursive: true, force: true });
      renameSync(work, place);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
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

/**
 * GDB has Python in it, and Ansible is written in it: both look for modules where Debian would have
 * put them.
 */
function pythonLines(root) {
  const folder = join(root, "usr/lib");
  const version = existsSync(folder) && readdirSync(folder).find((name) => /^python3\./.test(name));
  const isWhole = version && existsSync(join(folder, version, "os.py"));
  const hasPackages = existsSync(join(folder, "python3/dist-packages"));
  const modules = [
    ...(hasPackages ? ["python3/dist-packages"] : []),
    ...(version ? [version, `${version}/lib-dynload`] : []),
  ].map((name) => `$root/usr/lib/${name}`);
  return [
    ...(modules.length > 0 ? [`export PYTHONPATH="${modules.join(":")}"`] : []),
    ...(isWhole ? ['export PYTHONHOME="$root/usr"'] : []),
    ...(hasPackages ? ["export LC_ALL=C.UTF-8"] : []), // Ansible refuses any other encoding
  ];
}

/** A Python program names the system's interpreter, which may have been fetched with it instead. */
function interpreterOf(root, command) {
  const file = join(root, "usr/bin", command);
  const isPython = /^#! ?\/usr\/bin\/python3/.test(readFileSync(file, "latin1").slice(0, 40));
  return isPython && existsSync(join(root, "usr/bin/python3")) ? ['"$root/usr/bin/python3"'] : [];
}

/** How a program finds its libraries: lines before it, and words in front of it. */
function libraryLines(row, root) {
  const folders = libraryFolders(root);
  const path = folders.map((folder) => `$root/${folder}`).join(":");
  if (row.suite === undefined) {
    const rest = `\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}`;
    return { lines: path === "" ? [] : [`export LD_LIBRARY_PATH="${path}${rest}"`], words: [] };
  }
  // Its own loader takes them, and what the program starts is the system's again.
  const loader = folders.flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((file) => /^ld-linux.*\.so\.\d+$/.test(file))
      .map((file) => `${folder}/${file}`),
  )[0];
  if (loader === undefined) throw new Error("no loader came along");
  const libraries = loader.slice(0, loader.lastIndexOf("/"));
  const lines = Object.entries(row.environment ?? {}).map(
    ([name, value]) => `export ${name}="${value.replace("{libraries}", `$root/${libraries}`)}"`,
  );
  return { lines, words: [`"$root/${loader}"`, "--library-path", `"${path}"`] };
}

/** Scripts that start the package's commands; they find it beside themselves. */
function writeStarters(row, place) {
  const root = join(place, "root");
  const { lines: before, words: loader } = libraryLines(row, root);
  mkdirSync(join(place, "run"));
  for (const command of row.commands) {
    const args = (row.args ?? []).map((arg) => `"${arg.replace("{root}", "$root")}"`);
    const program = row.program ?? command;
    const interpreter = interpreterOf(root, program);
    const words = [...loader, ...interpreter, `"$root/usr/bin/${program}"`, ...args];
    const lines = [
      "#!/bin/sh",
      `root="\${0%/*}/../root"`,
      ...before,
      ...pythonLines(root),
      `exec ${words.join(" ")} "$@"`,
    ];
    const file = join(place, "run", command);
    writeFileSync(file, `${lines.join("\n")}\n`);
    chmodSync(file, 0o755);
  }
}

/**
 * Fetches the table's tools that aren't here.
 * @param {(line: string) => void} say
 * @param {(row: object) => boolean} [wants] which ones; all but those that go with guests if absent
 * @returns {number} how many are still missing
 */
export function fetchTools(say, wants = (row) => row.withGuests !== true) {
  const wanted = TOOLS.filter((row) => wants(row) && !works(row));
  const suites = new Set(wanted.map(({ suite }) => suite ?? null));
  return [...suites].reduce((failed, suite) => {
    const rows = wanted.filter((row) => (row.suite ?? null) === suite);
    const msMax = suite === null ? TOOLS_MS_MAX : GUESTS_MS_MAX;
    const fetch = new Fetch(msMax, [], suite, suite !== null);
    return failed + fetchEach(rows, fetch, (fetch, row) => fetch.tool(row), say);
  }, 0);
}

/**
 * Fetches the table's guests that aren't here.
 * @param {(line: string) => void} say
 * @param {(row: object) => boolean} [wants] which ones
 * @returns {number} how many are still missing
 */
export function fetchGuests(say, wants = () => true) {
  const wanted = GUESTS.filter((row) => wants(row) && guest(row.package) === null);
  const suites = new Set(wanted.map(({ suite }) => suite));
  return [...suites].reduce((failed, suite) => {
    const rows = wanted.filter((row) => row.suite === suite);
    const fetch = new Fetch(GUESTS_MS_MAX, ARM64, suite);
    return failed + fetchEach(rows, fetch, (fetch, row) => fetch.guest(row), say);
  }, 0);
}

const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

function fetchEach(wanted, fetch, one, say) {
  let failed = 0;
  try {
    for (const [at, row] of wanted.entries()) {
      const start = Date.now();
      const before = fetch.bytes;
      try {
        one(fetch, row);
        const seconds = (Date.now() - start) / 1000;
        say(`${row.package} (${seconds.toFixed(1)} s, ${mib(fetch.bytes - before)})`);
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
  } finally {
    fetch.close();
  }
}
