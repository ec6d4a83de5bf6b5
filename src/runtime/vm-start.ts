// Owns: all that a VM's thread is made of: the build makes one file of it (tools/bundle.mjs),
// because modules loaded one by one would take most of a start. VM thread.
import { parentPort, workerData } from "node:worker_threads";
import { createInstance, shareTier0 } from "../vmm/index.js";
import { practise } from "./practice.js";
import { runVmThread } from "./vm-loop.js";

if (!("request" in workerData)) {
  shareTier0(workerData.tier0, (code) => parentPort?.postMessage({ kind: "tier0", code }));
  // A cold thread is a thread all the same: what went wrong goes wrong again, and is told then.
  await practise(createInstance).catch(() => {});
}
runVmThread(createInstance, shareTier0);
