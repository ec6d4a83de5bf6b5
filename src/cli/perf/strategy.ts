// Owns: the ways of dirty tracking that are compared, by name. CLI process.
import { Failure } from "../failure.js";
import type { Settings } from "../options.js";

export interface Strategy {
  /** As it was asked for. */
  readonly name: string;
  readonly tracking: "write-protect" | "dbm";
  /** Entries of each vCPU's dirty ring, in place of the log; 0 without. */
  readonly ringEntries: number;
  /** Order of the HDBSS buffers that KVM_ENABLE_CAP asks for; null without HDBSS. */
  readonly hdbssOrder: number | null;
  /** Settings of the VM's dirty hardware and of KVM's use of it. */
  readonly settings: Settings;
}

interface Kind {
  readonly says: string;
  /** What a number behind the name means; absent: there is none. */
  readonly argument?: { readonly name: string; readonly max: number; readonly otherwise: number };
  of(argument: number): Partial<Omit<Strategy, "name">>;
}

const KINDS: Readonly<Record<string, Kind>> = {
  "write-protect": {
    says: "a fault at the first store to a clean page",
    of: () => ({}),
  },
  dbm: {
    says: "the MMU sets the dirty state, KVM scans for it",
    of: () => ({ tracking: "dbm" }),
  },
  "dbm+hacdbs": {
    says: "and HACDBS cleans what CLEAR names",
    of: () => ({ tracking: "dbm", settings: { "hacdbs.use": "with-dbm" } }),
  },
  "dirty-ring": {
    says: "faults as write-protect, pages in a ring per vCPU",
    argument: { name: "ENTRIES", max: 65_536, otherwise: 65_536 },
    of: (ringEntries) => ({ ringEntries }),
  },
  hdbss: {
    says: "hardware logs pages in a buffer of 4 KiB times 2 to the ORDER per vCPU",
    argument: { name: "ORDER", max: 9, otherwise: 0 },
    of: (hdbssOrder) => ({ hdbssOrder, settings: { "hacdbs.use": "off" } }),
  },
  "hdbss+hacdbs": {
    says: "and HACDBS cleans them",
    argument: { name: "ORDER", max: 9, otherwise: 0 },
    of: (hdbssOrder) => ({ hdbssOrder, settings: { "hacdbs.use": "with-hdbss" } }),
  },
};

const STRATEGY_NAMES = Object.keys(KINDS);

/** Lines for the usage. */
export const STRATEGY_HELP = Object.entries(KINDS).map(([name, { argument, says }]) => {
  const call = argument === undefined ? name : `${name}[:${argument.name}]`;
  return `${call.padEnd(24)} ${says}`;
});

/** Every kind once. */
export function allStrategies(): readonly Strategy[] {
  return STRATEGY_NAMES.map(strategyOf);
}

const PLAIN = {
  tracking: "write-protect",
  ringEntries: 0,
  hdbssOrder: null,
  settings: {},
} as const;

/** @param text as `dirty-ring:4096` */
export function strategyOf(text: string): Strategy {
  const [name = "", argument, ...more] = text.split(":");
  const kind = Object.hasOwn(KINDS, name) ? KINDS[name] : undefined;
  if (kind === undefined || more.length > 0) {
    throw new Failure(`There is no strategy ${text}; there are ${STRATEGY_NAMES.join(", ")}.`);
  }
  const { argument: wanted } = kind;
  if (argument === undefined) return { ...PLAIN, name: text, ...kind.of(wanted?.otherwise ?? 0) };
  const value = /^[0-9]{1,9}$/.test(argument) ? Number(argument) : Number.NaN;
  if (wanted === undefined || !(value <= wanted.max)) {
    const fits = wanted === undefined ? "no number" : `${wanted.name} up to ${wanted.max}`;
    throw new Failure(`${name} takes ${fits}, not ${argument}.`);
  }
  return { ...PLAIN, name: text, ...kind.of(value) };
}
