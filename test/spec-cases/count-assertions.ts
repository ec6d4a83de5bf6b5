// Owns: how many assertions a test has made, told with its result: one without any proves nothing.
// Test process, as a setup file.
import { afterEach, expect } from "vitest";

declare module "vitest" {
  interface TaskMeta {
    assertions?: number;
  }
}

afterEach(({ task }) => {
  task.meta.assertions = expect.getState().assertionCalls;
});
