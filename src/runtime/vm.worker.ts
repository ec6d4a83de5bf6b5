// Owns: nothing but the start of a VM's thread. VM thread.
import { createInstance } from "../vmm/index.js";
import { runVmThread } from "./vm-loop.js";

runVmThread(createInstance);
