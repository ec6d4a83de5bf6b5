// Owns: what each command around dirty tracking's hardware does: one row per name of DirtyCommands.
// VM thread.
import { ServiceError } from "../base/errors.js";
import { hostDeviceTree, madt, NESTED_REGISTERS, type SeedBug } from "../kvm/index.js";
import {
  DIAGNOSTICS,
  type DiagnosticKind,
  FAULT_KINDS,
  type FaultHit,
  type FaultKind,
} from "../machine/index.js";
import type { Row } from "./command-row.js";
import type { CommandArgs } from "./commands.js";
import type {
  DiagnosticView,
  DirtyCommands,
  DirtyView,
  FaultNews,
  FaultView,
} from "./dirty-commands.js";
import { hacdbsView, hdbssView } from "./dirty-registers.js";
import { DIRTY_SETTINGS, whyNotDirty } from "./dirty-settings.js";
import { isHardware, type Machine } from "./machine.js";

function dirtyView(m: Machine): DirtyView {
  const { host, policies, seedBugs } = m.kvm.vm;
  const settings = { ...host.model, ...policies, ...m.tracking.lentSettings };
  return { settings, seedBugs: [...seedBugs].sort() };
}

/** @returns why a setting can't change now, or null */
function whyFixed(m: Machine, key: string): string | null {
  const changeable = DIRTY_SETTINGS[key]?.changeable;
  if (changeable === "at-creation") return "can only be given when the VM is created";
  if (changeable === "always" || m.kvm.vm.vcpus.length === 0) return null;
  return "can only change while the VM has no vCPU";
}

function changeDirty(m: Machine, args: CommandArgs<"changeDirty">): DirtyView {
  const wrong = whyNotDirty({ settings: args.settings, seedBugs: args.seedBugs ?? [] });
  if (wrong !== null) throw new ServiceError("validation", `${wrong}.`);
  const { host, policies, seedBugs } = m.kvm.vm;
  const present = dirtyView(m).settings;
  const changes = Object.entries(args.settings).filter(([key, value]) => present[key] !== value);
  for (const [key] of changes) {
    const why = whyFixed(m, key);
    if (why !== null) throw new ServiceError("setting-fixed", `${key} ${why}.`, { setting: key });
  }
  for (const [key, value] of changes) {
    Object.assign(isHardware(key) ? host.model : policies, { [key]: value });
  }
  if (args.seedBugs === null) return dirtyView(m);
  seedBugs.clear();
  for (const bug of args.seedBugs) seedBugs.add(bug as SeedBug);
  return dirtyView(m);
}

const FAULTS_MAX = 100;

function armFault(m: Machine, { kind, ...args }: CommandArgs<"armFault">): FaultView {
  const { faults } = m.kvm.vm.host;
  const kinds = Object.keys(FAULT_KINDS);
  if (!kinds.includes(kind)) {
    throw new ServiceError("validation", `kind must be one of ${kinds.join(", ")}.`);
  }
  if (faults.list().filter(({ isArmed }) => isArmed).length >= FAULTS_MAX) {
    throw new ServiceError("fault-limit", `${FAULTS_MAX} faults are armed: take some back first.`);
  }
  const { id } = faults.arm({ kind: kind as FaultKind, ...args });
  return { id, kind, ...args, seen: 0, hits: 0, isArmed: true };
}

function disarmFault(m: Machine, id: number): null {
  if (m.kvm.vm.host.faults.disarm(id)) return null;
  throw new ServiceError("fault-not-found", `The VM has no fault ${id}.`);
}

function diagnosticViews(m: Machine): readonly DiagnosticView[] {
  const { counts, last } = m.kvm.vm.host.diagnostics;
  const kinds = Object.keys(DIAGNOSTICS) as DiagnosticKind[];
  return kinds.map((kind) => ({ kind, count: counts[kind] ?? 0, last: last[kind] ?? null }));
}

/** Hits as news: those of one fault and one vCPU together, so that a flood stays small. */
export function faultNews(hits: readonly FaultHit[]): readonly FaultNews[] {
  const news = new Map<string, FaultNews>();
  for (const { id, kind, vcpu } of hits) {
    const key = `${id} ${vcpu}`;
    const before = news.get(key)?.hits ?? 0;
    news.set(key, { kind: "fault-injected", fault: id, what: kind, vcpu, hits: before + 1 });
  }
  return [...news.values()];
}

export const DIRTY_COMMANDS: { readonly [K in keyof DirtyCommands]: Row<K> } = {
  readFirmware: {
    now: (m, { table }) => (table === "madt" ? madt(m.kvm.vm) : hostDeviceTree(m.kvm.vm)),
  },
  writeNestedRegister: {
    now: (m, { vncr, register, value }) => {
      const its = NESTED_REGISTERS.find((name) => name === register);
      if (its === undefined) {
        throw new ServiceError("validation", `register is one of ${NESTED_REGISTERS.join(", ")}.`);
      }
      return m.kvm.nested.write(Number(vncr), its, value);
    },
  },
  storeNested: { now: (m, { vncr, ipa }) => m.kvm.nested.store(Number(vncr), Number(ipa)) },
  describeDirty: { now: dirtyView },
  changeDirty: { now: changeDirty },
  readHdbss: { now: hdbssView },
  armFault: { now: armFault },
  listFaults: { now: (m) => m.kvm.vm.host.faults.list() },
  disarmFault: { now: (m, { id }) => disarmFault(m, id) },
  describeDiagnostics: { now: diagnosticViews },
  readHacdbs: { now: hacdbsView },
};
