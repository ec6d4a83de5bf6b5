// Owns: the same Linux guest on a QEMU that has a GICv5, typed to as ours is. Tool and test
// process; starts one child and ends it.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { missing, program, programVersion } from "../debian.mjs";
import { type BootSpec, cmdlineOf, DISK_BYTES, LIMIT_MS, MEMORY_MIB, PROMPT } from "./boot.js";
import { initramfs, kernelFile } from "./initramfs.js";

const QEMU = "qemu-system-aarch64-11";

/** Why there is no reference here, or null where there is one. */
export function missingReference(): string | null {
  return programVersion(QEMU) === null ? missing(QEMU) : null;
}

function argumentsFor(spec: BootSpec, folder: string): readonly string[] {
  const { kernel, gic, smp, disk = false } = spec;
  const drive = ["-drive", `file=${join(folder, "disk")},format=raw,if=none,id=disk`];
  return [
    ...["-M", `virt,gic-version=${gic === 5 ? "x-5" : gic}`, "-cpu", "max", "-accel", "tcg"],
    ...["-smp", String(smp), "-m", String(spec.memoryMiB ?? MEMORY_MIB)],
    ..."-nodefaults -display none -serial stdio".split(" "),
    ...["-kernel", kernelFile(kernel) ?? "", "-initrd", join(folder, "initramfs")],
    ...["-append", cmdlineOf(spec)],
    ...(disk ? [...drive, "-device", "virtio-blk-device,drive=disk"] : []),
  ];
}

/**
 * Boots it, types a line at each prompt, and waits until it has powered itself off.
 * @returns its console
 * @throws Error where it doesn't get there
 */
export async function bootReference(
  spec: BootSpec,
  typed: readonly string[],
  limitMs = LIMIT_MS,
): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-reference-"));
  try {
    writeFileSync(join(folder, "initramfs"), initramfs(spec.kernel));
    if (spec.disk === true) writeFileSync(join(folder, "disk"), new Uint8Array(DISK_BYTES));
    return await run(argumentsFor(spec, folder), typed, limitMs);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function run(
  args: readonly string[],
  typed: readonly string[],
  limitMs: number,
): Promise<string> {
  const child = spawn(program(QEMU), args, { stdio: ["pipe", "pipe", "pipe"] });
  const limit = setTimeout(() => child.kill("SIGKILL"), limitMs);
  let [console, prompts] = ["", 0];
  child.stdout.on("data", (bytes: Buffer) => {
    console += bytes.toString("latin1");
    while (console.split(PROMPT).length - 1 > prompts) {
      const line = typed[prompts++];
      if (line !== undefined) child.stdin.write(`${line}\n`);
    }
  });
  let complaints = "";
  child.stderr.on("data", (bytes: Buffer) => {
    complaints += bytes.toString("latin1");
  });
  // It may be gone before it has read everything.
  child.stdin.on("error", () => {});
  try {
    await new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("close", resolve);
    });
  } finally {
    clearTimeout(limit);
  }
  if (console.includes("reboot: Power down")) return console;
  throw new Error(`QEMU ended early: ${complaints}${console.split("\n").slice(-20).join("\n")}`);
}
