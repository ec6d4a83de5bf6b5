// Owns: a boot of a Linux guest on qemu-system-aarch64 under TCG, timed. Bench process; starts one
// child and ends it.
import { spawn } from "node:child_process";
import { program } from "../../tools/debian.mjs";
import { cpuMs } from "./cpu.js";

export const QEMU = "qemu-system-aarch64";

export interface QemuBoot {
  readonly kernel: string;
  readonly initrd: string;
  readonly dtb: string;
  readonly cmdline: string;
  readonly gic: 2 | 3 | 5;
  readonly smp: number;
  readonly memoryMiB: number;
}

export interface Times {
  /** From the first request or the process's start to the banner, and to power-off. */
  readonly bannerMs: number;
  readonly totalMs: number;
  /** Of all threads, from the start to power-off. */
  readonly cpuMs: number;
}

const LIMIT_MS = 120_000;

function argumentsFor(boot: QemuBoot): readonly string[] {
  return [
    ...[
      "-M",
      `virt,gic-version=${boot.gic === 5 ? "x-5" : boot.gic}`,
      "-cpu",
      "cortex-a53",
      "-accel",
      "tcg",
    ],
    ...["-smp", String(boot.smp), "-m", String(boot.memoryMiB)],
    ..."-nodefaults -display none -serial stdio".split(" "),
    ...["-kernel", boot.kernel, "-initrd", boot.initrd, "-dtb", boot.dtb],
    ...["-append", boot.cmdline],
  ];
}

/** @throws Error where QEMU or the guest fails */
export async function bootOnQemu(boot: QemuBoot): Promise<Times> {
  const start = performance.now();
  const child = spawn(program(QEMU), argumentsFor(boot), { stdio: ["ignore", "pipe", "pipe"] });
  const limit = setTimeout(() => child.kill("SIGKILL"), LIMIT_MS);
  let [said, bannerMs, cpu] = ["", Number.NaN, Number.NaN];
  child.stdout.on("data", (bytes: Buffer) => {
    said += bytes.toString("latin1");
    if (Number.isNaN(bannerMs) && said.includes("GUEST-BANNER")) {
      bannerMs = performance.now() - start;
    }
    // The last time that it can be asked is when it speaks last.
    const now = cpuMs(child.pid ?? 0);
    if (!Number.isNaN(now)) cpu = now;
  });
  child.stderr.on("data", (bytes: Buffer) => {
    said += bytes.toString("latin1");
  });
  try {
    await new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("close", resolve);
    });
  } finally {
    clearTimeout(limit);
  }
  if (!said.includes("reboot: Power down")) throw new Error(`QEMU ended early: ${said}`);
  return { bannerMs, totalMs: performance.now() - start, cpuMs: cpu };
}
