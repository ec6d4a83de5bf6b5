// Owns: a VM's trace: the newest events under the names of Linux's tracepoints. VM thread.
// It is no state of the VM: what it holds depends on who asked, and nothing depends on it.
// @source arch/arm64/kvm/trace_arm.h, trace_handle_exit.h, include/trace/events/kvm.h: names and
//   fields
import { TRACE_EVENTS_MAX } from "../base/limits.js";
import {
  TRACE_CATEGORIES,
  TRACE_CATEGORY_NAMES,
  type TraceCategory,
  type TraceEventName,
} from "../base/trace.table.js";
import type { Vcpu } from "./vcpu.js";

type Field = string | number | bigint | boolean;

export interface TraceEvent {
  readonly name: TraceEventName;
  readonly category: TraceCategory;
  /** Of the VM's clock. */
  readonly ns: number;
  /** When what ends here began: the stay in the guest, the ioctl. */
  readonly beganNs: number | null;
  /** null: no vCPU's. */
  readonly vcpu: number | null;
  readonly fields: Readonly<Record<string, Field>>;
}

const CATEGORY_OF = new Map<TraceEventName, readonly [TraceCategory, number]>(
  TRACE_CATEGORY_NAMES.flatMap((category, bit) =>
    TRACE_CATEGORIES[category].map((name) => [name, [category, 1 << bit]] as const),
  ),
);

export class Trace {
  /** Asked before anything else is done for a trace. */
  isOn = false;
  /** Bits of categories; see traceMask. */
  mask = 0;
  /** Events since it was started, those that gave way too. */
  recorded = 0;
  readonly #now: () => number;
  readonly #events: TraceEvent[] = [];
  /** When each vCPU that is in the guest went there. */
  readonly #inGuest = new Map<number, number>();

  /** @param now nanoseconds of the VM's clock */
  constructor(now: () => number) {
    this.#now = now;
  }

  get now(): number {
    return this.#now();
  }

  /** Begins anew: what was recorded before is gone. */
  start(mask: number): void {
    this.isOn = true;
    this.mask = mask;
    this.recorded = 0;
    this.#events.length = 0;
    this.#inGuest.clear();
  }

  /** What was recorded stays to be read. */
  stop(): void {
    this.isOn = false;
  }

  get dropped(): number {
    return this.recorded - this.#events.length;
  }

  /** Oldest first. */
  events(): readonly TraceEvent[] {
    const from = this.recorded % TRACE_EVENTS_MAX;
    if (this.dropped === 0) return this.#events;
    return [...this.#events.slice(from), ...this.#events.slice(0, from)];
  }

  /** Records an event if its category was asked for; the caller has looked at isOn. */
  add(
    name: TraceEventName,
    vcpu: number | null,
    fields: TraceEvent["fields"],
    beganNs: number | null = null,
  ): void {
    const row = CATEGORY_OF.get(name);
    if (row === undefined || (this.mask & row[1]) === 0) return;
    const event = { name, category: row[0], ns: this.#now(), beganNs, vcpu, fields };
    this.#events[this.recorded % TRACE_EVENTS_MAX] = event;
    this.recorded++;
  }

  /** A vCPU goes into the guest; a slice that follows a slice is no new entry. */
  enter(vcpu: Vcpu): void {
    if (this.#inGuest.has(vcpu.id)) return;
    this.#inGuest.set(vcpu.id, this.#now());
    this.add("kvm_entry", vcpu.id, at(vcpu));
  }

  /** A vCPU comes out of the guest, if it was there. @param ret TRAP with a class, or IRQ */
  leave(vcpu: Vcpu, ret: "TRAP" | "IRQ"): void {
    const began = this.#inGuest.get(vcpu.id);
    if (began === undefined) return;
    this.#inGuest.delete(vcpu.id);
    const esr = ret === "TRAP" && vcpu.a64 !== null ? { esr_ec: Number(vcpu.a64.esr >> 26n) } : {};
    this.add("kvm_exit", vcpu.id, { ret, ...esr, ...at(vcpu) }, began);
  }

  /** kvm_guest_fault: a stage-2 abort. */
  fault(vcpu: Vcpu, ipa: number): void {
    const { a64 } = vcpu;
    const syndrome = a64 === null ? {} : { hsr: a64.esr, hxfar: a64.far };
    this.add("kvm_guest_fault", vcpu.id, { ...at(vcpu), ...syndrome, ipa: BigInt(ipa) });
  }

  /** kvm_mmio. @param type as Linux tells it; a load without an answer yet has no value */
  mmio(vcpu: Vcpu, type: MmioType, gpa: bigint, data: Uint8Array): void {
    let val = 0n;
    for (let i = data.length - 1; i >= 0; i--) val = (val << 8n) | BigInt(data[i]!);
    this.add("kvm_mmio", vcpu.id, { type, len: data.length, gpa, val });
  }

  /** kvm_timer_update_irq, for each line of timers that changed; bits as in device_irq_level. */
  lines(vcpu: Vcpu, now: number, ppis: readonly number[]): void {
    const changed = now ^ vcpu.deviceIrqLevel;
    for (const bit of [0, 1]) {
      if (((changed >> bit) & 1) === 0) continue;
      const fields = { vcpu_id: vcpu.id, irq: ppis[bit] ?? 0, level: (now >> bit) & 1 };
      this.add("kvm_timer_update_irq", vcpu.id, fields);
    }
  }
}

export type MmioType = "read" | "write" | "read-unsatisfied";

/** A synthetic vCPU has no PC. */
function at({ a64 }: Vcpu): { readonly vcpu_pc?: bigint } {
  return a64 === null ? {} : { vcpu_pc: a64.pe.registers.pc };
}
