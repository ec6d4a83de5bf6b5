// Owns: that compiled code stays. V8 throws away the bytecode of functions that haven't run for a
// while; what a migration's pause runs would then be compiled anew while a guest waits, since
// migrations are rare. All threads, by being imported before they start.
import { setFlagsFromString } from "node:v8";

setFlagsFromString("--no-flush-bytecode");
