// Owns: a VM thread over the fake instance and the compiled loop. VM thread.
import { KvmError } from "../../dist/base/errors.js";
import { runVmThread } from "../../dist/runtime/vm-loop.js";
import { fakeFactory } from "./fake-instance.mjs";

runVmThread(fakeFactory({ KvmError }));
