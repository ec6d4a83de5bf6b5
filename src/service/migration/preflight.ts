// Owns: why a VM can't move, as this side sees it. HTTP thread.
import { KvmError, ServiceError } from "../../base/errors.js";
import { type MigrationParameters, whyNot } from "../../migration/index.js";
import type { VmEntry } from "../vm-entry.js";
import type { Reason } from "./types.js";

const reason = (code: string, detail: string): Reason => ({ side: "source", code, detail });

/** The first sentence of a refusal is enough for a list. */
function reasonOf(error: unknown): Reason {
  if (error instanceof ServiceError || error instanceof KvmError) {
    return reason(error.code, error.message);
  }
  throw error;
}

/** @returns every reason; none: this side is willing */
export async function sourceReasons(
  entry: VmEntry,
  parameters: MigrationParameters,
  supportsPostcopy: boolean,
): Promise<readonly Reason[]> {
  const reasons: Reason[] = [];
  try {
    entry.refuseWhileMoving();
  } catch (error) {
    reasons.push(reasonOf(error));
  }
  if (entry.debugger?.isAttached === true) {
    const why = "A debugger is attached: its breakpoints are in the guest's memory. Detach it.";
    reasons.push(reason("owned-by-debugger", why));
  }
  if (entry.shape.guestMemfds.size > 0) {
    const why = "The VM has guest_memfd memory, which is its host's alone: close and unbind it.";
    reasons.push(reason("guest-memfd", why));
  }
  try {
    reasons.push(...(await askedReasons(entry, parameters, supportsPostcopy)));
  } catch (error) {
    reasons.push(reasonOf(error));
  }
  return reasons;
}

async function askedReasons(
  entry: VmEntry,
  parameters: MigrationParameters,
  supportsPostcopy: boolean,
): Promise<readonly Reason[]> {
  const handle = entry.requireHandle();
  const reasons: Reason[] = [];
  const { value: kvm } = await handle.call("describe", {});
  if (kvm.replaying) reasons.push(reason("vm-replaying", "The VM replays an input log."));
  const { value: assigned } = await handle.call("listAssignedDevices", {});
  if (assigned.length > 0) {
    const why = `${assigned.length} devices of this host are assigned to the VM: take them away.`;
    reasons.push(reason("assigned-devices", why));
  }
  const { value: tracking } = await handle.call("describeTracking", {});
  const sentences = whyNot(parameters, tracking, { supportsPostcopy });
  return [...reasons, ...sentences.map((why) => reason("migration-refused", why))];
}
