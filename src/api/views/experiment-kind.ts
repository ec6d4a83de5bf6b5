// Owns: which of the two kinds of experiment it is. HTTP thread.
import type { ExperimentResults, InterruptResults } from "../services.js";

export function isOfInterrupts(results: ExperimentResults): results is InterruptResults {
  return results.workload.kind === "interrupts";
}
