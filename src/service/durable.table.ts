// Owns: which commands change a VM's records, and how (DESIGN 12). HTTP thread.
// A row sees the records, the arguments and the result of a command that KVM took. No row: the
// command changes nothing that outlives the VM's thread.
import { hex } from "../base/hex.js";
import type { CommandArgs, CommandName, CommandResult } from "../runtime/index.js";
import type { GuestMemfdRecord, MemslotRecord, PartChange } from "../store/index.js";
import { nextOrdinal, type Shape } from "./shape.js";

export interface Recorded {
  readonly changes: readonly PartChange[];
  /** One line of the service's history. */
  readonly event: { readonly type: string; readonly data: Readonly<Record<string, unknown>> };
}

type Row<K extends CommandName> = (
  shape: Shape,
  args: CommandArgs<K>,
  result: CommandResult<K>,
) => Recorded | null;

export const DURABLE: { readonly [K in CommandName]?: Row<K> } = {
  // The same capability again replaces the earlier one: the last word counts when it is rebuilt.
  enableCap: (shape, args) => {
    const earlier = [...shape.capabilities.values()].filter((known) => known.cap === args.cap);
    const value = {
      ordinal: nextOrdinal(shape.capabilities),
      cap: args.cap,
      flags: args.flags,
      args: args.args,
      tentative: false,
    };
    const forget = earlier.map(
      ({ ordinal }): PartChange => ({ kind: "delete-capability", ordinal }),
    );
    return {
      changes: [...forget, { kind: "put-capability", value }],
      event: { type: "capability.enabled", data: { cap: args.cap, args: args.args.map(hex) } },
    };
  },

  createVcpu: (_shape, _args, view) => ({
    changes: [{ kind: "put-vcpu", value: { ordinal: view.index, vcpuId: view.id } }],
    event: { type: "vcpu.created", data: { vcpu: view.id } },
  }),

  createMemoryObject: (shape, _args, view) => ({
    changes: [
      {
        kind: "put-memory-object",
        value: {
          ordinal: nextOrdinal(shape.memoryObjects),
          objectId: view.id,
          userspaceAddr: view.userspaceAddr,
          size: view.size,
          backing: view.backing,
          hugePages: view.hugePages,
        },
      },
    ],
    event: { type: "memory-object.created", data: { id: view.id, size: hex(view.size) } },
  }),

  deleteMemoryObject: (shape, { id }) => ({
    changes: [...shape.memoryObjects.values()]
      .filter((known) => known.objectId === id)
      .map(({ ordinal }): PartChange => ({ kind: "delete-memory-object", ordinal })),
    event: { type: "memory-object.deleted", data: { id } },
  }),

  createGuestMemfd: (shape, _args, view) => ({
    changes: [
      {
        kind: "put-guest-memfd",
        value: {
          ordinal: nextOrdinal(shape.guestMemfds),
          memfdId: view.id,
          size: view.size,
          flags: view.flags,
          closed: false,
        },
      },
    ],
    event: { type: "guest-memfd.created", data: { id: view.id, size: hex(view.size) } },
  }),

  // The file lives on while a memslot holds it, so its record does too.
  closeGuestMemfd: (shape, { id }) => {
    const memfd = shape.openMemfd(id);
    if (memfd === null) return null;
    const held = [...shape.memslots.values()].some((slot) => slot.guestMemfd === memfd.ordinal);
    return {
      changes: [
        held
          ? { kind: "put-guest-memfd", value: { ...memfd, closed: true } }
          : { kind: "delete-guest-memfd", ordinal: memfd.ordinal },
      ],
      event: { type: "guest-memfd.closed", data: { id } },
    };
  },

  setUserMemoryRegion: (shape, args, result) => memslotChange(shape, args.slot, result),
  setUserMemoryRegion2: (shape, args, result) => memslotChange(shape, args.slot, result),
};

function memslotChange(
  shape: Shape,
  slot: number,
  result: CommandResult<"setUserMemoryRegion">,
): Recorded | null {
  const known = shape.memslots.get(slot);
  if (result.slot === null) {
    return {
      changes: [{ kind: "delete-memslot", slot }, ...releaseMemfd(shape, known)],
      event: { type: "memslot.deleted", data: { slot } },
    };
  }
  const { flags, guestPhysAddr, memorySize, userspaceAddr, guestMemfdOffset } = result.slot;
  // A slot that was bound before keeps its file: its descriptor's number may have moved on.
  const memfd =
    result.slot.guestMemfdId === null
      ? null
      : (known?.guestMemfd ?? shape.openMemfd(result.slot.guestMemfdId)?.ordinal ?? null);
  const value: MemslotRecord = {
    slot,
    flags,
    guestPhysAddr,
    memorySize,
    userspaceAddr,
    guestMemfd: memfd,
    guestMemfdOffset,
  };
  if (known !== undefined && isSame(known, value)) return null;
  return {
    changes: [{ kind: "put-memslot", value }],
    event: {
      type: known === undefined ? "memslot.created" : "memslot.changed",
      data: { slot, flags, guestPhysAddr: hex(guestPhysAddr), memorySize: hex(memorySize) },
    },
  };
}

/** @returns the removal of a closed memfd that only this slot held. */
function releaseMemfd(shape: Shape, slot: MemslotRecord | undefined): readonly PartChange[] {
  if (slot === undefined || slot.guestMemfd === null) return [];
  const memfd: GuestMemfdRecord | undefined = shape.guestMemfds.get(slot.guestMemfd);
  if (memfd === undefined || !memfd.closed) return [];
  const holders = [...shape.memslots.values()].filter((s) => s.guestMemfd === memfd.ordinal);
  if (holders.length > 1) return [];
  return [{ kind: "delete-guest-memfd", ordinal: memfd.ordinal }];
}

function isSame(a: MemslotRecord, b: MemslotRecord): boolean {
  return (
    a.flags === b.flags &&
    a.guestPhysAddr === b.guestPhysAddr &&
    a.memorySize === b.memorySize &&
    a.userspaceAddr === b.userspaceAddr &&
    a.guestMemfd === b.guestMemfd &&
    a.guestMemfdOffset === b.guestMemfdOffset
  );
}
