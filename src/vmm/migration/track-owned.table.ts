// Owns: which commands a VM refuses while the vmm owns its dirty log (DESIGN 10): those that would
// take what the vmm is to find, or change what it has borrowed. VM thread.
import type { Command, CommandArgs, CommandName } from "../commands.js";
import type { Tracking } from "./tracking.js";

/** KVM_CAP_* around dirty tracking. */
const CAPS: ReadonlySet<number> = new Set([168, 223, 225, 502, 503, 504]);
const SETTINGS: readonly string[] = [
  "clear.mode",
  "hacdbs.use",
  "hdbss.enableBy",
  "hdbss.sizeUnit",
];

const OWNED: {
  readonly [K in CommandName]?: (args: CommandArgs<K>) => boolean;
} = {
  getDirtyLog: () => true,
  harvestDirtyLog: () => true,
  clearDirtyLog: () => true,
  deferDirtyLogClear: () => true,
  resetDirtyRings: () => true,
  readDirtyRing: () => true,
  harvestDirtyRing: () => true,
  setDirtyRingFlags: () => true,
  logBoard: () => true,
  enableCap: ({ cap }) => CAPS.has(cap),
  changeDirty: ({ settings }) => SETTINGS.some((key) => Object.hasOwn(settings, key)),
};

/** @throws ServiceError "dirty-log-owned" */
export function refuseTracked(tracking: Tracking, { name, args }: Command): void {
  if (!tracking.isOwner) return;
  const owned = OWNED[name] as ((args: unknown) => boolean) | undefined;
  if (owned?.(args) === true) throw tracking.refusal(`${name} has to wait`);
}
