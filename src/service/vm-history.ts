// Owns: a VM's first record, and how the service words what became of it, there and in its
// events. HTTP thread.
import { newId } from "../base/ids.js";
import type { VmDefinition, VmNews } from "../runtime/index.js";
import type { VmRecord } from "../store/index.js";
import { definitionToJson } from "./definition.js";
import type { EventLog } from "./event-log.js";
import type { VmSpec } from "./services.js";

const GONE =
  "Guest memory, vCPU state, in-kernel devices, interrupt routes, the dirty log and eventfd " +
  "bindings are gone.";
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

/** The record of a VM that was built just now. */
export function firstRecord(
  spec: VmSpec,
  uuid: string,
  definition: VmDefinition,
  of: { readonly seq: number; readonly bootId: string; readonly now: string },
): VmRecord {
  return {
    id: newId("vm"),
    seq: of.seq,
    uuid,
    name: spec.name,
    labels: spec.labels,
    definition: definitionToJson(definition),
    state: "active",
    stateReason: null,
    version: 1,
    starts: 1,
    bootId: of.bootId,
    createdAt: of.now,
    updatedAt: of.now,
  };
}

/** A line of history for what a board did by itself, and for a fault that hit. */
export function announceNews(
  events: EventLog,
  vmId: string,
  news: Exclude<VmNews, { kind: "died" | "replay-finished" }>,
): void {
  if (news.kind === "fault-injected") {
    const { kind, what, ...data } = news;
    events.announce(`vm.${kind}`, `vms/${vmId}`, { kind: what, ...data });
  } else if (news.kind === "board") {
    events.announce(`vm.${news.event}`, `vms/${vmId}`, { reason: news.reason });
  }
}
