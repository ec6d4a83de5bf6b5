// Owns: what happened in a scenario, as lines and pictures tell it. CLI process.
//
//   our steps: host, device, the guest's own accesses ─┐
//   the VM's trace: KVM and VFIO                      ─┴─▶ events, in the order of their causes
import type { TraceRow } from "../../generated/client.js";

/** From the hardware up to the guest. */
export const LANES = ["device", "vfio", "kvm", "guest"] as const;
export type Lane = (typeof LANES)[number];

/** What is different from here on. */
interface Change {
  /** The device's line. */
  readonly isHigh?: boolean;
  /** The device's interrupt on the host. */
  readonly isMasked?: boolean;
}

export interface SceneEvent {
  /** Which of the VMs, by creation. */
  readonly vm: number;
  /** Of that VM's clock; null: outside of it. */
  readonly us: number | null;
  /** null: it concerns all of them. */
  readonly from: Lane | null;
  /** The same as `from`: it stays there. */
  readonly to: Lane | null;
  readonly text: string;
  /** The register, or the tracepoint with its fields. */
  readonly detail: string;
  /** A part of a set-up that no picture needs. */
  readonly isSetUp: boolean;
  readonly change: Change;
}

export type Told = Pick<SceneEvent, "text"> & Partial<Omit<SceneEvent, "text" | "vm">>;

const NOTHING: Change = {};

export function eventOf(vm: number, told: Told): SceneEvent {
  const { from = null, us = null, detail = "", isSetUp = false, change = NOTHING } = told;
  return { vm, us, from, to: told.to ?? from, text: told.text, detail, isSetUp, change };
}

/** What an event of the trace means; none: another event says it. */
type Meaning = Pick<Told, "from" | "to" | "text" | "change">;

/** A GICv5's without its type. */
const idOf = (irq: unknown): number => Number(irq) % 2 ** 24;
const isOne = (value: unknown): boolean => value === 1;

const MEANINGS: Readonly<Record<string, (args: TraceRow["args"]) => Meaning>> = {
  vfio_automasked_irq_handler: () => ({
    from: "device",
    to: "vfio",
    text: "interrupt: masked",
    change: { isMasked: true },
  }),
  vfio_platform_unmask: () => ({
    from: "kvm",
    to: "vfio",
    text: "resamplefd: unmasked",
    change: { isMasked: false },
  }),
  kvm_set_irq: ({ gsi, level }) =>
    isOne(level)
      ? { from: "vfio", to: "kvm", text: `trigger eventfd: GSI ${gsi} is 1` }
      : { from: "kvm", text: `GSI ${gsi} is 0` },
  vgic_update_irq_pending: ({ irq, level }) => ({
    from: "kvm",
    text: isOne(level) ? `SPI ${idOf(irq)} is pending` : `SPI ${idOf(irq)}: line low`,
  }),
  kvm_ack_irq: ({ pin }) => ({ from: "kvm", text: `acknowledged: pin ${pin}` }),
};

const isInstant = ({ ph }: TraceRow): boolean => ph === "i";

/** Of an answer of GET …/trace. @returns what no earlier answer had */
export function newRows(rows: readonly TraceRow[], seen: number): readonly TraceRow[] {
  return rows.filter(isInstant).slice(seen);
}

function detailOf({ name, args }: TraceRow): string {
  const fields = Object.entries(args).map(([field, value]) => `${field}=${value}`);
  return [name, ...fields].join(" ");
}

/** @returns null for what our own step says already: the guest's access */
export function traced(vm: number, row: TraceRow): SceneEvent | null {
  const meaning = MEANINGS[row.name]?.(row.args);
  if (meaning === undefined) return null;
  return eventOf(vm, { ...meaning, us: row.ts ?? null, detail: detailOf(row) });
}
