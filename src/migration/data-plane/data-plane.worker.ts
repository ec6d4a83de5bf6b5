// Owns: nothing but the start of the data-plane thread. Data-plane thread.
import { parentPort } from "node:worker_threads";
import { assert } from "../../base/assert.js";
import { systemClock } from "../../base/clock.js";
import { giveWay, NICE } from "../../base/give-way.js";

giveWay(NICE.pages);
assert(parentPort !== null, "the data plane runs in a worker");
const { Plane } = await import("./plane.js");
new Plane(parentPort, systemClock);
