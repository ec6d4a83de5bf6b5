// Owns: building a VM anew from its records: same shape, empty memory. HTTP thread.
import { KvmError } from "../base/errors.js";
import type { CommandArgs, CommandName, CommandResult, VmHandle } from "../runtime/index.js";
import type {
  GuestMemfdRecord,
  MemoryObjectRecord,
  MemslotRecord,
  VmShape,
} from "../store/index.js";

/**
 * Enters the records into a fresh VM: capabilities in their order, memory objects at the same
 * addresses, guest memfds, memslots, vCPUs in order of creation. Numbers that the VM gives itself
 * (memory objects, guest memfds) may come out different when some were deleted before.
 * @param keepNumbers memory objects get theirs again: a migration names pages by them
 * @returns the shape with the numbers of the new VM
 * @throws KvmError as the refused command, its sentence saying where the rebuilding stopped
 */
export async function rebuild(
  handle: VmHandle,
  shape: VmShape,
  keepNumbers = false,
): Promise<VmShape> {
  for (const capability of shape.capabilities) {
    const { cap, flags, args, tentative } = capability;
    const enabling = enter(handle, `capability ${cap}`, "enableCap", { cap, flags, args });
    // What a replayed log asked for was perhaps refused then, so it may be refused again.
    await (tentative ? enabling.catch(ignoreKvm) : enabling);
  }
  const memoryObjects = await enterMemoryObjects(handle, shape.memoryObjects, keepNumbers);
  const guestMemfds: GuestMemfdRecord[] = [];
  for (const memfd of shape.guestMemfds) {
    const args = { size: memfd.size, flags: memfd.flags };
    const what = `guest memfd ${memfd.memfdId}`;
    const view = await enter(handle, what, "createGuestMemfd", args);
    guestMemfds.push({ ...memfd, memfdId: view.id });
  }
  for (const slot of shape.memslots) await enterMemslot(handle, slot, guestMemfds);
  for (const memfd of guestMemfds.filter(({ closed }) => closed)) {
    const what = `closed guest memfd ${memfd.memfdId}`;
    await enter(handle, what, "closeGuestMemfd", { id: memfd.memfdId });
  }
  for (const { vcpuId } of shape.vcpus) {
    await enter(handle, `vCPU ${vcpuId}`, "createVcpu", { id: vcpuId });
  }
  return { ...shape, memoryObjects, guestMemfds };
}

/** Whole pages of any size. */
const PLACEHOLDER_BYTES = 0x1_0000n;
/** Numbers that are used up at most; beyond, the VM is not built alike. */
const PLACEHOLDERS_MAX = 10_000;

async function enterMemoryObjects(
  handle: VmHandle,
  records: readonly MemoryObjectRecord[],
  keepNumbers: boolean,
): Promise<readonly MemoryObjectRecord[]> {
  const entered: MemoryObjectRecord[] = [];
  let next = 1;
  for (const object of records) {
    const { size, userspaceAddr, backing, hugePages } = object;
    const what = `memory object ${object.objectId}`;
    if (keepNumbers && object.objectId - next <= PLACEHOLDERS_MAX) {
      for (; next < object.objectId; next++) await useUpNumber(handle, what);
    }
    const args = { size, userspaceAddr, backing, hugePages };
    const view = await enter(handle, what, "createMemoryObject", args);
    entered.push({ ...object, objectId: view.id });
    next = view.id + 1;
  }
  return entered;
}

async function useUpNumber(handle: VmHandle, what: string): Promise<void> {
  const size = PLACEHOLDER_BYTES;
  const args = { size, userspaceAddr: null, backing: "unbacked", hugePages: false } as const;
  const { id } = await enter(handle, what, "createMemoryObject", args);
  await enter(handle, what, "deleteMemoryObject", { id });
}

async function enterMemslot(
  handle: VmHandle,
  record: MemslotRecord,
  guestMemfds: readonly GuestMemfdRecord[],
): Promise<void> {
  const { slot, flags, guestPhysAddr, memorySize, userspaceAddr, guestMemfdOffset } = record;
  const region = { slot, flags, guestPhysAddr, memorySize, userspaceAddr };
  const memfd = guestMemfds.find(({ ordinal }) => ordinal === record.guestMemfd);
  if (memfd === undefined) {
    await enter(handle, `memslot ${slot}`, "setUserMemoryRegion", region);
  } else {
    const region2 = { ...region, guestMemfd: memfd.memfdId, guestMemfdOffset };
    await enter(handle, `memslot ${slot}`, "setUserMemoryRegion2", region2);
  }
}

async function enter<K extends CommandName>(
  handle: VmHandle,
  what: string,
  name: K,
  args: CommandArgs<K>,
): Promise<CommandResult<K>> {
  try {
    return (await handle.call(name, args)).value;
  } catch (error) {
    if (!(error instanceof KvmError)) throw error;
    const sentence = `The VM can't be built anew; it stopped at ${what}: ${error.message}`;
    throw new KvmError(error.errno, error.ioctl, sentence, error.code);
  }
}

function ignoreKvm(error: unknown): void {
  if (!(error instanceof KvmError)) throw error;
}
