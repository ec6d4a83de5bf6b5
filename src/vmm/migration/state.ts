// Owns: a VM's state as parts: who saves what, in which order it comes back, and what is refused.
// VM thread.
//
//   held ─▶ jobs drained ─▶ parts          (KVM's own interface, then what it doesn't tell)
//   parts ─▶ kinds, versions, shape checked ─▶ each loaded in turn ─▶ held, as it was there
//
// Nothing in a part names a physical address: the other host has its own.
import { KvmError, ServiceError } from "../../base/errors.js";
import type { Saved } from "../../base/saved.js";
import {
  loadVmLatent,
  loadVmTime,
  type Op,
  showGic,
  type VmLatent,
  type VmTime,
  vmLatent,
  vmTime,
} from "../../kvm/index.js";
import type { Machine } from "../machine.js";
import type { LoadedEventfd, StateEventfd } from "./commands.js";
import { objectsOf } from "./memory-map.js";
import { BOARD_PART } from "./state-board.js";
import { createDevices, IRQCHIP_PART, type IrqchipState } from "./state-irqchip.js";
import { type LoadContext, mismatch, type StatePart } from "./state-part.js";
import { SHAPE_PART } from "./state-shape.js";
import { initVcpus, setVcpuAttributes, VCPUS_PART, type VcpusState } from "./state-vcpus.js";
import { STATE_VERSIONS } from "./state-versions.table.js";
import { eventfdsIn, WIRES_PART } from "./state-wires.js";

const VM_PART: StatePart<VmLatent & { readonly nested: Saved }> = {
  kind: "vm",
  version: STATE_VERSIONS.vm,
  save: (m) => ({ ...vmLatent(m.kvm.vm), nested: m.kvm.nested.save() }),
  check: ({ kvm: { vm } }) => (vm.hasRun ? "a vCPU has run" : null),
  load: ({ m }, { nested, ...latent }) => {
    loadVmLatent(m.kvm.vm, latent);
    m.kvm.nested.load(nested);
  },
};

/** Content of unbacked memory is computed as of the pages where it was first. */
const UNBACKED_PART: StatePart<{ readonly contentPages: readonly number[] }> = {
  kind: "unbacked",
  version: STATE_VERSIONS.unbacked,
  save: (m) => {
    const { unbacked } = m.kvm.vm.host;
    return { contentPages: unbackedOf(m).map(({ pa }) => unbacked.contentPage(pa)) };
  },
  load: ({ m }, { contentPages }) => {
    for (const [at, { pa, bytes }] of unbackedOf(m).entries()) {
      const content = contentPages[at];
      if (content !== undefined) m.kvm.vm.host.unbacked.setContentPage(pa, bytes, content);
    }
  },
};

function unbackedOf(m: Machine) {
  return objectsOf(m).filter(({ backing }) => backing === "unbacked");
}

const TIME_PART: StatePart<VmTime & { readonly hasRun: boolean }> = {
  kind: "time",
  version: STATE_VERSIONS.time,
  save: (m) => ({ ...vmTime(m.kvm.vm, m.held.ticks), hasRun: m.kvm.vm.hasRun }),
  load: ({ m }, { hasRun, ...time }) => {
    const { vm } = m.kvm;
    loadVmTime(vm, time);
    m.held.ticks = vm.ticks();
    m.held.time = vm.config.clock === "wall" ? time : null;
    vm.hasRun = hasRun;
  },
};

/** In the order in which they are loaded. */
const PARTS: readonly StatePart[] = [
  SHAPE_PART,
  VM_PART,
  VCPUS_PART,
  IRQCHIP_PART,
  WIRES_PART,
  UNBACKED_PART,
  BOARD_PART,
  TIME_PART,
];

/** Why a VM can't leave its host; null: it can. */
function whyNotMovable({ kvm, assigned }: Machine): string | null {
  const { vm } = kvm;
  if (vm.dead) return "it is dead";
  if (vm.missing !== null) return "pages of it are still on their way here";
  if (assigned.list().length > 0) return "a device of this host is assigned to it";
  if (vm.vfio.list().length > 0) return "it has VFIO files of this host";
  if (vm.mm.list().some(({ backing }) => backing === "device")) {
    return "it maps registers of a device of this host";
  }
  const isPrivate = vm.memfds.list().some(({ pages }) => pages.size > 0);
  return isPrivate ? "pages of a guest_memfd are reached by no memory object" : null;
}

/** @throws ServiceError "vm-not-movable" */
export function requireMovable(m: Machine): void {
  const why = whyNotMovable(m);
  if (why === null) return;
  throw new ServiceError("vm-not-movable", `The VM has to stay on this host: ${why}.`);
}

// ── save ──────────────────────────────────────────────────────────────────────────────────────

