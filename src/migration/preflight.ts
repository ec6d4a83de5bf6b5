// Owns: whether a migration can be done as asked, before anything is touched. Any thread.
import type { TrackingCommands } from "../runtime/index.js";
import type { MigrationParameters } from "./types.js";

type TrackingView = TrackingCommands["describeTracking"][1];

/** What of the engine's surroundings decides. */
export interface Abilities {
  /** vCPUs can wait for a page that hasn't come. */
  readonly supportsPostcopy: boolean;
}

function whyNoTracking(parameters: MigrationParameters, view: TrackingView): readonly string[] {
  const { strategy, tracking } = parameters;
  // A VM that is held before its first page goes needs nobody to notice its stores.
  if (strategy === "stop-and-copy" || strategy === "post-copy") return [];
  if (view.owner === "client") {
    return ["The client logs dirty pages of this VM itself: turn its slots' logging off first."];
  }
  if (tracking === "auto") {
    if (view.methods.some(({ whyNot }) => whyNot === null)) return [];
    return ["No way to track dirty pages is available for this VM; stop-and-copy needs none."];
  }
  const method = view.methods.find((row) => row.method === tracking);
  if (method === undefined) return [`This host knows no tracking method ${tracking}.`];
  return method.whyNot === null ? [] : [`Tracking by ${tracking}: ${method.whyNot}`];
}

/** Why the VM can't run before its last page has come; null: it can. */
export function whyNoPostcopy(
  { verify }: MigrationParameters,
  { supportsPostcopy }: Abilities,
): string | null {
  if (!supportsPostcopy) return "This host's vCPUs can't wait for pages: there is no post-copy.";
  if (!verify) return null;
  return "All memory can't be verified before the VM runs: post-copy is without verify.";
}

/** @returns a sentence for each reason; none: it can be done */
export function whyNot(
  parameters: MigrationParameters,
  view: TrackingView,
  abilities: Abilities,
): readonly string[] {
  const { strategy, onTimeout, timeoutMs, throttleInitial, throttleMax } = parameters;
  const reasons: string[] = [];
  const isWanted = strategy === "post-copy" || strategy === "hybrid";
  const why = whyNoPostcopy(parameters, abilities);
  if (why !== null && (isWanted || (timeoutMs > 0 && onTimeout === "postcopy"))) reasons.push(why);
  if (throttleInitial > throttleMax) {
    reasons.push("throttleInitial must not be above throttleMax.");
  }
  return [...reasons, ...whyNoTracking(parameters, view)];
}
