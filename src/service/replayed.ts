// Owns: the records of a VM whose parts came from a replayed input log. HTTP thread.
// Replayed commands do not pass the service, so it asks the VM what it has become.
import type { InputLog, VmHandle } from "../runtime/index.js";
import { nextOrdinal } from "./shape.js";
import type { VmEntry } from "./vm-entry.js";

/**
 * Replaces the parts of entry.shape by what the VM tells. Each answer is taken over as it arrives,
 * so a later command of a client is never overwritten by an earlier view.
 */
export async function recordReplayed(
  entry: VmEntry,
  handle: VmHandle,
  log: InputLog | null,
): Promise<void> {
  const { shape } = entry;
  // A board makes its parts again by itself, and nobody else may have made them.
  if (entry.definition.board !== undefined) return;
  const objects = handle.call("listMemoryObjects", {}).then(({ value }) => {
    shape.memoryObjects.clear();
    value.forEach((view, ordinal) => {
      const { id, ...rest } = view;
      shape.memoryObjects.set(ordinal, { ordinal, objectId: id, ...rest });
    });
  });
  const memfds = handle.call("listGuestMemfds", {}).then(({ value }) => {
    shape.guestMemfds.clear();
    value.forEach((view, ordinal) => {
      const { id, size, flags } = view;
      shape.guestMemfds.set(ordinal, { ordinal, memfdId: id, size, flags, closed: false });
    });
  });
  const memslots = handle.call("listMemslots", {}).then(({ value }) => {
    shape.memslots.clear();
    for (const { npages: _, guestMemfdId, ...view } of value) {
      const memfd = guestMemfdId === null ? null : shape.openMemfd(guestMemfdId);
      shape.memslots.set(view.slot, { ...view, guestMemfd: memfd?.ordinal ?? null });
    }
  });
  const vcpus = handle.call("listVcpus", {}).then(({ value }) => {
    shape.vcpus.clear();
    for (const { id, index } of value) shape.vcpus.set(index, { ordinal: index, vcpuId: id });
  });
  await Promise.all([objects, memfds, memslots, vcpus]);
  for (const { command } of log?.entries ?? []) {
    if (command.name !== "enableCap") continue;
    const { cap, flags, args } = command.args as { cap: number; flags: number; args: bigint[] };
    for (const [ordinal, known] of shape.capabilities) {
      if (known.cap === cap && known.tentative) shape.capabilities.delete(ordinal);
    }
    const ordinal = nextOrdinal(shape.capabilities);
    shape.capabilities.set(ordinal, { ordinal, cap, flags, args, tentative: true });
  }
}
