// Owns: checks of the ioctl table: numbers against the blessed list and the machine's own header,
// routes against the document. Test process.
import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { IOCTLS, ioctlCode } from "../../src/kvm/uapi/ioctl.table.js";
import { IOCTL_CODES } from "./ioctl-codes.table.js";
import { read } from "./tree.js";

const hex = (code: number): string => `0x${code.toString(16).padStart(8, "0")}`;
const DIRECTIONS: Readonly<Record<string, string>> = { "": "", R: "R", W: "W", WR: "RW" };

/** `NAME` → direction and number from `#define KVM_NAME _IOW(KVMIO, 0x46, …`. */
function headerNumbers(text: string): Map<string, string> {
  const defines = text.matchAll(/#define\s+(KVM_\w+)\s+_IO(R|W|WR|)\(KVMIO,\s*(0x[0-9a-f]+)/g);
  return new Map([...defines].map((m) => [m[1]!, `${DIRECTIONS[m[2]!]} ${Number(m[3])}`]));
}

describe("ioctl table", () => {
  it("has the blessed numbers, each once", () => {
    const lines = IOCTLS.map((row) => `["${row.fd}", "${row.name}", ${hex(ioctlCode(row))}],`);
    const blessed = IOCTL_CODES.map(([fd, name, code]) => `["${fd}", "${name}", ${hex(code)}],`);
    // A difference prints the lines to paste.
    expect([...lines].sort()).toEqual([...blessed].sort());
    expect(new Set(lines).size).toBe(lines.length);
  });

  it("agrees with a uapi header in direction and number", () => {
    // Debian's header is for another architecture; names, directions and numbers are shared.
    const header = "/usr/include/linux/kvm.h";
    const own = "#define KVM_SET_USER_MEMORY_REGION _IOW(KVMIO, 0x46, \\\n struct x)\n";
    const known = headerNumbers(existsSync(header) ? readFileSync(header, "utf8") : own);
    expect(known.get("KVM_SET_USER_MEMORY_REGION")).toBe(`W ${0x46}`);
    const wrong = IOCTLS.filter((row) => known.has(row.name)).filter(
      (row) => known.get(row.name) !== `${row.dir} ${row.nr}`,
    );
    expect(wrong.map(({ name }) => name)).toEqual([]);
  });

  it("leads to routes of the document", () => {
    const { paths } = JSON.parse(read("openapi/openapi.json")) as {
      paths: Record<string, Record<string, unknown>>;
    };
    const shape = (path: string): string => path.replace(/\{\w+\}/g, "{}");
    const known = new Set(
      Object.entries(paths).flatMap(([path, operations]) =>
        Object.keys(operations).map((method) => `${method.toUpperCase()} ${shape(path)}`),
      ),
    );
    // Fastify answers HEAD wherever it answers GET.
    for (const one of [...known]) known.add(one.replace(/^GET /, "HEAD "));
    const lost = IOCTLS.filter(({ route }) => route !== null && !known.has(shape(route)));
    expect(lost.map(({ name, route }) => `${name}: ${route}`)).toEqual([]);
  });
});
