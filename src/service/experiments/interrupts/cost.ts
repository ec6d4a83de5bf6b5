// Owns: what a round of interrupts costs by the model. HTTP thread.
import type { CostKey, CostModel } from "../cost-model.table.js";
import type { InterruptCycles, InterruptRow } from "./types.js";

type Counted = Pick<
  InterruptRow,
  | "raised"
  | "roundTrips"
  | "forNothing"
  | "exits"
  | "maintenanceExits"
  | "acks"
  | "vdrcfgReads"
  | "listLocks"
>;

/** Exits, interrupts taken, and what tracking adds to each. */
export function cyclesOfInterrupts(
  counted: Counted,
  model: CostModel,
  vcpus: number,
): InterruptCycles {
  const lock = model.spiListLock * (1 + model.spiListContention * (vcpus - 1));
  const events: Partial<Record<CostKey, number>> = {
    exitEntry: (counted.exits + counted.maintenanceExits) * model.exitEntry,
    irqInject: counted.raised * model.irqInject,
    irqTaken: (counted.roundTrips + counted.forNothing) * model.irqTaken,
    vdrcfgRead: counted.vdrcfgReads * model.vdrcfgRead,
    spiListLock: counted.listLocks * lock,
    ackNotify: counted.acks * model.ackNotify,
  };
  const byEvent = Object.fromEntries(Object.entries(events).filter(([, cycles]) => cycles !== 0));
  const total = Object.values(byEvent).reduce((sum, cycles) => sum + cycles, 0);
  return { total, perRoundTrip: total / Math.max(1, counted.roundTrips), byEvent };
}
