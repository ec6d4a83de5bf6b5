// Owns: the fields that a distributor and redistributors have for each interrupt, as the guest and
// as userspace see them. VM thread.
// @source arch/arm64/kvm/vgic/vgic-mmio.c, vgic-mmio-v2.c, vgic-mmio-v3.c by behaviour;
//   interrupts.md 3.7, 3.8
import { IRQS_OF_ROW, type RegisterAt, WIDTH, type WordRegister, words } from "./register.js";
import { VGIC_NR_PRIVATE_IRQS, VGIC_NR_SGIS, VGIC_PRIORITY_MASK, type VgicIrq } from "./state.js";

type Get = (irq: VgicIrq, at: RegisterAt) => number;
type Set = (irq: VgicIrq, value: number, at: RegisterAt) => void;

export interface IrqField {
  readonly bits: 1 | 2 | 8;
  readonly get: Get;
  readonly set: Set;
  readonly userGet?: Get;
  readonly userSet?: Set;
}

const isV2Sgi = (irq: VgicIrq, { vgic }: RegisterAt): boolean =>
  irq.isSgi && vgic.dist.model === "v2";
const queue = (irq: VgicIrq, { vgic }: RegisterAt): void => vgic.delivery.queue(irq);
const flag = (is: boolean): number => (is ? 1 : 0);
const ignore: Set = () => {};

// ── what happens to one interrupt ─────────────────────────────────────────────────────────────

const setEnabled: Set = (irq, value, at) => {
  if (value === 0) return;
  irq.enabled = true;
  queue(irq, at);
};
/** It leaves its list when that is pruned next. */
const clearEnabled: Set = (irq, value) => {
  if (value !== 0) irq.enabled = false;
};

const setPending: Set = (irq, value, at) => {
  if (value === 0 || isV2Sgi(irq, at)) return;
  irq.pendingLatch = true;
  queue(irq, at);
};
/** The latch alone: a line that is high keeps a level interrupt pending. No one is notified. */
const clearPending: Set = (irq, value, at) => {
  if (value === 0 || isV2Sgi(irq, at)) return;
  const wasPending = irq.pending;
  irq.pendingLatch = false;
  if (wasPending && irq.isSpi) at.vgic.vm.onPendingCleared?.(irq.intid - VGIC_NR_PRIVATE_IRQS);
};

/** A GICv2 SGI's senders can't be told this way: the vCPU itself has to stand for them. */
const userSetPendingV2: Set = (irq, value, at) => {
  if (value === 0) return;
  irq.pendingLatch = true;
  if (isV2Sgi(irq, at)) irq.source |= 1 << at.cpu.index;
  queue(irq, at);
};
const userClearPendingV2: Set = (irq, value, at) => {
  if (value === 0) return;
  irq.pendingLatch = false;
  if (isV2Sgi(irq, at)) irq.source = 0;
};
/** The whole latch, whatever the configuration, so that the order of a restore doesn't matter. */
const userSetPendingV3: Set = (irq, value, at) => {
  irq.pendingLatch = value !== 0;
  if (irq.pendingLatch) queue(irq, at);
};

const setActive: Set = (irq, value, at) => {
  if (value === 0) return;
  irq.active = true;
  if (isV2Sgi(irq, at)) irq.activeSource = at.cpu.index;
  queue(irq, at);
};
const clearActive: Set = (irq, value, at) => {
  if (value === 0) return;
  irq.active = false;
  queue(irq, at);
};

const setConfig: Set = (irq, value) => {
  // SGIs are edges; the timers' code needs PPIs to be levels.
  if (irq.intid >= VGIC_NR_PRIVATE_IRQS) irq.config = (value & 2) !== 0 ? "edge" : "level";
};

const setGroup: Set = (irq, value, at) => {
  irq.group = value === 0 ? 0 : 1;
  queue(irq, at);
};

/** GICv2's IGROUPR came with revision 2; before, all was group 0. */
const hasGroups = ({ vgic }: RegisterAt): boolean => vgic.dist.implementationRev >= 2;

const setTargets: Set = (irq, value, at) => {
  if (irq.intid < VGIC_NR_PRIVATE_IRQS) return;
  const { cpus } = at.vgic.dist;
  irq.targets = value & ((1 << cpus.length) - 1);
  irq.target = cpus[irq.targets === 0 ? 0 : 31 - Math.clz32(irq.targets & -irq.targets)] ?? null;
  queue(irq, at);
};

// ── the fields ────────────────────────────────────────────────────────────────────────────────

const ENABLED: Get = (irq) => flag(irq.enabled);
const PENDING: Get = (irq) => flag(irq.pending);
const LATCH: Get = (irq) => flag(irq.pendingLatch);
const ACTIVE: Get = (irq) => flag(irq.active);

