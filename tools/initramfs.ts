// Owns: `npm run initramfs -- FILE [--kernel 6.1|7.2]`: writes the initramfs of the Linux guests,
// and says where the kernel that goes with it is. Own process.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { initramfs, KERNELS, type KernelName, kernelFile, TUNED } from "./linux/initramfs.js";

const { values, positionals } = parseArgs({
  options: { kernel: { type: "string", default: "6.1" } },
  allowPositionals: true,
});
const [file] = positionals;
const isKnown = (name: string): name is KernelName => name in KERNELS;
try {
  if (file === undefined || positionals.length > 1) throw new Error("it takes one file");
  const { kernel } = values;
  if (!isKnown(kernel)) throw new Error(`--kernel is ${Object.keys(KERNELS).join(" or ")}`);
  const bytes = initramfs(kernel);
  writeFileSync(file, bytes);
  console.log(`${file}: ${bytes.length} bytes\nkernel: ${kernelFile(kernel)}\noptions: ${TUNED}`);
} catch (error) {
  console.error(`initramfs: ${(error as Error).message}`);
  process.exitCode = 1;
}
