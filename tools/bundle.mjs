// Owns: the code of a VM's thread as one file. A thread that loads its 430 modules one by one needs
// 400 ms of processor time for it, and 160 ms with one; what else starts VMs waits meanwhile.
// Own process.
import { join } from "node:path";
import { buildSync, context } from "esbuild";

/** In place of what the compiler makes of the same source, which would work as well. */
const options = (root) => ({
  absWorkingDir: root,
  entryPoints: ["src/runtime/vm-start.ts"],
  outfile: join("dist", "runtime", "vm-start.js"),
  allowOverwrite: true,
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20",
  sourcemap: true,
  sourcesContent: false,
  minifySyntax: true,
  minifyWhitespace: true,
  // The output is as large as it is meant to be.
  logLevel: "error",
});

export function bundleThread(root) {
  buildSync(options(root));
}

/** Again whenever a source changes. @returns a function that ends it */
export async function watchThread(root) {
  const watching = await context(options(root));
  await watching.watch();
  return () => watching.dispose();
}
