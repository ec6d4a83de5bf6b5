// Owns: a comparison of interrupt controllers as asked for, completed and checked. HTTP thread.
import { ServiceError } from "../../../base/errors.js";
import { costModel } from "../cost-model.table.js";
import type {
  InterruptRequest,
  InterruptSpec,
  InterruptStrategy,
  InterruptWorkload,
} from "./types.js";

const NS_PER_S = 1e9;

/** Bounds of one experiment, each with its reason. */
export const INTERRUPT_LIMITS = {
  /** Pins that KVM's routing knows of a GICv5. */
  spis: 988,
  /** A GICv3 in KVM has 1024 interrupts less 32 private and 32 that can't be made whole. */
  spisV3: 960,
  /** Over rounds and strategies: some minutes of messages to the VM's thread. */
  interrupts: 2 ** 22,
  stops: 2 ** 22,
  /** Guest instructions of all vCPUs, likewise: at 200 million in a second. */
  instructions: 2 ** 36,
} as const;

const DEFAULTS = {
  kind: "interrupts",
  vcpus: 1,
  spis: 8,
  trigger: "level",
  notifierPercent: 100,
  interruptsPerSecond: 20_000,
  exitsPerSecond: 20_000,
  interruptsPerRound: 500,
  rounds: 1,
  seed: "0x1",
  stormLimit: 100,
  lateNs: 1000,
} as const satisfies InterruptWorkload;

function bad(pointer: string, detail: string): ServiceError {
  return new ServiceError("validation", `${pointer} ${detail}.`, { errors: [{ pointer, detail }] });
}

/** Guest time of a round. */
export function secondsOf(w: InterruptWorkload): number {
  return w.interruptsPerRound / w.interruptsPerSecond;
}

/** Times that every vCPU stops in a round. */
export function stopsOf(w: InterruptWorkload): number {
  return Math.max(1, Math.ceil(secondsOf(w) * w.exitsPerSecond));
}

function nameOf({ gic, spiTracking, settings }: Omit<InterruptStrategy, "name">): string {
  const more = Object.entries(settings).map(([key, value]) => `, ${key}=${value}`);
  return `GICv${gic}${spiTracking === null ? "" : ` ${spiTracking}`}${more.join("")}`;
}

function complete(given: InterruptRequest["strategies"][number]): InterruptStrategy {
  const { gic, spiTracking, settings = {}, name } = given;
  const rest = { gic, settings, spiTracking: gic === 3 ? null : (spiTracking ?? "exact") };
  return { name: name ?? nameOf(rest), ...rest };
}

function checkWorkload(w: InterruptWorkload, strategies: number): void {
  const { interrupts, stops, instructions } = INTERRUPT_LIMITS;
  const times = w.rounds * strategies;
  const all = w.interruptsPerRound * times;
  if (all > interrupts) {
    throw bad("/workload/interruptsPerRound", `makes ${all} interrupts, more than ${interrupts}`);
  }
  const allStops = stopsOf(w) * times;
  if (allStops > stops) {
    throw bad("/workload/exitsPerSecond", `makes ${allStops} stops, more than ${stops}`);
  }
  const run = Math.ceil(secondsOf(w) * NS_PER_S * w.vcpus * times);
  if (run > instructions) {
    const what = `makes ${run} guest instructions, more than ${instructions}`;
    throw bad("/workload/interruptsPerSecond", what);
  }
}

/** @throws ServiceError "validation" */
export function completeInterrupts(request: InterruptRequest): InterruptSpec {
  const workload: InterruptWorkload = { ...DEFAULTS, ...request.workload };
  checkWorkload(workload, request.strategies.length);
  for (const [at, { gic, spiTracking }] of request.strategies.entries()) {
    if (gic === undefined) throw bad(`/strategies/${at}`, "has no gic, which this compares");
    if (gic === 3 && workload.spis > INTERRUPT_LIMITS.spisV3) {
      throw bad("/workload/spis", `is more than the ${INTERRUPT_LIMITS.spisV3} of a GICv3`);
    }
    if (gic === 3 && spiTracking !== undefined && spiTracking !== null) {
      throw bad(`/strategies/${at}/spiTracking`, "is a GICv5's");
    }
  }
  const strategies = request.strategies.map(complete);
  const names = strategies.map(({ name }) => name);
  const twice = names.findIndex((name, at) => names.indexOf(name) !== at);
  if (twice >= 0) throw bad(`/strategies/${twice}/name`, "is there already");
  const overrides = request.costModel ?? {};
  costModel(overrides);
  return { name: request.name ?? "experiment", workload, strategies, costModel: overrides };
}

/** Whether an SPI has a resampling irqfd: spread evenly. */
export function hasNotifier({ notifierPercent }: InterruptWorkload, spi: number): boolean {
  const upTo = (n: number) => Math.floor((n * notifierPercent) / 100);
  return upTo(spi + 1) > upTo(spi);
}
