// Goal: what tests want of Debian is fetched once, started from where it lies, or named as missing.
// Method: `npm run guests:fetch` as a child with an apt-get and a dpkg-deb of our own on its PATH.
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { GUESTS, TOOLS } from "../../tools/debian.table.mjs";

const FETCH = fileURLToPath(new URL("../../tools/guests-fetch.mjs", import.meta.url));
const PACKAGES = TOOLS.filter((row) => row.withGuests !== true).map((row) => row.package);
const WITH_GUESTS = TOOLS.filter((row) => row.withGuests === true).map((row) => row.package);
const LOADER = "root/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";

/** apt-get and apt-cache: leaves NAME.deb in the archives; how it fails is in FAKE, a word each. */
const APT = `
const [fs, { join }] = [require("node:fs"), require("node:path")];
const args = process.argv.slice(2);
const option = (name) => args.find((arg) => arg.startsWith(name + "="))?.slice(name.length + 1);
const lists = option("Dir::State::lists");
const is = (word) => (process.env.FAKE ?? "").split(" ").includes(word);
const words = args.filter((arg) => /^[a-z]/.test(arg));
if (!args.includes("--print-uris")) fs.appendFileSync(process.env.LOG, words.join(" ") + "\\n");
if (args.includes("--print-uris")) {
  const suites = is("not-debian") ? ["x-security"] : ["x-security", "bookworm"];
  for (const one of suites) console.log("'http://a.test/" + one.slice(0, 1) + "/dists/" + one + "/I'");
} else if (args.includes("pkgnames")) {
  const versions = is("old-gone") ? [] : ["2.9", "3.1", "2.12", "2.2"];
  for (const one of versions) console.log("linux-binary-7." + one + "+deb13-cloud-arm64");
} else if (args.includes("depends")) {
  console.log(args.at(-1) + "\\n  Depends: linux-base\\n  Depends: linux-image-9-arm64");
} else if (args.includes("update")) {
  if (is("offline")) { console.error("E: Some index files failed"); process.exit(100); }
  const sources = option("Dir::Etc::sourcelist");
  if (sources) fs.appendFileSync(process.env.LOG, fs.readFileSync(sources, "utf8"));
  fs.writeFileSync(join(lists, "main_Packages"), "");
} else {
  const name = args.at(-1);
  const names = args.includes("download") ? args.slice(args.indexOf("download") + 1) : [name];
  const archives = args.includes("download") ? "." : option("Dir::Cache::archives");
  if (is("offline") || is("no-" + name) || (is("stale") && lists === undefined)) {
    console.error("E: Unable to locate package " + name);
    process.exit(100);
  }
  for (const one of names) fs.writeFileSync(join(archives, one + ".deb"), "");
  fs.writeFileSync(join(archives, "libc6_2_amd64.deb"), "");
}`;
/**
 * dpkg-deb: every package has every image, and every program, which says how it was started; the C
 * library has the loader, which does too.
 */
const DPKG = `
const [fs, { join, basename }] = [require("node:fs"), require("node:path")];
const [, file, root] = process.argv.slice(2);
const libraries = join(root, "usr/lib/x86_64-linux-gnu");
if (basename(file).startsWith("libc6_")) {
  fs.mkdirSync(libraries, { recursive: true });
  const loader = '#!/bin/sh\\necho "$QEMU_MODULE_DIR ($LD_LIBRARY_PATH)" "$@"\\n';
  fs.writeFileSync(join(libraries, "ld-linux-x86-64.so.2"), loader, { mode: 0o755 });
  process.exit(0);
}
const is = (word) => (process.env.FAKE ?? "").split(" ").includes(word);
const status = is("broken-" + basename(file, ".deb")) ? 1 : 0;
for (const folder of ["usr/bin", "usr/lib/x86_64-linux-gnu"]) {
  fs.mkdirSync(join(root, folder), { recursive: true });
}
fs.writeFileSync(join(root, "usr/lib/x86_64-linux-gnu/libfake.so.1"), "");
for (const image of is("no-images") ? [] : process.env.IMAGES.split(" ")) {
  fs.mkdirSync(join(root, image, ".."), { recursive: true });
  fs.writeFileSync(join(root, image), "");
}
for (const command of process.env.COMMANDS.split(" ")) {
  const program = '#!/bin/sh\\necho "$LD_LIBRARY_PATH" "$@"\\nexit ' + status + "\\n";
  fs.writeFileSync(join(root, "usr/bin", command), program, { mode: 0o755 });
}
if (is("python") && basename(file, ".deb") === "ansible-core") {
  const python = '#!/bin/sh\\necho "$PYTHONHOME $PYTHONPATH $LC_ALL" "$@"\\n';
  fs.writeFileSync(join(root, "usr/bin/ansible-playbook"), "#! /usr/bin/python3\\n");
  fs.writeFileSync(join(root, "usr/bin/python3"), python, { mode: 0o755 });
  for (const folder of ["python3/dist-packages", "python3.11"]) {
    fs.mkdirSync(join(root, "usr/lib", folder), { recursive: true });
  }
  fs.writeFileSync(join(root, "usr/lib/python3.11/os.py"), "");
}`;

