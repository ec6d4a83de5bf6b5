// Owns: the rules for changes of a VM: its record's version and labels, its board. HTTP thread.
import { ServiceError } from "../base/errors.js";
import type { CommandArgs, CommandName } from "../runtime/index.js";
import { LABELS_MAX } from "./limits.js";
import type { VmEntry } from "./vm-entry.js";

/** @throws ServiceError "precondition-failed" */
export function requireVersion(entry: VmEntry, ifMatch: number | null): void {
  const { version } = entry.record;
  if (ifMatch === null || ifMatch === version) return;
  throw new ServiceError(
    "precondition-failed",
    `The VM has version ${version}, not ${ifMatch}: read it again.`,
    { version },
  );
}

/** @throws ServiceError "validation" */
export function mergeLabels(
  labels: Readonly<Record<string, string>>,
  patch: Readonly<Record<string, string | null>>,
): Readonly<Record<string, string>> {
  const merged = new Map(Object.entries(labels));
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) merged.delete(name);
    else merged.set(name, value);
  }
  if (merged.size > LABELS_MAX) {
    const detail = `would be ${merged.size}; a VM has at most ${LABELS_MAX}`;
    const errors = [{ pointer: "/labels", detail }];
    throw new ServiceError("validation", `The labels ${detail}.`, { errors });
  }
  return Object.fromEntries(merged);
}

export function isSameLabels(
  a: Readonly<Record<string, string>>,
  b: Readonly<Record<string, string>>,
): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}

/** Whether a command lets a board's vCPUs run. */
export function isBoardStart<K extends CommandName>(name: K, args: CommandArgs<K>): boolean {
  return name === "boardAction" && "action" in args && ["start", "resume"].includes(args.action);
}
