// Owns: a comparison of interrupt controllers from its spec to its rows: one strategy after the
// other, each in a VM of its own, round by round. HTTP thread.
import type { Clock } from "../../../base/clock.js";
import { toRefusal } from "../../../base/errors.js";
import type { Runtime } from "../../../runtime/index.js";
import { countOf } from "../cost.js";
import { type CostModel, costModel } from "../cost-model.table.js";
import type { Progress } from "../types.js";
import { checkAcks, type Moment } from "./ack-check.js";
import { cyclesOfInterrupts } from "./cost.js";
import { InterruptVm, type Records, type RoundOutcome } from "./interrupt-vm.js";
import { hasNotifier } from "./spec.js";
import type { InterruptResult, InterruptRow, InterruptSpec, InterruptWorkload } from "./types.js";

interface RunControl {
  isCancelled(): boolean;
  progress(progress: Progress): void;
  running(vm: { close(): Promise<void> } | null): void;
  result(result: InterruptResult): void;
}

interface Deps {
  readonly runtime: Runtime;
  readonly clock: Clock;
}

const NOTHING: Records = { served: 0, forNothing: 0, storms: 0, unserved: 0 };

export function interruptSteps({ workload, strategies }: InterruptSpec): number {
  return workload.rounds * strategies.length;
}

/** Runs every strategy; a strategy that fails stops no other. */
export async function runInterrupts(
  spec: InterruptSpec,
  deps: Deps,
  control: RunControl,
): Promise<void> {
  const { workload, strategies } = spec;
  const model = costModel(spec.costModel);
  for (const [at, strategy] of strategies.entries()) {
    if (control.isCancelled()) return;
    const rows: InterruptRow[] = [];
    const tell = () => {
      const done = at * workload.rounds + rows.length;
      control.progress({ done, total: interruptSteps(spec), strategy: strategy.name });
    };
    let error: string | null = null;
    try {
      const vm = await InterruptVm.create(workload, strategy, deps);
      control.running(vm);
      try {
        await rounds(vm, { workload, model, gic: strategy.gic }, control, (row) => {
          rows.push(row);
          tell();
        });
      } finally {
        control.running(null);
        await vm.close();
      }
    } catch (caught) {
      error = toRefusal(caught).detail;
    }
    const isCancelled = control.isCancelled();
    const state = isCancelled ? "cancelled" : error === null ? "done" : "failed";
    control.result({ strategy, state, error: isCancelled ? null : error, rows });
  }
}

interface Terms {
  readonly workload: InterruptWorkload;
  readonly model: CostModel;
  readonly gic: 3 | 5;
}

async function rounds(
  vm: InterruptVm,
  terms: Terms,
  control: RunControl,
  add: (row: InterruptRow) => void,
): Promise<void> {
  const { workload } = terms;
  let before = NOTHING;
  for (let round = 1; round <= workload.rounds; round++) {
    if (control.isCancelled()) return;
    const outcome = await vm.round();
    const after = await vm.records();
    add(rowOf(round, outcome, { before, after }, terms));
    before = after;
  }
}

/** Whether its end owes an acknowledgement. */
function owes(workload: InterruptWorkload, { spi }: Moment): boolean {
  return workload.trigger !== "edge" && hasNotifier(workload, spi);
}

function rowOf(
  round: number,
  { counts, v5, raised, ends, acks, guestNs, ms }: RoundOutcome,
  { before, after }: { before: Records; after: Records },
  { workload, model, gic }: Terms,
): InterruptRow {
  const owed = ends.filter((end) => owes(workload, end));
  const checked = checkAcks(owed, acks, workload.lateNs);
  const roundTrips = after.served - before.served;
  const forNothing = after.forNothing - before.forNothing;
  const left = after.unserved - before.unserved;
  const counted = {
    raised,
    roundTrips,
    forNothing,
    exits: countOf(counts, "exits"),
    maintenanceExits: gic === 3 && workload.trigger !== "edge" ? roundTrips + forNothing : 0,
    acks: checked.acks,
    vdrcfgReads: countOf(v5 ?? {}, "vdrcfgCalls"),
    listLocks: countOf(v5 ?? {}, "listLockAcquisitions"),
  };
  return {
    round,
    ...counted,
    coalesced: Math.max(0, raised - roundTrips - left),
    unserved: after.unserved,
    storms: after.storms - before.storms,
    lateAcks: checked.late,
    missedAcks: checked.missed,
    needlessAcks: checked.needless,
    ackLatencyNs: checked.latencyNs,
    deactivationTraps: countOf(v5 ?? {}, "deactivationTraps"),
    vdrcfgSaved: countOf(v5 ?? {}, "vdrcfgSkippedNoNotifier"),
    inFlightMax: countOf(v5 ?? {}, "maxListLen"),
    kvm: v5,
    cycles: cyclesOfInterrupts(counted, model, workload.vcpus),
    guestNs,
    runMs: ms,
  };
}