let folder: string;
let cache: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tidemark-fetch-"));
  cache = join(folder, "cache");
  mkdirSync(join(folder, "bin"));
  for (const [name, text] of [
    ["apt-get", APT],
    ["apt-cache", APT],
    ["dpkg-deb", DPKG],
  ] as const) {
    writeFileSync(join(folder, "bin", name), `#!${process.execPath}\n${text}`, { mode: 0o755 });
  }
  writeFileSync(join(folder, "log"), "");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function fetch(
  fake = "",
  ...args: readonly string[]
): { status: number | null; lines: string[]; apt: string[] } {
  const env = {
    PATH: join(folder, "bin"),
    TIDEMARK_GUESTS: cache,
    FAKE: fake,
    LOG: join(folder, "log"),
    IMAGES:
      "boot/vmlinuz-9 usr/lib/modules/7.2/vmlinuz bin/busybox " +
      "usr/lib/u-boot/qemu_arm64/u-boot.bin",
    COMMANDS: TOOLS.flatMap(({ commands, program }) => program ?? commands).join(" "),
  };
  const { status, stdout } = spawnSync(process.execPath, [FETCH, ...args], {
    env,
    encoding: "utf8",
  });
  const apt = readFileSync(env.LOG, "utf8").trim().split("\n");
  writeFileSync(env.LOG, "");
  return { status, lines: stdout.trim().split("\n"), apt };
}

