// Owns: every setting of dirty tracking under one roof, hardware's and KVM's, and the checks of
// what a client asks for. Data and pure functions; any thread.
import { type SettingRow, type SettingValue, whyNot } from "../base/settings.js";
import { POLICIES, SEED_BUGS } from "../kvm/index.js";
import { DIAGNOSTICS, DIRTY_MODEL, FAULT_KINDS } from "../machine/index.js";
import type { DirtyDefinition } from "./definition.js";

/** Key → row; the keys of hardware's choices begin with "hardware.". */
export const DIRTY_SETTINGS: Readonly<Record<string, SettingRow>> = { ...DIRTY_MODEL, ...POLICIES };

/** Seed defect → what goes wrong with it, and the test that shows it. */
export const DIRTY_DEFECTS: Readonly<
  Record<string, { readonly says: string; readonly test: string | null }>
> = SEED_BUGS;

/** Kind of fault that can be armed → what goes wrong. */
export const DIRTY_FAULTS: Readonly<Record<string, string>> = FAULT_KINDS;

/** Mistake of software that the machine reports → what software did. */
export const DIRTY_DIAGNOSTICS: Readonly<Record<string, string>> = DIAGNOSTICS;

/** @returns one clause that names the key and what it may be, or null */
export function whyNotSetting(key: string, value: SettingValue): string | null {
  const row = Object.hasOwn(DIRTY_SETTINGS, key) ? DIRTY_SETTINGS[key] : undefined;
  if (row === undefined) return `${key} is not a setting of dirty tracking`;
  const why = whyNot(row, value);
  return why === null ? null : `${key} ${why}`;
}

/** @returns what is wrong with a definition's settings and defects, or null */
export function whyNotDirty({ settings, seedBugs }: DirtyDefinition): string | null {
  for (const [key, value] of Object.entries(settings)) {
    const why = whyNotSetting(key, value);
    if (why !== null) return why;
  }
  const unknown = seedBugs.find((bug) => !Object.hasOwn(DIRTY_DEFECTS, bug));
  if (unknown === undefined) return null;
  return `${unknown} must be one of ${Object.keys(DIRTY_DEFECTS).join(", ")}`;
}
