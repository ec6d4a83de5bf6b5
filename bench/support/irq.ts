// Owns: a VM with a vGIC in the bench's own thread, whose vCPUs sleep in WFI and take interrupts by
// a handler: what KVM and the PE cost by themselves. Bench process.
//
//   vCPU n ─ prologue (its part of the controller) ─ WFI ◀─ handler: IAR, count, work, EOI
import { EventfdCounters } from "../../dist/base/eventfd-counters.js";
import { MemoryBudget } from "../../dist/base/memory-budget.js";
import {
  type Command,
  type CommandArgs,
  type CommandName,
  type CommandResult,
  createInstance,
} from "../../dist/vmm/index.js";
import * as a64 from "../../test/support/a64.js";
import { eoir, iar, type Model, msrIcc } from "../../test/support/irq-code.js";
import { ADDR_IRS, exiting, handlerV5, IRS, setUpV5, V5_TYPE } from "./gicv5.js";
import { Pending } from "./inline.js";

const RAM = 0x4000_0000;
const RAM_BYTES = 2 ** 21;
/** Code of each vCPU: prologue and loop, then its vectors. */
const CPU_BYTES = 0x4000;
const VECTORS = 0x1000; // tidy: an offset in the guest's memory
const IRQ_VECTOR = 0x280;
const DIST = 0x800_0000;
const GICC = 0x801_0000;
const REDIST = 0x80a_0000;
const REDIST_BYTES = 0x2_0000;
const SGI_FRAME = 0x1_0000;
const GICD = {
  ...{ CTLR: 0, ISENABLER: 0x100, IPRIORITYR: 0x400, ITARGETSR: 0x800, ICFGR: 0xc00 },
  ...{ SGIR: 0xf00, IROUTER: 0x6000 },
};
const DEVICE_ADDR = 0x7000_0000;
const FIRST_SPI = 40;
const SGI = 3;
const [COUNT, TAKEN, SEND, LEFT, OWN_GICC, DEVICE] = [19, 21, 22, 24, 26, 28];

const TYPE = { v2: 5, v3: 7, v5: V5_TYPE } as const;
const GROUP = { ADDR: 0, NR_IRQS: 3, CTRL: 4 } as const;
const NR_IRQS = 128;
/** GSI 0 of a GICv2 or v3 is their first SPI; a GICv5's SPIs begin at 0. */
const FIRST_GSI = FIRST_SPI - 32;
const PSCI_0_2 = 4n;
const CORE = 0x6030_0000_0010_0000n;
const PC = CORE | 0x40n;
const VBAR_EL1 = 0x6030_0000_0013_c600n;
const RESAMPLE = 2;

/**
 * What a vCPU's handler does between the acknowledgement and the end. "exits": no interrupt is
 * taken, each vCPU leaves the guest `hops` times.
 */
type Work = "nothing" | "device-store" | "next-sgi" | "exits";

export interface IrqGuestOptions {
  readonly model: Model | "v5";
  readonly vcpus: number;
  readonly config: "edge" | "level";
  readonly work: Work;
  /** "next-sgi": after so many interrupts vCPU 0 stores to its device instead of sending on. */
  readonly hops?: number;
  readonly settings?: Readonly<Record<string, string>>;
  readonly nrIrqs?: number;
}

type ClassicOptions = IrqGuestOptions & { readonly model: Model };

function isV5(options: IrqGuestOptions): options is IrqGuestOptions & { readonly model: "v5" } {
  return options.model === "v5";
}

function little(value: bigint | number, size: 4 | 8): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes.slice(0, size);
}

const poke = (address: number, value: number, store = a64.strw) => [
  ...a64.mov(1, BigInt(address)),
  ...a64.mov(0, BigInt(value)),
  store(0, 1),
];

/** Its SPI as Linux sets one up: edge or level, delivered here, enabled; and its SGIs. */
function ownInterrupts({ model, config }: ClassicOptions, cpu: number): number[] {
  const spi = FIRST_SPI + cpu;
  const word = Math.floor(spi / 32);
  const isV3 = model === "v3";
  return [
    // Each writes all of the word that its SPI shares with others; they say the same.
    ...poke(DIST + GICD.ICFGR + 4 * Math.floor(spi / 16), config === "edge" ? 0xaaaa_aaaa : 0),
    ...poke(DIST + GICD.IPRIORITYR + spi, 0xa0, a64.strb),
    ...(isV3
      ? poke(DIST + GICD.IROUTER + 8 * spi, cpu)
      : poke(DIST + GICD.ITARGETSR + spi, 1 << cpu, a64.strb)),
    ...poke(DIST + GICD.ISENABLER + 4 * word, 1 << (spi % 32)),
    ...(isV3
      ? poke(REDIST + cpu * REDIST_BYTES + SGI_FRAME + GICD.ISENABLER, 0xffff)
      : poke(DIST + GICD.ISENABLER, 0xffff)),
  ];
}

