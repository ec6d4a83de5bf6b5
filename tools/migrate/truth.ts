// Owns: what both hosts must say of a VM and its sessions once everything is settled after a kill.
// Tool and test process.
import type { Client } from "../../dist/cli/client.js";
import type { Operations } from "../../dist/generated/client.js";
import { NAMES, type Name, other, type TwoHosts } from "../../test/support/two-hosts.js";
import type { Migration } from "./move.js";

type Vm = Operations["listVms"]["answer"]["items"][number];

/** What can be told of one VM's move. */
export interface Told {
  readonly from: Name;
  readonly killed: readonly Name[];
  /** The last state that the source's session was seen in before. */
  readonly seen: string;
  /** Null: the request was lost with its host, or nobody was asked yet. */
  readonly source: Migration | null;
  readonly target: Migration | null;
  /** The VM's records by host; what it left behind is one, too. */
  readonly vms: Readonly<Record<Name, readonly Vm[]>>;
}

export interface Outcome {
  /** Where it runs; null: it is lost. */
  readonly runsOn: Name | null;
  readonly word: "moved" | "stays" | "lost at the source" | "lost at the target" | "untrue";
  readonly lies: readonly string[];
}

const ENDED: ReadonlySet<string> = new Set(["completed", "failed", "cancelled"]);

export const hasEnded = ({ state }: Migration): boolean => ENDED.has(state);

export async function sessionsOf(
  client: Client,
  uuid: string,
  direction: "outgoing" | "incoming",
): Promise<readonly Migration[]> {
  const query = { direction, limit: "1000" };
  const { items } = await client.call("listMigrations", {}, undefined, query);
  return items.filter(({ vmUuid }) => vmUuid === uuid);
}

async function recordsOf(client: Client, uuid: string): Promise<readonly Vm[]> {
  const { items } = await client.call("listVms", {}, undefined, { limit: "1000" });
  return items.filter((vm) => vm.uuid === uuid);
}

export async function told(
  hosts: TwoHosts,
  uuid: string,
  { from, killed, seen }: Pick<Told, "from" | "killed" | "seen">,
): Promise<Told> {
  const to = other(from);
  const [source = null] = await sessionsOf(hosts.client(from), uuid, "outgoing");
  const [target = null] = await sessionsOf(hosts.client(to), uuid, "incoming");
  const vms = {
    "host-a": await recordsOf(hosts.client("host-a"), uuid),
    "host-b": await recordsOf(hosts.client("host-b"), uuid),
  };
  return { from, killed, seen, source, target, vms };
}

/** Where exactly one copy is left, or the place where the only one died. */
export function judge(told: Told): Outcome {
  const lies = [...liesOfSessions(told), ...liesOfPostcopy(told), ...liesOfVms(told)];
  const { vms, from } = told;
  const active = NAMES.filter((name) => isIn(vms[name], "active"));
  const runsOn = active[0] ?? null;
  if (lies.length > 0) return { runsOn, word: "untrue", lies };
  if (runsOn !== null) return { runsOn, word: runsOn === from ? "stays" : "moved", lies };
  const atSource = isIn(vms[from], "lost");
  return { runsOn, word: atSource ? "lost at the source" : "lost at the target", lies };
}

function isIn(records: readonly Vm[], state: Vm["state"]): boolean {
  return records.some((vm) => vm.state === state);
}

/** The target ran it, whatever became of it then. */
const ranThere = ({ target }: Told): boolean => target?.point === "running";

/** It ran there before its last page had come, says the target, and went with the others. */
const diedInPostcopy = (told: Told): boolean => ranThere(told) && told.target?.state === "failed";

const LOST_CODES: ReadonlySet<string> = new Set(["lost-in-postcopy", "host-restarted"]);

function* liesOfSessions(told: Told): Iterable<string> {
  const { source, target } = told;
  for (const [side, session] of [
    ["source", source],
    ["target", target],
  ] as const) {
    if (session === null) continue;
    const { state, failure, endedAt, point } = session;
    const says = `the ${side}'s session says ${state} at ${point}`;
    if (!hasEnded(session)) yield `${says}: it has not ended`;
    if (endedAt === null) yield `${says}, and not when it ended`;
    if (state === "failed" && (failure?.detail ?? "") === "") yield `${says}, and not why`;
    if ((state === "completed") !== (ranThere(told) && !diedInPostcopy(told))) {
      yield `${says}; the VM ${ranThere(told) ? "came to run" : "never ran"} at the target`;
    }
    if (state !== "completed" && told.seen === "completed") yield `${says}, after "completed"`;
    if (failure !== null && !sidesOf(told).has(failure.side)) {
      yield `${says} because of the ${failure.side}, which was not killed`;
    }
  }
  if (source !== null && target !== null && source.peerSession !== null) {
    if (source.peerSession !== target.id) yield "the source's session names another one";
  }
  if (target !== null && target.peerSession !== source?.id) {
    yield "the target's session has no source";
  }
}

/** A cut of the wire is what the other side sees of a death. */
function sidesOf({ from, killed }: Told): ReadonlySet<string> {
  return new Set(["wire", ...killed.map((name) => (name === from ? "source" : "target"))]);
}

/** Of a VM that died in two places: nothing else takes one that runs at the target from it. */
function* liesOfPostcopy(told: Told): Iterable<string> {
  if (!diedInPostcopy(told)) return;
  const { source, target } = told;
  for (const [side, session] of [
    ["source", source],
    ["target", target],
  ] as const) {
    if (session === null || session.state !== "failed") continue;
    const { failure, parameters } = session;
    const says = `the ${side}'s session lost it`;
    if (!MAY_LACK_PAGES.has(parameters.strategy)) yield `${says} by ${parameters.strategy}`;
    if (!LOST_CODES.has(failure?.code ?? "")) yield `${says} by ${failure?.code ?? "no code"}`;
    if (failure?.during.startsWith("postcopy-") !== true) yield `${says} in ${failure?.during}`;
  }
  if (target?.progress?.bytesRemaining === 0) yield "it is lost, and its last page had come";
}

const MAY_LACK_PAGES: ReadonlySet<string> = new Set(["post-copy", "hybrid"]);

function* liesOfVms(told: Told): Iterable<string> {
  const { vms, from, killed } = told;
  const to = other(from);
  const all = NAMES.flatMap((name) => vms[name]);
  const active = all.filter(({ state }) => state === "active");
  if (active.length > 1) yield `it is active ${active.length} times`;
  const [here, there] = [vms[from], vms[to]];
  if (here.length !== 1) yield `the source has ${here.length} records of it`;
  if (there.length !== (ranThere(told) ? 1 : 0)) yield `the target has ${there.length} records`;
  if (ranThere(told)) {
    if (!isIn(here, "migrated")) yield `it moved, and is ${here[0]?.state} at the source`;
    yield* copyLies("target", there[0], killed.includes(to) || diedInPostcopy(told));
  } else {
    yield* copyLies("source", here[0], killed.includes(from));
  }
}

/** Of the only copy: it is lost where it died, says why, and else it is there. */
function* copyLies(side: string, vm: Vm | undefined, hasDied: boolean): Iterable<string> {
  if (vm === undefined) {
    yield `the ${side} has no record of the only copy`;
    return;
  }
  const { state, stateReason } = vm;
  if (state !== (hasDied ? "lost" : "active")) {
    yield `the only copy, which ${hasDied ? "died" : "lives"} at the ${side}, is ${state} there`;
  }
  if (state === "lost" && (stateReason ?? "") === "") yield "it is lost without a reason";
}
