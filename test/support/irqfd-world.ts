// Owns: an inline VM with an initialised vGIC and one CPU interface that a test handles as a guest
// would, register by register; eventfds of the process. Test process.
import type { EventfdCounters } from "../../src/base/eventfd-counters.js";
import { InKernelVgic } from "../../src/kvm/vgic/in-kernel.js";
import type { VgicIrq } from "../../src/kvm/vgic/state.js";
import type { Vm } from "../../src/kvm/vm.js";
import { VirtualInterface } from "../../src/machine/gic/virtual-interface.js";
import type { CommandArgs } from "../../src/vmm/commands.js";
import { Inline, type InlineOptions } from "./inline.js";

const NO_FD = { index: -1, isEventfd: true };
const SPURIOUS = 1023;
export const DEASSIGN = 1;
export const RESAMPLE = 2;
const ROUTE = { flags: 0, irqchip: 0, pin: 0, addressLo: 0, addressHi: 0, data: 0, devid: 0 };

/** What CTRL_INIT does, with 64 SPIs, and a guest that has switched everything on. */
function initVgic({ routing }: Vm, { dist }: InKernelVgic): void {
  dist.nrSpis = 64;
  dist.allocateSpis();
  dist.enabled = true;
  dist.isInitialized = true;
  routing.setDefaults(dist.nrSpis);
  const hardware = new VirtualInterface();
  for (const cpu of dist.cpus) {
    hardware.vmcr = cpu.vmcr;
    hardware.setPmr(0xf8);
    hardware.write("ICC_IGRPEN1_EL1", 1n);
    cpu.vmcr = hardware.vmcr;
  }
}

export class IrqfdWorld {
  readonly vm: Inline;
  readonly vgic: InKernelVgic;
  readonly #hardware = new VirtualInterface();

  constructor(options: InlineOptions = {}, isInitialized = true) {
    this.vm = new Inline(options);
    this.vm.call("createVcpu", { id: 0 });
    const { vm } = this.vm.kvm;
    this.vgic = new InKernelVgic(vm, "v3");
    vm.vgic = this.vgic;
    if (isInitialized) this.init();
  }

  init(): void {
    initVgic(this.kvm, this.vgic);
  }

  get kvm() {
    return this.vm.kvm.vm;
  }

  get eventfds(): EventfdCounters {
    return this.vm.eventfds;
  }

  get #cpu() {
    return this.vgic.dist.cpus[0]!;
  }

  fd(initial = 0n): number {
    return this.eventfds.create(initial);
  }

  /** SPI of a pin, enabled. */
  spi(pin: number, config: "level" | "edge" = "level"): VgicIrq {
    const irq = this.vgic.dist.spis[pin]!;
    irq.config = config;
    irq.enabled = true;
    return irq;
  }

  args(fd: number, gsi: number, flags = 0, resamplefd = -1): CommandArgs<"irqfd"> {
    const of = (index: number) => (index < 0 ? NO_FD : { index, isEventfd: true });
    return { fd: of(fd), gsi, flags, resamplefd: of(resamplefd), drain: true, found: null };
  }

  assign(fd: number, gsi: number): void {
    this.vm.call("irqfd", this.args(fd, gsi));
  }

  resample(fd: number, gsi: number, resamplefd: number): void {
    this.vm.call("irqfd", this.args(fd, gsi, RESAMPLE, resamplefd));
  }

  deassign(fd: number, gsi: number): void {
    this.vm.call("irqfd", this.args(fd, gsi, DEASSIGN));
  }

  /** A write by a client, and what KVM puts off. */
  write(fd: number, value = 1n): void {
    this.eventfds.write(fd, value);
    this.kvm.jobs.drain();
  }

  routes(...pins: readonly (readonly [gsi: number, pin: number])[]): void {
    const entries = pins.map(([gsi, pin]) => ({ ...ROUTE, type: 1, gsi, pin }));
    this.vm.call("setGsiRouting", { flags: 0, entries });
  }

  /** In and out of the guest, which does this with its CPU interface in between. */
  guest<T>(act: (interface_: VirtualInterface) => T): T {
    this.vgic.delivery.flush(this.#cpu, this.#hardware);
    const answer = act(this.#hardware);
    this.vgic.delivery.fold(this.#cpu, this.#hardware);
    return answer;
  }

  /** Takes one interrupt and ends it. @returns its INTID, or null */
  take(): number | null {
    return this.guest((it) => {
      const intid = Number(it.read("ICC_IAR1_EL1"));
      if (intid === SPURIOUS) return null;
      it.write("ICC_EOIR1_EL1", BigInt(intid));
      return intid;
    });
  }
}
