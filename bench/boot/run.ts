// Owns: `npm run bench:boot`: Debian's Linux from its start to the banner on Tidemark, in the wall
// clock over HTTP, against QEMU's TCG with the same kernel, initramfs, command line and device
// tree; interleaved rounds, a table.
//   --kernel 6.1  6.1 or 7.2
//   --gic 3       2 or 3
//   --smp 1,2,4   numbers of vCPUs
//   --rounds N    3
//   --ours        without QEMU
//   --json FILE   the figures as JSON
//   --strict      exit 1 when the bar of one vCPU is missed
// Our time starts with the request that creates the VM; its images are on the host by then.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Client } from "../../dist/cli/client.js";
import { startReal } from "../../test/support/real-service.js";
import { missing, programVersion } from "../../tools/debian.mjs";
import { type BootSpec, bootLinux, createLinux, MEMORY_MIB } from "../../tools/linux/boot.js";
import {
  initramfs,
  KERNELS,
  type KernelName,
  kernelFile,
  missingLinux,
  TUNED,
} from "../../tools/linux/initramfs.js";
import { median } from "../support/measure.js";
import { cpuMs } from "./cpu.js";
import { bootOnQemu, QEMU, type Times } from "./qemu.js";

const { values: options } = parseArgs({
  options: {
    kernel: { type: "string", default: "6.1" },
    gic: { type: "string", default: "3" },
    smp: { type: "string", default: "1,2,4" },
    rounds: { type: "string", default: "3" },
    ours: { type: "boolean", default: false },
    json: { type: "string" },
    strict: { type: "boolean", default: false },
  },
});

/** Our time over QEMU's, of one vCPU, at most. */
const BAR = 2;
/** Of a device tree: its size is its second word, big-endian. @source Devicetree 0.4, 5.2 */
const SIZE_AT = 4;
/** It ends by itself after the banner. */
const WORDS = "g.none";

interface Row {
  readonly smp: number;
  readonly ours: readonly Times[];
  readonly qemu: readonly Times[];
}

function kernelNamed(name: string): KernelName {
  if (!(name in KERNELS)) throw new Error(`--kernel is ${Object.keys(KERNELS).join(" or ")}`);
  return name as KernelName;
}

/** The tree as the board laid it out for its guest. */
async function deviceTree(client: Client, vm: string): Promise<Uint8Array> {
  const { dtb } = await client.call("getBoard", { vm });
  if (dtb === null) throw new Error("the board has no device tree");
  const read = async (length: number) => {
    const query = { gpa: dtb, length: String(length) };
    return (await client.answer("readPhysicalMemory", { vm }, query)).bytes;
  };
  const head = await read(2 * SIZE_AT);
  return read(new DataView(head.buffer, head.byteOffset).getUint32(SIZE_AT));
}

async function bootOnOurs(client: Client, spec: BootSpec, pid: number): Promise<Times> {
  const vm = await createLinux(client, spec); // its images, so that they are there below
  await client.call("deleteVm", { vm });
  const [start, cpuBefore] = [performance.now(), cpuMs(pid)];
  const again = await createLinux(client, spec, { upload: false });
  const created = performance.now() - start;
  const { bannerMs, totalMs } = await bootLinux(client, again);
  const cpu = cpuMs(pid) - cpuBefore;
  await client.call("deleteVm", { vm: again });
  return { bannerMs: created + bannerMs, totalMs: created + totalMs, cpuMs: cpu };
}

/** Both sides of one number of vCPUs. */
function sidesOf(client: Client, spec: BootSpec, folder: string, pid: number) {
  const initrd = join(folder, "initrd");
  const dtb = join(folder, `smp${spec.smp}.dtb`);
  const kernel = kernelFile(spec.kernel) ?? "";
  const { gic, smp } = spec;
  const cmdline = `${TUNED} ${WORDS}`;
  return {
    prepare: async () => {
      writeFileSync(initrd, initramfs(spec.kernel));
      const vm = await createLinux(client, spec);
      writeFileSync(dtb, await deviceTree(client, vm));
      await client.call("deleteVm", { vm });
    },
    ours: () => bootOnOurs(client, spec, pid),
    qemu: () => bootOnQemu({ kernel, initrd, dtb, cmdline, gic, smp, memoryMiB: MEMORY_MIB }),
  };
}

