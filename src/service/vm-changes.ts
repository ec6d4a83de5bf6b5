// Owns: the rules for changes of a VM: its record's version and labels, its board,
// its settings of dirty tracking. HTTP thread.
import { ServiceError } from "../base/errors.js";
import { defaultOf } from "../base/settings.js";
import {
  type CommandArgs,
  type CommandName,
  DIRTY_SETTINGS,
  type DirtyView,
  type VmDefinition,
  type VmHandle,
} from "../runtime/index.js";
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

/** The board's power switch; a VM without one has none. */
export async function switchOn(definition: VmDefinition, handle: VmHandle): Promise<void> {
  if (definition.board !== undefined) await handle.call("boardAction", { action: "start" });
}

/**
 * A definition whose settings of dirty tracking are those in force: what is no default, and what
 * the definition named before.
 * @returns the same object where nothing is different
 */
export function withDirty(definition: VmDefinition, view: DirtyView): VmDefinition {
  const given = definition.dirty?.settings ?? {};
  const settings = Object.fromEntries(
    Object.entries(view.settings).filter(([key, value]) => {
      const row = DIRTY_SETTINGS[key];
      return Object.hasOwn(given, key) || (row !== undefined && value !== defaultOf(row));
    }),
  );
  const bugs = definition.dirty?.seedBugs ?? [];
  const isSame =
    Object.keys(settings).every((key) => given[key] === settings[key]) &&
    bugs.length === view.seedBugs.length &&
    bugs.every((bug) => view.seedBugs.includes(bug));
  return isSame ? definition : { ...definition, dirty: { settings, seedBugs: view.seedBugs } };
}