describe("npm run guests:fetch", () => {
  it("fetches each package once, and never the C library", () => {
    const first = fetch();
    expect(first.lines.at(-1)).toBe("guests:fetch: every tool is here");
    expect(first.status).toBe(0);
    expect(first.apt.map((line) => line.split(" ").at(-1))).toEqual(PACKAGES);
    expect(readdirSync(cache).sort()).toEqual([...PACKAGES].sort());
    expect(PACKAGES.filter((name) => existsSync(join(cache, name, LOADER)))).toEqual([]);
    expect(fetch()).toEqual({ status: 0, lines: [first.lines.at(-1)], apt: [""] });
  });

  it("starts a program with its libraries and arguments", () => {
    fetch();
    const command = join(cache, "qemu-system-arm/run/qemu-system-aarch64");
    const run = (env: object) =>
      spawnSync(command, ["-M", "a b"], { env: { PATH: "", ...env }, encoding: "utf8" }).stdout;
    const libraries = `${cache}/qemu-system-arm/run/../root/usr/lib/x86_64-linux-gnu`;
    const args = `-L ${cache}/qemu-system-arm/run/../root/usr/share/qemu -M a b\n`;
    expect(run({})).toBe(`${libraries} ${args}`);
    expect(run({ LD_LIBRARY_PATH: "mine" })).toBe(`${libraries}:mine ${args}`);
  });

  it("starts a Python program with its modules, and the interpreter that came along", () => {
    expect(fetch("python").status).toBe(0);
    const command = join(cache, "ansible-core/run/ansible-playbook");
    const { stdout } = spawnSync(command, ["a b"], { env: { PATH: "" }, encoding: "utf8" });
    const root = `${cache}/ansible-core/run/../root/usr`;
    const modules = ["python3/dist-packages", "python3.11", "python3.11/lib-dynload"];
    const path = modules.map((name) => `${root}/lib/${name}`).join(":");
    expect(stdout).toBe(`${root} ${path} C.UTF-8 ${root}/bin/ansible-playbook a b\n`);
  });

  it("leaves alone what the system has", () => {
    writeFileSync(join(folder, "bin/dtc"), "#!/bin/sh\n", { mode: 0o755 });
    fetch();
    expect(readdirSync(cache)).not.toContain("device-tree-compiler");
  });

  it("reads lists of its own when the system's are stale", () => {
    const { status, apt } = fetch("stale");
    expect(status).toBe(0);
    expect(apt.filter((line) => line === "update")).toHaveLength(1);
    expect(readdirSync(cache).sort()).toEqual([...PACKAGES].sort());
  });

  it("gives up without a network, and names what is missing", () => {
    const { status, lines, apt } = fetch("offline");
    expect(status).toBe(1);
    expect(lines).toEqual([
      expect.stringMatching(/GIVEN UP: no package lists: E: Some index files failed; missing: /),
    ]);
    expect(lines[0]).toContain(PACKAGES.join(", "));
    expect(apt).toHaveLength(2);
    expect(readdirSync(cache)).toEqual([]);
  });

  it("goes on after a package that isn't there, or doesn't start", () => {
    const { status, lines } = fetch("no-qemu-user broken-gdb-multiarch");
    expect(status).toBe(1);
    const failed = lines.filter((line) => line.includes("NOT FETCHED"));
    expect(failed).toEqual([
      expect.stringContaining("qemu-user: E: Unable to locate package qemu-user"),
      expect.stringContaining("gdb-multiarch: it was unpacked, and doesn't start"),
    ]);
    expect(lines).toHaveLength(PACKAGES.length);
  });

  it("fetches guests where they are asked for, a kernel by its version", () => {
    const { status, lines, apt } = fetch("", "--guests");
    expect(lines.at(-1)).toBe("guests:fetch: every tool and guest is here");
    expect(status).toBe(0);
    const guests = GUESTS.map((row) => row.package);
    expect(readdirSync(cache).sort()).toEqual([...PACKAGES, ...WITH_GUESTS, ...guests].sort());
    const ofKernel = [
      "linux-binary-7.2.12+deb13-cloud-arm64",
      "linux-modules-7.2.12+deb13-cloud-arm64",
    ];
    expect(apt.filter((line) => line.startsWith("download"))).toEqual([
      "download linux-image-9-arm64",
      "download busybox-static",
      "download u-boot-qemu",
      `download ${ofKernel.join(" ")}`,
    ]);
    const archives = apt.filter((line) => line.startsWith("deb "));
    expect(archives.map((line) => line.split(" ").slice(-3).join(" "))).toEqual([
      "http://a.test/b trixie-backports main",
      "http://a.test/b trixie main",
      "http://a.test/b bookworm main",
      "http://a.test/b trixie-backports main",
    ]);
  });

  it("starts another suite's program by that suite's loader, with all its libraries", () => {
    expect(fetch("", "--guests").status).toBe(0);
    const place = join(cache, "qemu-system-arm-11");
    const command = join(place, "run/qemu-system-aarch64-11");
    const env = { PATH: "", LD_LIBRARY_PATH: "mine" };
    const { stdout } = spawnSync(command, ["-M", "a b"], { env, encoding: "utf8" });
    const root = `${place}/run/../root`;
    const libraries = `${root}/usr/lib/x86_64-linux-gnu`;
    expect(stdout).toBe(
      `${libraries}/qemu (mine) --library-path ${libraries} ${root}/usr/bin/qemu-system-aarch64 ` +
        `-L ${root}/usr/share/qemu -M a b\n`,
    );
    expect(existsSync(join(place, LOADER))).toBe(true);
  });

  it("finds a guest without its image, and one that the suite has no more", () => {
    const { status, lines } = fetch("no-images old-gone", "--guests");
    expect(status).toBe(1);
    expect(lines.slice(-2)).toEqual([
      "guests:fetch: NOT FETCHED: u-boot-qemu: it has no usr/lib/u-boot/qemu_arm64/u-boot.bin",
      "guests:fetch: NOT FETCHED: linux-binary-7.2-cloud-arm64: " +
        "trixie-backports has none of it any more",
    ]);
  });

  it("fetches no guests where apt knows no archive of Debian", () => {
    const { status, lines } = fetch("not-debian", "--guests");
    expect(status).toBe(1);
    expect(lines.at(-1)).toContain(
      "GIVEN UP: this machine's apt knows no Debian archive; missing:",
    );
  });

  it("says when there is no apt", () => {
    rmSync(join(folder, "bin/apt-get"));
    expect(fetch().lines[0]).toContain("GIVEN UP: no apt-get on this machine");
  });
});