async function measure(client: Client, spec: BootSpec, folder: string, pid: number): Promise<Row> {
  const sides = sidesOf(client, spec, folder, pid);
  await sides.prepare();
  const [ours, qemu]: [Times[], Times[]] = [[], []];
  for (let at = 0; at < Number(options.rounds); at++) {
    console.error(`bench:boot: ${spec.smp} vCPUs, round ${at + 1} of ${options.rounds}`);
    if (at % 2 === 0) ours.push(await sides.ours());
    if (!options.ours) qemu.push(await sides.qemu());
    if (at % 2 === 1) ours.push(await sides.ours());
  }
  return { smp: spec.smp, ours, qemu };
}

const cpuOf = (times: readonly Times[]) => median(times.map(({ cpuMs: ms }) => ms));
const bannerOf = (times: readonly Times[]) => median(times.map(({ bannerMs }) => bannerMs));
const seconds = (ms: number) => (ms / 1000).toFixed(2).padStart(8);

/** Of the same round, then the median. */
function ratioOf({ ours, qemu }: Row): number {
  return median(ours.map(({ bannerMs }, at) => bannerMs / (qemu[at]?.bannerMs ?? Number.NaN)));
}

function tableOf(rows: readonly Row[]): string {
  const [first] = rows;
  const line = (row: Row) => {
    const growth = (side: "ours" | "qemu") =>
      (bannerOf(row[side]) / bannerOf(first?.[side] ?? [])).toFixed(2).padStart(7);
    const times = `${seconds(bannerOf(row.ours))}  ${seconds(bannerOf(row.qemu))}`;
    const ratio = ratioOf(row).toFixed(2).padStart(6);
    const smp = String(row.smp).padStart(5);
    const [ours, qemu] = [cpuOf(row.ours), cpuOf(row.qemu)];
    const cpu = `${seconds(ours)}  ${seconds(qemu)}  ${(ours / qemu).toFixed(2).padStart(6)}`;
    return [smp, times, ratio, growth("ours"), growth("qemu"), cpu].join("  ");
  };
  const head = "vCPUs  ours (s)  QEMU (s)   ratio   growth   QEMU's   CPU (s)  QEMU (s)   ratio";
  return [head, ...rows.map(line)].join("\n");
}

async function main(): Promise<void> {
  const kernel = kernelNamed(options.kernel);
  const gic = options.gic === "2" ? 2 : 3;
  const version = options.ours ? "no QEMU" : programVersion(QEMU);
  const why = missingLinux(kernel) ?? (version === null ? missing(QEMU) : null);
  if (why !== null) throw new Error(why);
  console.error(`bench:boot: ${version}; load ${loadavg()[0]?.toFixed(1)}`);
  const folder = mkdtempSync(join(tmpdir(), "tidemark-boot-"));
  const service = await startReal({ dataDir: join(folder, "data") });
  try {
    const client = new Client(service.origin, null);
    const rows: Row[] = [];
    for (const smp of options.smp.split(",").map(Number)) {
      const spec: BootSpec = { kernel, gic, smp, clock: "wall", words: WORDS };
      rows.push(await measure(client, spec, folder, service.pid));
    }
    console.log(tableOf(rows));
    if (options.json !== undefined) {
      const machine = { cpus: availableParallelism(), node: process.version, qemu: version };
      writeFileSync(options.json, JSON.stringify({ machine, kernel, gic, rows }, null, 1));
    }
    const alone = rows.find(({ smp }) => smp === 1);
    if (options.strict && alone !== undefined && ratioOf(alone) > BAR) process.exitCode = 1;
  } finally {
    await service.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

await main();
