// What one simulated VM's dirty hardware is like and how KVM uses it, drawn from its seed: values
// under which no page may be lost, whatever they are combined with; and events that go wrong.
import type { Prng } from "../../../src/base/prng.js";
import type { SettingValue } from "../../../src/base/settings.js";
import type { Policies } from "../../../src/kvm/dirty/policy.table.js";
import type { ArmedFault, DirtyModel, FaultKind } from "../../../src/machine/index.js";
import type { Cleaning } from "../modes.table.js";

export type DrawnFault = Omit<ArmedFault, "id">;
type Settings = Record<string, SettingValue>;

export interface DrawnHardware {
  /** Of the definition. */
  readonly settings: Readonly<Settings>;
  readonly faults: readonly DrawnFault[];
  /** Order of the buffers when HDBSS is turned on. */
  readonly order: number;
  /** Capability that turns it on; null: KVM does by itself. */
  readonly cap: number | null;
  /** Keys that stay as they are. */
  readonly pinned: readonly string[];
  /** The last vCPU comes when HDBSS is on already. */
  readonly isLastLate: boolean;
  /** CPUs whose HACDBSIRQ is not set up. */
  readonly downCpus: readonly number[];
}

/** What a planted defect needs to be visible; the same for runs without it. */
export interface Pins {
  readonly settings?: Readonly<Record<string, SettingValue>>;
  /** These events alone go wrong, again and again; none for an empty list. */
  readonly faults?: readonly FaultKind[];
  /** The last vCPU comes late. */
  readonly isLastLate?: true;
  readonly downCpus?: readonly number[];
}

type Choices<T> = { readonly [K in keyof T]?: readonly T[K][] };

const CAP_ARM = 502;
const CAP_GENERIC = 503;

/** Silicon that may be any of these; may change while the VM lives. */
const MODEL: Choices<DirtyModel> = {
  "hardware.hdbssAbortReport": ["fsc", "sync"],
  "hardware.gpfReport": ["fsc", "sync"],
  "hardware.zeroAhead": [false, true],
  "hardware.weakHdbssOrdering": [false, true],
  "hardware.lookahead": [0, 0, 1, 8, 512],
  "hardware.delayedFetch": [false, true],
  "hardware.terminatorErr": ["ipahacf", "ipaf"],
  "hardware.spuriousDirty": [false, true],
  "hardware.hacdbsEntriesPerStep": [1, 3, 16, 64, 512],
};

/** Safe values that may change while the VM lives. What waits for nothing is late, not lost. */
const ALWAYS: Choices<Policies> = {
  "hdbss.size": [-1, 0, 0, 1],
  "hdbss.alignCheck": ["check", "mask", "trust"],
  "hdbss.dbm": [
    "on-write-fault-while-logging",
    "all-writable-from-start",
    "pte-sized-from-start",
    "hafdbs-when-not-logging",
  ],
  "hdbss.split": ["forced-page-size", "user-chunk", "none", "expand-ttwl"],
  "hdbss.flushAt": [
    "put+request+fault",
    "every-exit",
    "fault-sets-request",
    "preserve-index-on-put",
  ],
  "hdbss.sync": ["wait-drain", "wait-drain", "request-nowait", "request-wait-ack", "kick-async"],
  "hdbss.error": ["conservative", "conservative", "efault"],
  "hdbss.maxErrors": [0, 1, 5, 1000],
  "hdbss.savedState": ["fields", "raw-registers"],
  "hdbss.ring": ["reserve"],
  "hacdbs.quantumUs": [1, 10, 1000],
  "hacdbs.timeoutUs": [1, 20, 100_000, 100_000],
  "clear.onError": ["skip-and-software", "abandon"],
};

const AT_CREATION: Choices<Policies & DirtyModel> = {
  "hardware.unknownAtReset": [false, true],
  "hdbss.enableBy": [
    "ioctl-v3",
    "ioctl-v3",
    "ioctl-v2",
    "auto-first-logging-slot",
    "auto-buffers-at-vcpu-create",
  ],
  "hdbss.capShape": ["arm-specific", "arm-specific", "arch-generic"],
  "hdbss.sizeUnit": ["order", "bytes"],
  "dirtyLog.eagerSplit": ["by-capability", "forced-page-size"],
  "hacdbs.madtLength": ["with-hacdbsirq", "with-hacdbsirq", "short"],
};

