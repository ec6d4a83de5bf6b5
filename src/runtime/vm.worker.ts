// Owns: nothing but the start of a VM's thread. VM thread.
import { parentPort, workerData } from "node:worker_threads";
import { giveWay, NICE } from "../base/give-way.js";

// Guests that spin on every core, and the code that they need, must not keep requests waiting.
giveWay(NICE.vm);
const [{ createInstance, shareTier0 }, { runVmThread }] = await Promise.all([
  import("../vmm/index.js"),
  import("./vm-loop.js"),
]);
if (!("request" in workerData)) {
  const { practise } = await import("./practice.js");
  shareTier0(workerData.tier0, (code) => parentPort?.postMessage({ kind: "tier0", code }));
  // A cold thread is a thread all the same: what went wrong goes wrong again, and is told then.
  await practise(createInstance).catch(() => {});
}
runVmThread(createInstance, shareTier0);
