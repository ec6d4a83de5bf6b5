// Owns: the Linux guests: their kernels, and the initramfs with busybox, `init`, `dirty` and the
// kernel's own virtio modules. Tool and test process.
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { guest, missingGuest } from "../debian.mjs";
import { cpio, type Entry } from "./cpio.js";

const SOURCES = fileURLToPath(new URL("../../test/guest/linux/", import.meta.url));
const BUSYBOX = "busybox-static";

/** Kernels of the table in debian.table.mjs. */
export const KERNELS = {
  "6.1": { package: "linux-image-cloud-arm64", modules: "lib/modules/*/kernel/drivers" },
  "7.2": {
    package: "linux-binary-7.2-cloud-arm64",
    modules: "usr/lib/modules/*/kernel/drivers",
  },
} as const;
export type KernelName = keyof typeof KERNELS;

/** In the order that they are loaded in; a kernel that has one built in has no file. */
const MODULES = [
  "virtio/virtio.ko*",
  "virtio/virtio_ring.ko*",
  "virtio/virtio_mmio.ko*",
  "block/virtio_blk.ko*",
  "char/hw_random/virtio-rng.ko*",
];

/** Commands that `init` calls by their names; a shell makes the rest. */
const COMMANDS = [
  ..."awk cat cttyhack find gunzip gzip head insmod md5sum mke2fs mount nproc poweroff seq".split(
    " ",
  ),
  ..."setsid sh sha256sum sleep sort true umount xzcat".split(" "),
];

const FOLDERS = ["bin", "dev", "mnt", "modules", "proc", "sys", "tmp"];

/** Options that cost a boot nothing that it is about. @source guest-payloads.md 6 */
export const TUNED = "console=ttyAMA0 quiet cryptomgr.notests rodata=off nokaslr kpti=off";

const bytesOf = (path: string) => Uint8Array.from(readFileSync(path));

/** The kernel's Image as a file, or null before it was fetched. */
export function kernelFile(name: KernelName): string | null {
  return guest(KERNELS[name].package);
}

/** Why there is no boot of this kernel here, or null where there can be one. */
export function missingLinux(name: KernelName): string | null {
  const lacking = [KERNELS[name].package, BUSYBOX].find((one) => guest(one) === null);
  return lacking === undefined ? null : missingGuest(lacking);
}

function modulesOf(name: KernelName): readonly Entry[] {
  const { package: from, modules } = KERNELS[name];
  const files = MODULES.map((path) => guest(from, `${modules}/${path}`)).filter(
    (file): file is string => file !== null,
  );
  return files.map((file, at) => ({
    path: `modules/${String(at).padStart(2, "0")}-${basename(file)}`,
    kind: "file",
    bytes: bytesOf(file),
    mode: 0o644,
  }));
}

/** @throws Error where a package is missing */
export function initramfs(name: KernelName): Uint8Array {
  const why = missingLinux(name);
  if (why !== null) throw new Error(why);
  const file = (path: string, from: string): Entry => ({
    path,
    kind: "file",
    bytes: bytesOf(from),
    mode: 0o755,
  });
  return cpio([
    ...FOLDERS.map((path): Entry => ({ path, kind: "folder" })),
    // The kernel opens it for init before anything is mounted.
    { path: "dev/console", kind: "device", major: 5, minor: 1 },
    file("init", `${SOURCES}init`),
    file("bin/busybox", guest(BUSYBOX) ?? ""),
    file("bin/dirty", `${SOURCES}dirty.bin`),
    ...COMMANDS.map((one): Entry => ({ path: `bin/${one}`, kind: "link", target: "busybox" })),
    ...modulesOf(name),
  ]);
}
