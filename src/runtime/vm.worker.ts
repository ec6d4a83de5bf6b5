// Owns: nothing but the start of a VM's thread. VM thread.
import { createInstance, shareTier0 } from "../vmm/index.js";
import { runVmThread } from "./vm-loop.js";

runVmThread(createInstance, shareTier0);
