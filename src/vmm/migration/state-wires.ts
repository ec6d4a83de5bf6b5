// Owns: the part of a state that holds what leads in and out of a VM: routes, irqfds, ioeventfds,
// coalesced zones and what waits in their ring, reads that were not acknowledged. VM thread.
//
// Eventfds are named by the VM's numbers. On another host the same numbers stand for counters that
// whoever moves the VM has made there; counters themselves are no part of a VM.
// @source interrupts.md 7.0: irqfds come last, or what they inject is overwritten
import type { Saved } from "../../base/saved.js";
import type { IrqfdView, RoutingEntry } from "../commands.js";
import type { Machine } from "../machine.js";
import type { LoadContext, StatePart } from "./state-part.js";
import { STATE_VERSIONS } from "./state-versions.table.js";

interface WiresState {
  readonly routes: readonly RoutingEntry[];
  readonly irqfds: readonly IrqfdView[];
  readonly nextIrqfd: number;
  readonly bus: Saved;
  readonly harvests: Saved;
  readonly coalesced: Saved;
}

interface BusData {
  readonly devices: readonly { readonly eventfd?: number }[];
}

/** The VM's numbers of eventfds in a state. */
export function eventfdsIn({ irqfds, bus }: WiresState): readonly number[] {
  const own = irqfds.flatMap(({ eventfd, resamplefd }) => [eventfd, resamplefd ?? eventfd]);
  const others = (bus.data as BusData).devices.flatMap(({ eventfd }) => eventfd ?? []);
  return [...new Set([...own, ...others])];
}

function save(m: Machine): WiresState {
  const { vm } = m.kvm;
  return {
    routes: vm.routing.list().map((route) => ({ ...route })),
    irqfds: vm.irqfds.list(),
    nextIrqfd: vm.irqfds.nextId,
    bus: vm.bus.save(),
    // Copies: what leaves the thread may take its buffers along, and these are still owed here.
    harvests: structuredClone(m.harvests.save()),
    coalesced: structuredClone(m.coalesced.save()),
  };
}

function load({ m, eventfd, mayWait }: LoadContext, data: WiresState): void {
  const { vm } = m.kvm;
  m.harvests.load(data.harvests);
  m.coalesced.load(data.coalesced);
  vm.routing.set(0, data.routes);
  const bus = data.bus.data as BusData;
  const devices = bus.devices.map((device) => {
    return device.eventfd === undefined ? device : { ...device, eventfd: eventfd(device.eventfd) };
  });
  vm.bus.load({ ...data.bus, data: { ...bus, devices } });
  const irqfds = data.irqfds.map((irqfd) => ({
    ...irqfd,
    eventfd: eventfd(irqfd.eventfd),
    resamplefd: irqfd.resamplefd === null ? null : eventfd(irqfd.resamplefd),
  }));
  vm.irqfds.restore(irqfds, data.nextIrqfd, mayWait);
  for (const irqfd of irqfds) m.held.hearLater(irqfd.eventfd);
}

export const WIRES_PART: StatePart<WiresState> = {
  kind: "wires",
  version: STATE_VERSIONS.wires,
  save,
  load,
};
