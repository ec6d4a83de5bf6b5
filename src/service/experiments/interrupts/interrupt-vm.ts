// Owns: the VM of one strategy of an interrupt workload: its guest, its controller, its irqfds, and
// a round of it, stop by stop. HTTP thread.
//
//   devices ─ eventfds, KVM_IRQ_LINE ─▶ VM: every vCPU until its stop ─▶ log, resamplefds ─┐
//      ▲────────────────────────────── acknowledged, quieted ─────────────────────────────┘
import type { Clock } from "../../../base/clock.js";
import { ServiceError } from "../../../base/errors.js";
import { parseU64 } from "../../../base/hex.js";
import { traceMask } from "../../../base/trace.table.js";
import type {
  EventfdTable,
  RunResult,
  Runtime,
  VmDefinition,
  VmHandle,
} from "../../../runtime/index.js";
import { type Counts, countsBetween } from "../cost.js";
import { type Call, SLOT } from "../load.js";
import type { Moment } from "./ack-check.js";
import { Devices, type Signal } from "./devices.js";
import {
  GIC_FRAME,
  guestCode,
  INSTRUCTIONS_PER_LOOP,
  LOG_BYTES,
  LOG_ENTRY_BYTES,
  logEntries,
  PLACE,
  RAM_BYTES,
  RECORD,
  registersOf,
} from "./guest-code.js";
import { hasNotifier, stopsOf } from "./spec.js";
import type { InterruptStrategy, InterruptWorkload } from "./types.js";

const PAGE = 4096; // tidy: of the host that runs it
const TARGET_GENERIC_V8 = 5;
const PSCI_0_2 = 4n;
const CORE = 0x6030_0000_0010_0000n;
const PC = CORE | 0x40n;
const VBAR_EL1 = 0x6030_0000_0013_c600n;
const DEVICE_TYPE = { 3: 7, 5: 16 } as const;
const GROUP = { address: 0, nrIrqs: 3, control: 4 } as const;
const ADDRESS = { dist: 2n, redist: 3n, irs: 6n } as const;
const PRIVATE_V3 = 32;
const IRQS_STEP = 32;
const NS_PER_S = 1e9;
const NS_PER_US = 1000;
const RESAMPLE = 2;
const SPI_LINE = 1 << 24;
const STRETCHES_MAX = 100_000;
/** Each makes some events, and a trace holds 32768. */
const INTERRUPTS_OF_A_TRACE = 1000;

interface Deps {
  readonly runtime: Runtime;
  readonly clock: Clock;
}

/** What a round gave, before it is judged. */
export interface RoundOutcome {
  readonly counts: Counts;
  /** Of a GICv5; null: it is none. */
  readonly v5: Counts | null;
  readonly raised: number;
  /** Deactivations behind which the device had been served. */
  readonly ends: readonly Moment[];
  readonly acks: readonly Moment[];
  readonly guestNs: number;
  readonly ms: number;
}

/** Sums of what guests keep of their SPIs, since the beginning. */
export interface Records {
  readonly served: number;
  readonly forNothing: number;
  readonly storms: number;
  readonly unserved: number;
}

interface Wire {
  readonly trigger: number;
  /** -1: nobody is told. */
  readonly resample: number;
}

export function settingsOf({ spiTracking, settings }: InterruptStrategy) {
  return spiTracking === null ? settings : { "vgicV5.spiTracking": spiTracking, ...settings };
}

function definitionOf(workload: InterruptWorkload, strategy: InterruptStrategy): VmDefinition {
  return {
    type: 0n,
    pageSize: PAGE,
    hostCpus: 0,
    seed: parseU64(workload.seed) ?? 1n,
    clock: { mode: "virtual", nsPerInstruction: 1, idle: "jump" },
    dirtyTracking: "write-protect",
    dirty: { settings: settingsOf(strategy), seedBugs: [] },
  };
}

function little(value: bigint | number, size: 4 | 8): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes.slice(0, size);
}