const POLL: Choices<Policies> = {
  "hacdbs.use": ["with-hdbss", "with-hdbss", "with-dbm"],
  "hacdbs.completion": ["poll-quantum", "poll-tight"],
};
const IRQ: Choices<Policies> = {
  "hacdbs.use": ["with-hdbss", "with-hdbss", "with-dbm"],
  "hacdbs.completion": ["irq-wfi", "irq-or-poll"],
};
/** By who cleans: may change at any time. */
const CLEANING: Readonly<Record<Cleaning, Choices<Policies>>> = {
  software: { "hacdbs.use": ["off"] },
  poll: POLL,
  irq: IRQ,
  async: { ...POLL, "clear.mode": ["async-run"], "clear.deferMaxUs": [1, 1000, 1_000_000] },
};
const DISCOVERY: Readonly<Record<Cleaning, readonly Policies["hacdbs.discovery"][]>> = {
  software: ["none", "acpi"],
  poll: ["none", "acpi", "dt"],
  irq: ["acpi", "acpi", "dt", "dt", "none"],
  async: ["none", "acpi", "dt"],
};

const FAULTS: readonly FaultKind[] = [
  "hdbss-append-abort",
  "hdbss-append-gpf",
  "hdbss-alloc",
  "split-alloc",
  "kick-delayed",
];
const CLEANING_FAULTS: readonly FaultKind[] = [
  "hacdbs-structf",
  "hacdbs-ipaf",
  "hacdbs-ipahacf",
  "hacdbs-irq-lost",
  "hacdbs-irq-spurious",
  "hacdbs-alloc",
];

function drawAll<T>(prng: Prng, choices: Choices<T>): Settings {
  const settings: Settings = {};
  for (const [key, values] of Object.entries(choices)) {
    settings[key] = prng.pick(values as readonly SettingValue[]);
  }
  return settings;
}

function drawFault(prng: Prng, kind: FaultKind, vcpus: number): DrawnFault {
  return {
    kind,
    nth: 1 + prng.below(prng.pick([4, 40, 400])),
    vcpu: prng.below(3) === 0 ? prng.below(vcpus) : null,
    times: prng.below(3) === 0 ? null : 1 + prng.below(6),
    delay: 1 + prng.below(150),
  };
}

export function drawHardware(
  prng: Prng,
  clean: Cleaning,
  vcpus: number,
  pins: Pins,
): DrawnHardware {
  const settings: Settings = {
    ...drawAll(prng, MODEL),
    ...drawAll(prng, ALWAYS),
    ...drawAll(prng, AT_CREATION),
    ...drawAll(prng, CLEANING[clean]),
    "hacdbs.discovery": prng.pick(DISCOVERY[clean]),
    ...pins.settings,
  };
  const by = settings["hdbss.enableBy"];
  const kinds = clean === "software" ? FAULTS : [...FAULTS, ...CLEANING_FAULTS];
  let faults: DrawnFault[] = [];
  if (prng.below(4) > 0) {
    for (const kind of kinds) {
      // Without its buffer such a vCPU does not come into being.
      const isCreation = kind === "hdbss-alloc" && by === "auto-buffers-at-vcpu-create";
      if (prng.below(2) === 0 && !isCreation) faults.push(drawFault(prng, kind, vcpus));
    }
  }
  if (pins.faults !== undefined) {
    faults = pins.faults.map((kind) => ({ ...drawFault(prng, kind, vcpus), times: null }));
  }
  const isOurs = by === "ioctl-v3" || by === "ioctl-v2";
  const cap = settings["hdbss.capShape"] === "arch-generic" ? CAP_GENERIC : CAP_ARM;
  // Version 2 has no order 0: that turns it off.
  const order = prng.pick(by === "ioctl-v2" ? [1, 1, 2] : [0, 0, 0, 1, 3]);
  const canFail = faults.some(({ kind }) => kind === "hdbss-alloc");
  const isLast = vcpus > 1 && !canFail && (prng.below(4) === 0 || pins.isLastLate === true);
  const isDown = clean === "irq" && prng.below(4) === 0;
  return {
    settings,
    faults,
    order,
    cap: isOurs ? cap : null,
    pinned: Object.keys(pins.settings ?? {}),
    isLastLate: isLast,
    downCpus: pins.downCpus ?? (isDown ? [0] : []),
  };
}

/** Some settings as they shall be from now on. */
export function drawChanges(
  prng: Prng,
  clean: Cleaning,
  pinned: readonly string[],
): Readonly<Settings> {
  const all = {
    ...drawAll(prng, MODEL),
    ...drawAll(prng, ALWAYS),
    ...drawAll(prng, CLEANING[clean]),
  };
  const few = 1 + prng.below(4);
  const keys = Object.keys(all).filter((key) => !pinned.includes(key));
  const changes: Settings = {};
  for (let n = 0; n < few; n++) {
    const key = prng.pick(keys);
    changes[key] = all[key]!;
  }
  return changes;
}
