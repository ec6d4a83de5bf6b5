// Owns: how the service words what became of a VM, in its record and its events. HTTP thread.
import type { VmRecord } from "../store/index.js";

const GONE = "Guest memory, vCPU state, the dirty log and eventfd bindings are gone.";
const KEPT = "Its definition and parts are kept: start it to build it anew.";

export const STOPPED = `${GONE} ${KEPT}`;

/** Why a VM that another life of the service ran is lost. */
export const LOST = `The service ended unexpectedly while this VM was active. ${GONE} ${KEPT}`;

/** @param reason what the runtime tells; only its first line is for clients */
export function diedReason(reason: string): string {
  const line = (reason.split("\n")[0] ?? "").replace(/[.\s]+$/, "");
  return `The VM's thread died: ${line}. ${GONE} ${KEPT}`;
}

/** What an event tells of a VM. */
export function eventData(record: VmRecord): Readonly<Record<string, unknown>> {
  const { uuid, name, state, stateReason, version } = record;
  return { uuid, name, state, stateReason, version };
}
