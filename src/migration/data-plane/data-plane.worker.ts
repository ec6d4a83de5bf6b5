// Owns: nothing but the start of the data-plane thread. Data-plane thread.
import { parentPort } from "node:worker_threads";
import { assert } from "../../base/assert.js";
import { systemClock } from "../../base/clock.js";
import { Plane } from "./plane.js";

assert(parentPort !== null, "the data plane runs in a worker");
new Plane(parentPort, systemClock);
