// Goal: the initramfs is what the kernel's format says, the same every time; `dirty` finds a page
// that lost its stamp.
// Method: an archive read back by a reader of our own; the program under qemu-aarch64, as it is and
// with its store to memory taken out.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { missing, program, programVersion } from "../../../tools/debian.mjs";
import { cpio } from "../../../tools/linux/cpio.js";
import { initramfs, missingLinux } from "../../../tools/linux/initramfs.js";

const DIRTY = fileURLToPath(new URL("dirty.bin", import.meta.url));
const QEMU = "qemu-aarch64";

interface Member {
  readonly path: string;
  readonly mode: number;
  readonly device: readonly [number, number];
  readonly content: Buffer;
}

/** @source kernel: Documentation/driver-api/early-userspace/buffer-format.rst */
function membersOf(archive: Uint8Array): readonly Member[] {
  const bytes = Buffer.from(archive);
  const members: Member[] = [];
  for (let at = 0; ; ) {
    expect([at % 4, bytes.toString("latin1", at, at + 6)]).toEqual([0, "070701"]);
    const field = (n: number) =>
      Number.parseInt(bytes.toString("latin1", at + 6 + 8 * n, at + 14 + 8 * n), 16);
    const name = at + 110;
    const content = (name + field(11) + 3) & ~3;
    const end = content + field(6);
    const path = bytes.toString("utf8", name, name + field(11) - 1);
    if (path === "TRAILER!!!") return members;
    expect([field(2), field(3), field(5), field(12)]).toEqual([0, 0, 0, 0]);
    members.push({
      path,
      mode: field(1),
      device: [field(9), field(10)],
      content: bytes.subarray(content, end),
    });
    at = (end + 3) & ~3;
  }
}

describe("cpio", () => {
  it("writes what a reader of the format finds", () => {
    const bytes = new TextEncoder().encode("hello");
    const archive = cpio([
      { path: "dev", kind: "folder" },
      { path: "dev/console", kind: "device", major: 5, minor: 1 },
      { path: "init", kind: "file", bytes, mode: 0o755 },
      { path: "sh", kind: "link", target: "init" },
    ]);
    expect(archive.length % 512).toBe(0);
    const found = membersOf(archive).map(({ path, mode, device, content }) => {
      return [path, mode.toString(8), ...device, content.toString()];
    });
    expect(found).toEqual([
      ["dev", "40755", 0, 0, ""],
      ["dev/console", "20600", 5, 1, ""],
      ["init", "100755", 0, 0, "hello"],
      ["sh", "120777", 0, 0, "init"],
    ]);
  });
});

describe("the initramfs", () => {
  const why = missingLinux("6.1");
  if (why !== null) {
    it("is not made", (context) => context.skip(why));
    return;
  }
  it("has what init needs, and is the same every time", () => {
    const archive = initramfs("6.1");
    expect(Buffer.from(initramfs("6.1")).equals(archive)).toBe(true);
    const members = new Map(membersOf(archive).map((member) => [member.path, member]));
    expect([...members.keys()]).toContain("modules/03-virtio_blk.ko");
    expect(members.get("bin/dirty")?.content.equals(readFileSync(DIRTY))).toBe(true);
    expect(members.get("bin/sh")?.content.toString()).toBe("busybox");
    expect(members.get("init")?.mode).toBe(0o100755);
  });
});

describe("dirty", () => {
  if (programVersion(QEMU) === null) {
    it("is not run", (context) => context.skip(missing(QEMU)));
    return;
  }
  const run = (file: string, ...args: readonly string[]) => {
    const { status, stdout } = spawnSync(program(QEMU), [file, ...args], { encoding: "utf8" });
    return { status, stdout };
  };

  it("writes at its rate and says so every second", () => {
    const { status, stdout } = run(DIRTY, "1", "1000", "2");
    const lines = [...stdout.matchAll(/^dirty t=(\d+) writes=(\d+) bad=0$/gm)];
    expect([status, lines.length, lines[1]?.[1]]).toEqual([0, 2, "2"]);
    const writes = Number(lines[1]?.[2]);
    expect(writes).toBeGreaterThan(1000);
    expect(writes).toBeLessThanOrEqual(2100);
  });

  it("finds pages without the stamp that it left", () => {
    const folder = mkdtempSync(join(tmpdir(), "tidemark-dirty-"));
    try {
      const bytes = readFileSync(DIRTY);
      const store = Buffer.from([0x4e, 0x3d, 0x00, 0xa9]); // stp x14, x15, [x10]
      const at = bytes.indexOf(store);
      expect([at > 0, bytes.indexOf(store, at + 1)]).toEqual([true, -1]);
      bytes.writeUInt32LE(0xd503_201f, at); // nop
      const file = join(folder, "dirty");
      writeFileSync(file, bytes, { mode: 0o755 });
      const { status, stdout } = run(file, "1", "0", "1");
      expect(status).toBe(1);
      expect(Number(/bad=(\d+)/.exec(stdout)?.[1])).toBeGreaterThan(0);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it("says how it is called", () => {
    expect(run(DIRTY, "1")).toEqual({ status: 2, stdout: "" });
  });
});