/** @throws ServiceError "vm-not-held", "vm-not-movable"; KvmError EFAULT, EINVAL: ITS tables */
export function saveState(m: Machine): {
  parts: readonly Saved[];
  eventfds: readonly StateEventfd[];
} {
  m.held.requireHeld("save its state");
  requireMovable(m);
  // What irqfds put off is an interrupt of this VM: nobody raises it again.
  m.kvm.vm.jobs.drain();
  const saved = PARTS.map(({ kind, version, save }) => ({ kind, version, data: save(m) }));
  const wires = WIRES_PART.save(m);
  return {
    parts: saved,
    eventfds: eventfdsIn(wires).map((local) => {
      const { eventfds } = m.kvm.vm;
      return { local, index: eventfds.outside(local), count: eventfds.peek(local) };
    }),
  };
}

// ── load ──────────────────────────────────────────────────────────────────────────────────────

/** Data of each part, by kind. @throws ServiceError "state-leftover", "state-mismatch" */
function sorted(parts: readonly Saved[]): ReadonlyMap<string, unknown> {
  const data = new Map<string, unknown>();
  for (const saved of parts) {
    const part = PARTS.find(({ kind }) => kind === saved.kind);
    if (part === undefined || data.has(saved.kind)) {
      const why = part === undefined ? "Nobody takes" : "There is a second";
      throw new ServiceError("state-leftover", `${why} part ${saved.kind} of the state.`);
    }
    if (saved.version !== part.version) {
      const known = `version ${part.version} is known, not ${saved.version}`;
      throw mismatch(saved.kind, known);
    }
    data.set(saved.kind, saved.data);
  }
  const missing = PARTS.find(({ kind }) => !data.has(kind));
  if (missing !== undefined) throw mismatch(missing.kind, "the state lacks it");
  return data;
}

/** What comes from another host may be anything, and so may what it leads to: no bug of ours. */
function refusalOf(kind: string, error: unknown): ServiceError {
  if (error instanceof ServiceError) return error;
  const errno = error instanceof KvmError ? `${error.errno}: ` : "";
  return mismatch(kind, `${errno}${error instanceof Error ? error.message : String(error)}`);
}

function guarded<T>(kind: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw refusalOf(kind, error);
  }
}

function* guardedOp(kind: string, act: () => Op<void> | void): Op<void> {
  try {
    const op = act();
    if (op !== undefined) yield* op;
  } catch (error) {
    throw refusalOf(kind, error);
  }
}

function checkAll(m: Machine, data: ReadonlyMap<string, unknown>): void {
  for (const part of [BOARD_PART as StatePart, ...PARTS]) {
    const { kind } = part;
    const why = guarded(kind, () => part.check?.(m, data.get(kind)) ?? null);
    if (why !== null) throw mismatch(kind, why);
  }
}

/**
 * Into a VM that was built alike, is held, and has its memory. What is refused before anything is
 * loaded changes nothing; a VM whose loading failed later is good for nothing but to be deleted.
 * @param eventfds the VM's numbers here, by those in the state; the same where none is given
 * @throws ServiceError "vm-not-held", "state-leftover", "state-mismatch"
 */
export function* loadState(
  m: Machine,
  parts: readonly Saved[],
  eventfds: readonly LoadedEventfd[],
): Op<null> {
  m.held.requireHeld("load a state");
  const data = sorted(parts);
  checkAll(m, data);
  const numbers = new Map(eventfds.map(({ local, fd }) => [local, fd.index]));
  const patient = new Set(eventfds.flatMap(({ mayWait, fd }) => (mayWait ? [fd.index] : [])));
  const context: LoadContext = {
    m,
    eventfd: (saved) => numbers.get(saved) ?? saved,
    mayWait: (eventfd) => patient.has(eventfd),
  };
  const wires = data.get(WIRES_PART.kind) as ReturnType<typeof WIRES_PART.save>;
  guarded(WIRES_PART.kind, () => {
    const closed = eventfdsIn(wires).find((fd) => !m.kvm.vm.eventfds.isOpen(context.eventfd(fd)));
    if (closed !== undefined) throw mismatch(WIRES_PART.kind, `eventfd ${closed} is not here`);
  });
  const vcpus = data.get(VCPUS_PART.kind) as VcpusState;
  const irqchip = data.get(IRQCHIP_PART.kind) as IrqchipState;
  guarded(VCPUS_PART.kind, () => initVcpus(m, vcpus));
  guarded(IRQCHIP_PART.kind, () => createDevices(m, irqchip));
  guarded(VCPUS_PART.kind, () => setVcpuAttributes(m, vcpus));
  // The first run decides it where there is no controller; here that was on another host.
  guarded(VM_PART.kind, () => {
    const { hasRun } = data.get(VM_PART.kind) as VmLatent;
    if (hasRun && !m.kvm.vm.irqchipInKernel) showGic(m.kvm.vm, "none");
  });
  for (const { kind, load } of PARTS) {
    yield* guardedOp(kind, () => load(context, data.get(kind)));
  }
  return null;
}