export const FIELD = {
  group: { bits: 1, get: (irq) => irq.group, set: setGroup },
  groupV2: {
    bits: 1,
    get: (irq, at) => (hasGroups(at) ? irq.group : 0),
    set: (irq, value, at) => {
      if (hasGroups(at)) setGroup(irq, value, at);
    },
    userSet: (irq, value, at) => {
      if (at.vgic.dist.v2GroupsUserWritable) setGroup(irq, value, at);
    },
  },
  enable: { bits: 1, get: ENABLED, set: setEnabled },
  disable: { bits: 1, get: ENABLED, set: clearEnabled },
  pendV2: { bits: 1, get: PENDING, set: setPending, userSet: userSetPendingV2 },
  unpendV2: { bits: 1, get: PENDING, set: clearPending, userSet: userClearPendingV2 },
  pendV3: { bits: 1, get: PENDING, set: setPending, userGet: LATCH, userSet: userSetPendingV3 },
  unpendV3: { bits: 1, get: PENDING, set: clearPending, userGet: () => 0, userSet: ignore },
  activate: { bits: 1, get: ACTIVE, set: setActive },
  deactivate: { bits: 1, get: ACTIVE, set: clearActive },
  priority: {
    bits: 8,
    get: (irq) => irq.priority,
    set: (irq, value) => {
      irq.priority = value & VGIC_PRIORITY_MASK;
    },
  },
  config: { bits: 2, get: (irq) => (irq.config === "edge" ? 2 : 0), set: setConfig },
  targets: { bits: 8, get: (irq) => irq.targets, set: setTargets },
  /** CPENDSGIR and SPENDSGIR: a byte of senders for each SGI. */
  sgiSourceSet: {
    bits: 8,
    get: (irq) => irq.source,
    set: (irq, value, at) => {
      irq.source |= value;
      if (irq.source === 0) return;
      irq.pendingLatch = true;
      queue(irq, at);
    },
  },
  sgiSourceClear: {
    bits: 8,
    get: (irq) => irq.source,
    set: (irq, value) => {
      irq.source &= ~value;
      if (irq.source === 0) irq.pendingLatch = false;
    },
  },
} as const satisfies Readonly<Record<string, IrqField>>;

// ── rows of them ──────────────────────────────────────────────────────────────────────────────

/** "all": banked ones and SPIs; "private": a redistributor's; "shared": SPIs; "sgi": the 16. */
type Reach = "all" | "private" | "shared" | "sgi";

const IRQS: Readonly<Record<Reach, number>> = {
  all: IRQS_OF_ROW,
  shared: IRQS_OF_ROW,
  private: VGIC_NR_PRIVATE_IRQS,
  sgi: VGIC_NR_SGIS,
};

/** A row that has this field of each interrupt. */
export function perIrq(name: string, offset: number, reach: Reach, field: IrqField): WordRegister {
  const { bits, get, set, userGet = get, userSet = set } = field;
  const first = reach === "shared" ? VGIC_NR_PRIVATE_IRQS : 0;
  const reader = (by: Get) => (at: RegisterAt) => readEach(at, bits, first, by);
  const writer = (by: Set) => (at: RegisterAt, value: number) => {
    writeEach(at, bits, first, (irq, part) => by(irq, part, at), value);
    return null;
  };
  return words(name, offset, (IRQS[reach] * bits) / 8, {
    bitsPerIrq: bits,
    widths: bits === 8 ? WIDTH.BYTE | WIDTH.WORD : WIDTH.WORD,
    read: reader(get),
    write: writer(set),
    userRead: reader(userGet),
    userWrite: writer(userSet),
  });
}

function irqAt({ vgic, cpu }: RegisterAt, intid: number, first: number): VgicIrq | null {
  return intid < first ? null : vgic.dist.irq(cpu, intid);
}

function readEach(at: RegisterAt, bits: number, first: number, get: Get): number {
  let value = 0;
  for (let n = 0; n < (8 * at.length) / bits; n++) {
    const irq = irqAt(at, at.intid + n, first);
    if (irq !== null) value |= get(irq, at) << (n * bits);
  }
  return value >>> 0;
}

function writeEach(
  at: RegisterAt,
  bits: number,
  first: number,
  set: (irq: VgicIrq, part: number) => void,
  value: number,
): void {
  const mask = (1 << bits) - 1;
  for (let n = 0; n < (8 * at.length) / bits; n++) {
    const irq = irqAt(at, at.intid + n, first);
    if (irq !== null) set(irq, (value >>> (n * bits)) & mask);
  }
}
