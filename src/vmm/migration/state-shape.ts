// Owns: the part of a state by which a VM is known as one that was built alike. VM thread.
import { isOwnSlot } from "../board/owned.table.js";
import type { Machine } from "../machine.js";
import { objectsOf } from "./memory-map.js";
import type { StatePart } from "./state-part.js";
import { STATE_VERSIONS } from "./state-versions.table.js";

/** KVM_MEM_LOG_DIRTY_PAGES: whoever moves a VM has it on at the source. */
const LOG_DIRTY_PAGES = 1;

interface Shape {
  readonly ipaBits: number;
  readonly pageSize: number;
  readonly clock: string;
  readonly nsPerInstruction: number;
  readonly board: boolean;
  readonly gic: string;
  /** By creation order. */
  readonly vcpus: readonly number[];
  readonly objects: readonly { readonly bytes: number; readonly backing: string }[];
  readonly slots: readonly string[];
  /** A board's own are the board's to make. */
  readonly dirtyRingBytes: number;
}

function slotsOf(m: Machine): string[] {
  const slots = m.kvm.vm.slots.list().filter((slot) => {
    return m.board === null || !isOwnSlot({ slot: slot.id }, m.board);
  });
  return slots.map(({ id, baseGfn, npages, userspaceAddr, flags }) => {
    const fixed = flags & ~LOG_DIRTY_PAGES;
    return `${id}: ${npages} pages from ${baseGfn}, at ${userspaceAddr}, flags ${fixed}`;
  });
}

function shapeOf(m: Machine): Shape {
  const { vm } = m.kvm;
  return {
    ipaBits: vm.ipaBits,
    pageSize: vm.pageSize,
    clock: vm.config.clock,
    nsPerInstruction: vm.config.nsPerInstruction,
    board: m.board !== null,
    gic: m.board === null ? "none" : vm.vgic.name,
    vcpus: vm.vcpus.map(({ id }) => id),
    objects: objectsOf(m).map(({ bytes, backing }) => ({ bytes, backing })),
    slots: slotsOf(m),
    dirtyRingBytes: vm.caps.dirtyRingBytes,
  };
}

/** The first member that is another one. */
function difference(own: Shape, other: Shape): string | null {
  for (const [name, value] of Object.entries(own)) {
    const theirs = (other as unknown as Record<string, unknown>)[name];
    const [here, there] = [JSON.stringify(value), JSON.stringify(theirs)];
    if (here !== there) return `${name} is ${here} here and ${there} in the state`;
  }
  return null;
}

export const SHAPE_PART: StatePart<Shape> = {
  kind: "shape",
  version: STATE_VERSIONS.shape,
  save: shapeOf,
  check: (m, data) => difference(shapeOf(m), data),
  load: () => {},
};