function prologueV5({ config }: IrqGuestOptions, cpu: number): number[] {
  const registers = [...a64.mov(COUNT, 0n), ...a64.mov(DEVICE, BigInt(DEVICE_ADDR))];
  return [...setUpV5(FIRST_GSI + cpu, cpu, config), ...registers];
}

function prologue(options: ClassicOptions, cpu: number): number[] {
  const { model, vcpus, hops = 0 } = options;
  const next = (cpu + 1) % vcpus;
  const isV3 = model === "v3";
  // SGI1R: INTID at 24, target list below; GICD_SGIR: target list at 16, INTID below.
  const send = isV3 ? (BigInt(SGI) << 24n) | (1n << BigInt(next)) : (1n << BigInt(16 + next)) | 3n;
  const cpuInterface = isV3
    ? [
        ...[...a64.mov(0, 0xf0n), msrIcc("ICC_PMR_EL1", 0)],
        ...[...a64.mov(0, 1n), msrIcc("ICC_IGRPEN1_EL1", 0), a64.ISB],
      ]
    : [...poke(GICC + 4, 0xf0), ...poke(GICC, 1)];
  return [
    ...ownInterrupts(options, cpu),
    ...cpuInterface,
    ...(cpu === 0 ? poke(DIST + GICD.CTLR, isV3 ? 0x12 : 1) : []),
    ...a64.mov(COUNT, 0n),
    ...a64.mov(SEND, send),
    ...a64.mov(LEFT, cpu === 0 ? BigInt(hops) : 2n ** 60n),
    ...a64.mov(OWN_GICC, BigInt(GICC)),
    ...a64.mov(DEVICE, BigInt(DEVICE_ADDR)),
  ];
}

function sendNext({ model }: ClassicOptions): number[] {
  if (model === "v3") return [msrIcc("ICC_SGI1R_EL1", SEND), a64.ISB];
  return [...a64.mov(1, BigInt(DIST + GICD.SGIR)), a64.strw(SEND, 1)];
}

function handler(options: ClassicOptions): number[] {
  const { model, work, hops = 0 } = options;
  const send = sendNext(options);
  const begin = [...iar(model, TAKEN), a64.add(COUNT, COUNT, 1)];
  const end = eoir(model, TAKEN);
  const store = a64.strw(TAKEN, DEVICE);
  if (work === "nothing") return [...begin, ...end, a64.ERET];
  if (work === "device-store") return [...begin, store, ...end, a64.ERET];
  return [
    ...begin,
    ...end,
    a64.subs(LEFT, LEFT, 1),
    a64.beq(send.length + 2),
    ...send,
    a64.ERET,
    ...a64.mov(LEFT, BigInt(hops)),
    store,
    a64.ERET,
  ];
}

/** Everything of a vCPU: what it does at first and for ever, and its handler. */
function codeOf(options: IrqGuestOptions, cpu: number) {
  const sleep = [a64.daifclr(2), a64.WFI, a64.b(-1)];
  if (options.work === "exits") return { loop: exiting(options.hops ?? 1, DEVICE_ADDR), taken: [] };
  if (!isV5(options)) {
    const classic = options as ClassicOptions;
    return { loop: [...prologue(classic, cpu), ...sleep], taken: handler(classic) };
  }
  const store = options.work === "device-store" ? [a64.strw(TAKEN, DEVICE)] : [];
  const taken = handlerV5(TAKEN, [a64.add(COUNT, COUNT, 1), ...store]);
  return { loop: [...prologueV5(options, cpu), ...sleep], taken };
}

type Run = Pending<CommandResult<"run">>;

export class IrqGuest {
  readonly instance: ReturnType<typeof createInstance>;
  readonly #eventfds = EventfdCounters.create(256);
  readonly #options: IrqGuestOptions;
  readonly #runs: Run[] = [];

  constructor(options: IrqGuestOptions) {
    this.#options = options;
    this.instance = createInstance(
      {
        ...{ type: 40n, pageSize: 4096, hostCpus: 0, seed: 1n, dirtyTracking: "write-protect" },
        clock: { mode: "virtual", nsPerInstruction: 1, idle: "jump" },
        dirty: { settings: options.settings ?? {}, seedBugs: [] },
      },
      {
        budget: MemoryBudget.create(2 ** 30),
        eventfds: this.#eventfds,
        schedule: "round-robin",
      },
    );
    const userspaceAddr = this.call("createMemoryObject", {
      ...{ size: BigInt(RAM_BYTES), userspaceAddr: null, backing: "ram", hugePages: false },
    }).userspaceAddr;
    this.call("setUserMemoryRegion", {
      ...{ slot: 0, flags: 0, guestPhysAddr: BigInt(RAM), memorySize: BigInt(RAM_BYTES) },
      userspaceAddr,
    });
    for (let cpu = 0; cpu < options.vcpus; cpu++) this.#createCpu(cpu);
    this.#createController();
    for (let cpu = 0; cpu < options.vcpus; cpu++) this.#start(cpu);
    this.settle();
  }