export class InterruptVm {
  readonly #handle: VmHandle;
  readonly #call: Call;
  readonly #eventfds: EventfdTable;
  readonly #clock: Clock;
  readonly #workload: InterruptWorkload;
  readonly #strategy: InterruptStrategy;
  readonly #devices: Devices;
  readonly #vcpus: readonly bigint[];
  readonly #wires = new Map<number, Wire>();
  readonly #ends: Moment[] = [];
  /** Interrupts that are due: rates are no whole numbers of a stop. */
  #due = 0;
  /** Interrupts since the trace was read last: it holds so many events and no more. */
  #sinceTrace = 0;

  private constructor(
    handle: VmHandle,
    workload: InterruptWorkload,
    strategy: InterruptStrategy,
    { runtime, clock }: Deps,
  ) {
    this.#handle = handle;
    this.#workload = workload;
    this.#strategy = strategy;
    this.#eventfds = runtime.eventfds;
    this.#clock = clock;
    this.#call = async (name, args) => (await handle.call(name, args)).value;
    this.#devices = new Devices(workload);
    this.#vcpus = Array.from({ length: workload.vcpus }, (_, at) => BigInt(at));
  }

  /** @throws KvmError, ServiceError as the VM's creation and its set-up */
  static async create(
    workload: InterruptWorkload,
    strategy: InterruptStrategy,
    deps: Deps,
  ): Promise<InterruptVm> {
    const handle = await deps.runtime.start(definitionOf(workload, strategy));
    const vm = new InterruptVm(handle, workload, strategy, deps);
    try {
      await vm.#build();
      return vm;
    } catch (error) {
      await vm.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    const wires = [...this.#wires.values()];
    this.#wires.clear();
    await this.#handle.close();
    for (const { trigger, resample } of wires) {
      for (const index of [trigger, resample]) {
        if (index >= 0) await this.#eventfds.close(index, false);
      }
    }
  }

  // ── before the guest runs ─────────────────────────────────────────────────────────────────────

  async #build(): Promise<void> {
    const object = { size: BigInt(RAM_BYTES), userspaceAddr: null, hugePages: false };
    const { userspaceAddr } = await this.#call("createMemoryObject", { ...object, backing: "ram" });
    await this.#call("setUserMemoryRegion", {
      ...{ slot: SLOT, flags: 0, guestPhysAddr: BigInt(PLACE.ram) },
      ...{ memorySize: BigInt(RAM_BYTES), userspaceAddr },
    });
    const { pieces, entryOf } = guestCode(this.#workload, this.#strategy.gic);
    for (const { gpa, bytes } of pieces) {
      await this.#call("writePhysicalMemory", { gpa: BigInt(gpa), bytes });
    }
    for (const vcpu of this.#vcpus) await this.#createVcpu(Number(vcpu), entryOf(Number(vcpu)));
    await this.#createController();
    for (const spi of Array.from({ length: this.#workload.spis }, (_, at) => at)) {
      await this.#wire(spi);
    }
    await this.#call("startTrace", { categories: traceMask(["irq"]) });
    // The controller is set up by the first vCPU; an interrupt before would find it closed.
    await this.#untilStop();
  }

  async #createVcpu(vcpu: number, entry: number): Promise<void> {
    await this.#call("createVcpu", { id: vcpu });
    await this.#call("vcpuInit", { vcpu, target: TARGET_GENERIC_V8, features: [PSCI_0_2] });
    const { exitsPerSecond } = this.#workload;
    const loops = Math.max(1, Math.round(NS_PER_S / exitsPerSecond / INSTRUCTIONS_PER_LOOP));
    const set = (reg: bigint, value: number) =>
      this.#call("setOneReg", { vcpu, reg, value: little(value, 8) });
    await set(PC, entry);
    await set(VBAR_EL1, PLACE.vectors);
    for (const [number, value] of registersOf(this.#workload, vcpu, loops)) {
      await set(CORE | BigInt(2 * number), value);
    }
  }

  async #createController(): Promise<void> {
    const { gic } = this.#strategy;
    const device = (await this.#call("createDevice", { type: DEVICE_TYPE[gic], flags: 0 })) ?? -1;
    const set = (group: number, attr: bigint, value: Uint8Array) =>
      this.#call("setDeviceAttr", { device, group, attr, value });
    const spis = Math.ceil(this.#workload.spis / IRQS_STEP) * IRQS_STEP;
    await set(GROUP.nrIrqs, 0n, little(gic === 3 ? spis + PRIVATE_V3 : spis, 4));
    if (gic === 3) {
      await set(GROUP.address, ADDRESS.dist, little(GIC_FRAME.dist, 8));
      await set(GROUP.address, ADDRESS.redist, little(GIC_FRAME.redist, 8));
    } else await set(GROUP.address, ADDRESS.irs, little(GIC_FRAME.irs, 8));
    await set(GROUP.control, 0n, new Uint8Array(0));
  }

  async #wire(spi: number): Promise<void> {
    const notified = hasNotifier(this.#workload, spi);
    if (!notified && !this.#devices.isByIrqfd(spi)) return;
    const trigger = this.#newEventfd();
    const wire = { trigger, resample: notified ? this.#newEventfd(trigger) : -1 };
    this.#wires.set(spi, wire);
    await this.#call("irqfd", {
      ...{ fd: { index: trigger, isEventfd: true }, gsi: spi, flags: notified ? RESAMPLE : 0 },
      ...{ resamplefd: { index: wire.resample, isEventfd: true }, drain: true, found: null },
    });
  }

  /** @param other goes back when there is none left */
  #newEventfd(other = -1): number {
    const index = this.#eventfds.create(0n, false);
    if (index >= 0) return index;
    if (other >= 0) void this.#eventfds.close(other, false);
    throw new ServiceError("internal", "no eventfd is free");
  }

  // ── a round ───────────────────────────────────────────────────────────────────────────────────

  async counts(): Promise<Counts> {
    return this.#call("counters", {});
  }

  /** What its GICv5 has counted since the beginning. */
  async #v5Counts(): Promise<Counts | null> {
    if (this.#strategy.gic !== 5) return null;
    return { ...(await this.#call("describeVgicV5", {})).counters };
  }

  async round(): Promise<RoundOutcome> {
    const [before, { virtualNs }] = [await this.counts(), await this.#call("describe", {})];
    const v5Before = await this.#v5Counts();
    const [begin, raised] = [this.#clock.monotonicMs(), this.#devices.raised];
    await this.#call("startTrace", { categories: traceMask(["irq"]) });
    const acks: Moment[] = [];
    const stops = stopsOf(this.#workload);
    for (let stop = 0; stop < stops; stop++) {
      this.#due += this.#workload.interruptsPerRound / stops;
      const count = Math.floor(this.#due);
      this.#due -= count;
      await this.#tell(this.#devices.raise(count));
      await this.#untilStop();
      this.#sinceTrace += count;
      if (this.#sinceTrace < INTERRUPTS_OF_A_TRACE && stop < stops - 1) continue;
      this.#sinceTrace = 0;
      acks.push(...(await this.#readTrace()));
    }
    const after = await this.#call("describe", {});
    const v5 = await this.#v5Counts();
    return {
      counts: countsBetween(before, await this.counts()),
      v5: v5 === null || v5Before === null ? null : v5Between(v5Before, v5),
      raised: this.#devices.raised - raised,
      ends: this.#ends.splice(0),
      acks,
      guestNs: after.virtualNs - virtualNs,
      ms: this.#clock.monotonicMs() - begin,
    };
  }

  async #tell(signals: readonly Signal[]): Promise<void> {
    const bytes = this.#devices.usedBytes();
    await this.#call("writePhysicalMemory", { gpa: BigInt(PLACE.used), bytes });
    for (const signal of signals) await this.#send(signal);
  }

  async #send(signal: Signal): Promise<void> {
    const { spi } = signal;
    if (signal.kind === "trigger") {
      await this.#eventfds.write(this.#wires.get(spi)?.trigger ?? -1, 1n, true);
      return;
    }
    const number = this.#strategy.gic === 3 ? spi + PRIVATE_V3 : spi;
    await this.#call("irqLine", { irq: SPI_LINE | number, level: signal.level });
  }

  /** Every vCPU comes to its next stop; devices that the guest quiets on the way are served. */
  async #untilStop(): Promise<void> {
    let left = this.#vcpus;
    for (let stretches = 0; left.length > 0; stretches++) {
      if (stretches > STRETCHES_MAX) throw new ServiceError("internal", "the guest never stops");
      const results = await this.#call("runVcpus", { vcpus: left });
      const again: bigint[] = [];
      for (const [at, result] of results.entries()) {
        const vcpu = left[at] ?? 0n;
        if (!(await this.#isStop(Number(vcpu), result))) again.push(vcpu);
      }
      left = again;
    }
    await this.#takeAcks();
  }

  /** @returns false: it goes on to its stop */
  async #isStop(vcpu: number, { errno, exitReason, mmio }: RunResult): Promise<boolean> {
    if (errno !== null || mmio === undefined) {
      const what = `vCPU ${vcpu} left its guest: ${errno ?? exitReason}`;
      throw new ServiceError("internal", what);
    }
    const place = Number(mmio.physAddr);
    if (place >= PLACE.quiet) {
      const signals = this.#devices.quiet((place - PLACE.quiet) / 4);
      for (const signal of signals) await this.#send(signal);
      return false;
    }
    const end = Number(new DataView(mmio.data.buffer, mmio.data.byteOffset).getBigUint64(0, true));
    const base = PLACE.logs + vcpu * LOG_BYTES;
    const length = Math.min(end - base, LOG_BYTES - (LOG_BYTES % LOG_ENTRY_BYTES));
    if (length > 0) {
      const bytes = await this.#call("readPhysicalMemory", { gpa: BigInt(base), length });
      this.#ends.push(...logEntries(bytes));
    }
    return true;
  }

  /** What resamplefds have heard goes to their devices. */
  async #takeAcks(): Promise<void> {
    for (const [spi, { resample }] of this.#wires) {
      if (resample < 0 || this.#eventfds.take(resample) === 0n) continue;
      const signals = this.#devices.acknowledged(spi, await this.#seen(spi));
      for (const signal of signals) await this.#send(signal);
    }
  }

  async #seen(spi: number): Promise<number> {
    const gpa = BigInt(PLACE.records + spi * RECORD.bytes + RECORD.seen);
    const bytes = await this.#call("readPhysicalMemory", { gpa, length: 4 });
    return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  }

  /** Acknowledgements since the trace was read last, of SPIs that have a notifier. */
  async #readTrace(): Promise<readonly Moment[]> {
    const file = await this.#call("readTrace", {});
    await this.#call("startTrace", { categories: traceMask(["irq"]) });
    const { traceEvents, otherData } = JSON.parse(new TextDecoder().decode(file)) as TraceFile;
    if (otherData.dropped > 0)
      throw new ServiceError("internal", "more happened than a trace holds");
    return traceEvents.flatMap(({ name, ts, args: { pin } }) => {
      const isAck = name === "kvm_ack_irq" && hasNotifier(this.#workload, pin ?? -1);
      return isAck ? [{ spi: pin ?? 0, ns: Math.round((ts ?? 0) * NS_PER_US) }] : [];
    });
  }

  /** What the guest has kept until now. */
  async records(): Promise<Records> {
    const { spis } = this.#workload;
    const length = spis * RECORD.bytes;
    const bytes = await this.#call("readPhysicalMemory", { gpa: BigInt(PLACE.records), length });
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const of = (spi: number, field: number) => view.getUint32(spi * RECORD.bytes + field, true);
    const sum = { served: 0, forNothing: 0, storms: 0, unserved: 0 };
    for (let spi = 0; spi < spis; spi++) {
      sum.served += of(spi, RECORD.taken) - of(spi, RECORD.forNothing);
      sum.forNothing += of(spi, RECORD.forNothing);
      sum.storms += of(spi, RECORD.storms);
      sum.unserved += (this.#devices.usedOf(spi) - of(spi, RECORD.seen)) >>> 0;
    }
    return sum;
  }
}

/** The longest list isn't a sum. */
function v5Between(before: Counts, after: Counts): Counts {
  return { ...countsBetween(before, after), maxListLen: after["maxListLen"] ?? 0 };
}

interface TraceFile {
  readonly otherData: { readonly dropped: number };
  readonly traceEvents: readonly {
    readonly name: string;
    readonly ts?: number;
    readonly args: { readonly pin?: number };
  }[];
}
