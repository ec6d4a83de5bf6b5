// Owns: the replay of one file and its counts. Any thread.
import type { Client } from "./client.js";
import { difference } from "./compare.js";
import { type Line, type Outcome, ReplayFault } from "./line.js";
import { getDirtyLog } from "./ops/dirty.js";
import { OPERATIONS } from "./ops/op.table.js";
import type { PlannedLine, Recording, Scenario } from "./recording.js";
import type { Tracking } from "./tracking.table.js";
import { World } from "./world.js";

/** One line that did not answer as recorded. */
export interface Difference {
  /** The line's number, or -1 for a row that could not be read. */
  readonly i: number;
  readonly op: string;
  readonly on: string;
  readonly expected: string;
  readonly got: string;
  readonly request: string;
}

/** Counts are of lines; "scenario" lines and the header are none. */
export interface FileReport {
  readonly name: string;
  passed: number;
  /** Lines of another architecture, carried out as set-up or left out. */
  marked: number;
  /** Lines skipped by rule. */
  readonly byRule: Map<string, number>;
  /** Counters of the tracking that was asked for, over all VMs. */
  readonly counted: Map<string, number>;
  readonly differences: Difference[];
}

export function skippedByRule(report: FileReport): number {
  return [...report.byRule.values()].reduce((sum, count) => sum + count, 0);
}

/** Replays one recording from a fresh set of VMs per scenario. */
export async function replay(
  name: string,
  recording: Recording,
  client: Client,
  tracking: Tracking | null = null,
): Promise<FileReport> {
  const report: FileReport = {
    name,
    passed: 0,
    marked: 0,
    byRule: new Map(),
    counted: new Map(),
    differences: [],
  };
  for (const fault of recording.faults) report.differences.push(outside("a call", fault));
  for (const scenario of recording.scenarios) {
    const pins = edgePins(scenario);
    const world = new World(client, recording.header, tracking, pins);
    await replayScenario(scenario, world, report);
    const fault = await world.close().then(
      () => null,
      (error: unknown) => String(error),
    );
    if (fault !== null) report.differences.push(outside(`${scenario.name} closes`, fault));
    addTo(report.counted, world.counted);
  }
  return report;
}

/** A pin whose edges are looked at belongs to a device that has edges; others have levels. */
function edgePins(scenario: Scenario): ReadonlySet<number> {
  const looks = scenario.lines.filter(({ line }) => line.op === "irqchip_pin_edge");
  return new Set(looks.map(({ line }) => Number(line.args["pin"])));
}

export function addTo(sums: Map<string, number>, more: ReadonlyMap<string, number>): void {
  for (const [name, value] of more) sums.set(name, (sums.get(name) ?? 0) + value);
}

/** A difference that belongs to no line. */
function outside(expected: string, got: string): Difference {
  return { i: -1, op: "none", on: "none", expected, got, request: "none" };
}

async function replayScenario(scenario: Scenario, world: World, report: FileReport) {
  for (const planned of scenario.lines) {
    const { plan } = planned;
    if (plan.kind === "marked") {
      report.marked += 1;
      continue;
    }
    const outcome = await carryOut(world, planned);
    if (plan.kind === "setup") {
      report.marked += 1;
    } else if (plan.kind === "rule") {
      report.byRule.set(plan.rule.name, (report.byRule.get(plan.rule.name) ?? 0) + 1);
    } else {
      judge(planned, outcome, world, report);
    }
  }
}

function judge({ line, plan }: PlannedLine, outcome: Done, world: World, report: FileReport) {
  const isFault = "fault" in outcome;
  const found = isFault ? faultOf(line, outcome.fault) : difference(line, outcome);
  if (found === null || (plan.kind === "quirk" && !isFault)) {
    report.passed += 1;
    return;
  }
  const [expected, got] = found;
  const { i, op, on } = line;
  report.differences.push({ i, op, on, expected, got, request: world.client.lastRequest });
}

function faultOf(line: Line, fault: string): readonly [string, string] {
  return [line.errno ?? `success, ret ${line.ret}`, fault];
}

type Done = Outcome | { readonly fault: string };

/** A fault is a sentence about why the line could not be carried out at all. */
async function carryOut(world: World, { line, plan }: PlannedLine): Promise<Done> {
  world.client.lastRequest = "none";
  try {
    if (plan.kind === "rule") {
      if (plan.rule.effect === "take-bits") return await getDirtyLog(world, line);
      return { ret: 0, errno: null, out: {} };
    }
    const operation = OPERATIONS[line.op];
    if (operation === undefined) return { fault: `unknown operation ${line.op}` };
    if (line.op !== "KVM_CREATE_VCPU") await world.initialiseIrqchips();
    return await operation(world, line);
  } catch (error) {
    if (error instanceof ReplayFault) return { fault: error.message };
    const text = error instanceof Error ? error.message : String(error);
    return { fault: `the request or its answer failed: ${text}` };
  }
}