  call<K extends CommandName>(name: K, args: CommandArgs<K>): CommandResult<K> {
    const pending = this.#begin(name, args);
    this.instance.advance(Number.POSITIVE_INFINITY, () => pending.done);
    return pending.value;
  }

  #begin<K extends CommandName>(name: K, args: CommandArgs<K>): Pending<CommandResult<K>> {
    const pending = new Pending<CommandResult<K>>();
    this.instance.submit({ name, args } as Command, (outcome) => pending.settle(outcome));
    return pending;
  }

  #createCpu(cpu: number): void {
    const options = this.#options;
    const base = RAM + cpu * CPU_BYTES;
    const { loop, taken } = codeOf(options, cpu);
    this.call("createVcpu", { id: cpu });
    this.call("vcpuInit", { vcpu: cpu, target: 5, features: [PSCI_0_2] });
    this.#words(base, loop);
    this.#words(base + VECTORS + IRQ_VECTOR, taken);
    this.#setRegister(cpu, PC, BigInt(base));
    this.#setRegister(cpu, VBAR_EL1, BigInt(base + VECTORS));
  }

  #words(gpa: number, words: readonly number[]): void {
    this.call("writePhysicalMemory", { gpa: BigInt(gpa), bytes: a64.bytesOf(words) });
  }

  #setRegister(vcpu: number, reg: bigint, value: bigint): void {
    this.call("setOneReg", { vcpu, reg, value: little(value, 8) });
  }

  #createController(): void {
    const { model, nrIrqs = NR_IRQS } = this.#options;
    const device = this.call("createDevice", { type: TYPE[model], flags: 0 }) ?? -1;
    const set = (group: number, attr: bigint, value: Uint8Array) =>
      this.call("setDeviceAttr", { device, group, attr, value });
    set(GROUP.NR_IRQS, 0n, little(nrIrqs, 4));
    if (model === "v5") set(GROUP.ADDR, ADDR_IRS, little(IRS, 8));
    else {
      const [dist, other] = model === "v2" ? [0n, 1n] : [2n, 3n];
      set(GROUP.ADDR, dist, little(DIST, 8));
      set(GROUP.ADDR, other, little(model === "v2" ? GICC : REDIST, 8));
    }
    set(GROUP.CTRL, 0n, new Uint8Array(0));
  }

  #start(cpu: number): void {
    const args = { vcpu: cpu, immediateExit: false, mmioData: null };
    this.#runs[cpu] = this.#begin("run", args);
  }

  /** Until every vCPU sleeps or has left. */
  settle(): void {
    const state = this.instance.advance(Number.POSITIVE_INFINITY, () => false);
    if (state !== "idle") throw new Error("the guest never sleeps");
  }

  /** What vCPU `cpu` left with, once everything sleeps; then it runs on. */
  serveExit(cpu: number, act: () => void): void {
    const run = this.#runs[cpu];
    if (run?.value.mmio?.physAddr !== BigInt(DEVICE_ADDR)) throw new Error("no store to a device");
    act();
    this.#start(cpu);
  }

  /** KVM_IRQ_LINE of the SPI of a vCPU. */
  setLine(cpu: number, level: number): void {
    const first = this.#options.model === "v5" ? FIRST_GSI : FIRST_SPI;
    this.drive(first + cpu, level);
  }

  /** KVM_IRQ_LINE of an SPI, by the number that it has there. */
  drive(spi: number, level: number): void {
    this.call("irqLine", { irq: (1 << 24) | spi, level });
  }

  /** Each vCPU exits as often as its work says, and stops. */
  exit(): void {
    for (let cpu = 0; cpu < this.#options.vcpus; cpu++) this.serveExit(cpu, () => {});
    this.settle();
  }

  /** A resampling irqfd on the SPI of a vCPU. */
  resampler(cpu: number): { signal(): void; acks(): number } {
    const [trigger, resample] = [this.#eventfds.create(0n), this.#eventfds.create(0n)];
    this.call("irqfd", {
      ...{ fd: { index: trigger, isEventfd: true }, gsi: FIRST_GSI + cpu, flags: RESAMPLE },
      ...{ resamplefd: { index: resample, isEventfd: true }, drain: true, found: null },
    });
    return {
      signal: () => void this.#eventfds.write(trigger, 1n),
      acks: () => Number(this.#eventfds.peek(resample)),
    };
  }

  /** Interrupts that a vCPU took, by its own count; its run ends by that. */
  taken(cpu: number): number {
    this.call("kick", { vcpu: cpu });
    this.settle();
    const reg = CORE | BigInt(2 * COUNT);
    return Number(this.call("getOneReg", { vcpu: cpu, reg }).value);
  }

  close(): void {
    this.instance.close();
  }
}
