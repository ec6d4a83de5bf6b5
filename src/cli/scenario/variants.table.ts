// Owns: the variants of the restart that message 003 tells of, and what comes of each under each
// policy. Data only. CLI process.
// @source interrupts.md 3.9; docs/irqfd.md has the same table, and a test compares both

/** What a guest asks for. */
type Asked = "disable" | "clear" | "level" | "enable" | "reset";

export interface Variant {
  readonly title: string;
  /** Before the device is there, as firmware does. */
  readonly before: readonly Asked[];
  /** Behind the interrupt's injection. */
  readonly after: readonly Asked[];
  /** Whether the driver leaves its device alone the first time. */
  readonly isLazy: boolean;
}

export const VARIANTS = {
  A: { title: "a level when it is injected; the guest disables and clears it", before: ["level"], after: ["disable", "clear"], isLazy: false },
  A1: { title: "as A, then the guest enables it; its driver leaves the device alone once", before: ["level"], after: ["disable", "clear", "enable"], isLazy: true },
  A2: { title: "as A, then the driver resets the device and enables it", before: ["level"], after: ["disable", "clear", "reset", "enable"], isLazy: false },
  B: { title: "an edge when it is injected; the guest makes it a level and enables it", before: [], after: ["disable", "level", "enable"], isLazy: false },
  C: { title: "an edge when it is injected; the guest clears it, makes it a level and enables it", before: [], after: ["disable", "clear", "level", "enable"], isLazy: false },
} as const satisfies Record<string, Variant>;
export type VariantName = keyof typeof VARIANTS;
export const VARIANT_NAMES = Object.keys(VARIANTS) as VariantName[];

/** What KVM does with an interrupt that is cleared, by the settings that say so. */
export const POLICIES = {
  mainline: {},
  "ack-on-clear-pending": { "irq.ackOnClearPending": true },
  "spi-default-level": { "irq.spiDefaultLevelForIrqfd": true },
} as const;
export type Policy = keyof typeof POLICIES;

export type Outcome = "waiting" | "lost" | "recovered" | "served twice" | "for nothing" | "stuck";

/** What each outcome means. */
export const OUTCOMES: Readonly<Record<Outcome, string>> = {
  waiting: "pending, and delivered as soon as the guest enables it",
  lost: "pending nowhere, while the device asserts and VFIO has it masked: no interrupt ever again",
  recovered: "served once; the device is quiet, its next interrupt comes",
  "served twice": "served until the device is quiet; its next interrupt comes",
  "for nothing": "delivered once though the device is quiet; its next interrupt comes",
  stuck: "delivered, and yet the device isn't quiet, or its next interrupt doesn't come",
};

export interface Expected {
  readonly outcome: Outcome;
  /** Interrupts that the second guest took. */
  readonly taken: number;
  /** Acknowledgements that unmasked the device, all and those before any interrupt was taken. */
  readonly acks: number;
  readonly early: number;
}

export const EXPECTED: Readonly<Record<Policy, Readonly<Record<VariantName, Expected>>>> = {
  mainline: {
    A: { outcome: "waiting", taken: 0, acks: 0, early: 0 },
    A1: { outcome: "served twice", taken: 2, acks: 2, early: 0 },
    A2: { outcome: "for nothing", taken: 1, acks: 1, early: 0 },
    B: { outcome: "recovered", taken: 1, acks: 1, early: 0 },
    C: { outcome: "lost", taken: 0, acks: 0, early: 0 },
  },
  "ack-on-clear-pending": {
    A: { outcome: "waiting", taken: 0, acks: 1, early: 1 },
    A1: { outcome: "served twice", taken: 2, acks: 3, early: 1 },
    A2: { outcome: "for nothing", taken: 1, acks: 2, early: 1 },
    B: { outcome: "recovered", taken: 1, acks: 1, early: 0 },
    C: { outcome: "recovered", taken: 1, acks: 2, early: 1 },
  },
  "spi-default-level": {
    A: { outcome: "waiting", taken: 0, acks: 0, early: 0 },
    A1: { outcome: "served twice", taken: 2, acks: 2, early: 0 },
    A2: { outcome: "for nothing", taken: 1, acks: 1, early: 0 },
    B: { outcome: "recovered", taken: 1, acks: 1, early: 0 },
    C: { outcome: "recovered", taken: 1, acks: 1, early: 0 },
  },
};
