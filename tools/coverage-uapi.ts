// Owns: `npm run coverage:uapi`: every arm64 ioctl with its number, state and route. Own process.
import { IOCTLS, ioctlCode } from "../src/kvm/uapi/ioctl.table.js";

const HEAD = ["state", "fd", "code", "ioctl", "route"];

const rows = IOCTLS.map((row) => [
  row.state,
  row.fd,
  `0x${ioctlCode(row).toString(16).padStart(8, "0")}`,
  row.name,
  row.route ?? "-",
]);
const widths = HEAD.map((_, at) => Math.max(...[HEAD, ...rows].map((row) => row[at]!.length)));
const line = (row: readonly string[]): string =>
  row
    .map((cell, at) => cell.padEnd(widths[at]!))
    .join("  ")
    .trimEnd();

console.log(line(HEAD));
console.log(line(widths.map((width) => "-".repeat(width))));
for (const row of rows) console.log(line(row));

const counts = new Map<string, number>();
for (const { state } of IOCTLS) counts.set(state, (counts.get(state) ?? 0) + 1);
const text = [...counts].map(([state, count]) => `${count} ${state}`).join(", ");
console.log(`\n${IOCTLS.length} ioctls: ${text}`);
