// Owns: nothing but the start of a VM's thread. VM thread.
import { workerData } from "node:worker_threads";
import { giveWay, giveWayUntil, NICE } from "../base/give-way.js";

// Guests that spin on every core, and the code that they need, must not keep requests waiting; nor
// may what isn't anybody's VM yet keep guests waiting.
if ("request" in workerData) giveWay(NICE.vm);
else giveWayUntil(NICE.spare, NICE.vm);
await import("./vm-start.js");
