// Owns: nothing but the start of a VM's thread. VM thread.
import { giveWay, NICE } from "../base/give-way.js";

// Guests that spin on every core, and the code that they need, must not keep requests waiting.
giveWay(NICE.vm);
await import("./vm-start.js");
