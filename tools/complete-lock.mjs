// Owns: package-lock.json stays whole on registries that lack some platform packages. Run by hand.
// `npm install` leaves an optional package out of the lock when the registry does not have it, and
// `npm ci` then refuses the lock as out of step. This adds such entries from their names: enough
// for npm to see that they belong to another platform, or to fetch them where they do exist.
import { readFileSync, writeFileSync } from "node:fs";
import { URL } from "node:url";

const OS = ["android", "darwin", "freebsd", "linux", "openharmony", "win32"];
const CPU = ["arm64", "arm", "x64", "ia32", "ppc64", "riscv64", "s390x"];

/** @returns the lock entry of a platform package, or undefined when its name names no platform. */
export function platformEntry(name, version, dev) {
  const words = name.split("/").at(-1).split("-");
  const os = OS.find((word) => words.includes(word));
  const cpu = CPU.find((word) => words.includes(word));
  if (os === undefined || cpu === undefined) return undefined;
  const musl = words.some((word) => word.startsWith("musl"));
  const libc = os === "linux" ? { libc: [musl ? "musl" : "glibc"] } : {};
  return { version, cpu: [cpu], ...(dev ? { dev } : {}), ...libc, optional: true, os: [os] };
}

/** @returns [lock path, name, version range, dev] of each optional dependency without an entry. */
export function missingOptionals(packages) {
  const missing = [];
  for (const [path, entry] of Object.entries(packages)) {
    for (const [name, range] of Object.entries(entry.optionalDependencies ?? {})) {
      const nested = `${path}/node_modules/${name}`;
      if (packages[nested] === undefined && packages[`node_modules/${name}`] === undefined) {
        missing.push([`node_modules/${name}`, name, range, entry.dev === true]);
      }
    }
  }
  return missing;
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const file = new URL("../package-lock.json", import.meta.url);
  const lock = JSON.parse(readFileSync(file, "utf8"));
  for (const [path, name, range, dev] of missingOptionals(lock.packages)) {
    const entry = platformEntry(name, range, dev);
    if (entry === undefined) throw new Error(`${name} is missing and its name tells no platform`);
    lock.packages[path] = entry;
    console.log(`added ${name}@${range}`);
  }
  const sorted = Object.entries(lock.packages).sort(([a], [b]) => a.localeCompare(b, "en"));
  lock.packages = Object.fromEntries(sorted);
  writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
}
