// Owns: what every interrupt case asks of its VM, whatever its controller: memory, registers,
// KVM_IRQ_LINE of PPIs, eventfds and irqfds. Test process.
import type { SettingValue } from "../../src/base/settings.js";
import { createDevice } from "../../src/kvm/device.js";
import type { KvmDevice } from "../../src/kvm/vgic/device-port.js";
import type { EventfdRef } from "../../src/vmm/commands.js";
import * as a64 from "./a64.js";
import { Inline, type InlineOptions } from "./inline.js";
import { bytes, IRQFD, lineOfPpi } from "./irq-uapi.js";

export const NO_FD: EventfdRef = { index: -1, isEventfd: true };

export class CaseVm extends Inline {
  /** @param settings as `irq.era=pre617` */
  constructor(definition: InlineOptions, settings: readonly string[]) {
    super({ ...definition, dirty: { settings: settingsOf(settings), seedBugs: [] } });
  }

  /** KVM_CREATE_DEVICE. */
  create(type: number): KvmDevice {
    const { vm } = this.kvm;
    return vm.devices[createDevice(vm, type, 0) ?? -1]!;
  }

  words(gpa: number, words: readonly number[]): void {
    this.call("writePhysicalMemory", { gpa: BigInt(gpa), bytes: a64.bytesOf(words) });
  }
  bytesAt(gpa: number, length: number): Uint8Array {
    return this.call("readPhysicalMemory", { gpa: BigInt(gpa), length }).slice();
  }
  setRegister(vcpu: number, reg: bigint, value: bigint): void {
    this.call("setOneReg", { vcpu, reg, value: bytes(value, 8) });
  }
  /** KVM_IRQ_LINE of a PPI. */
  ppi(id: number, level: number, vcpu = 0): void {
    this.call("irqLine", { irq: lineOfPpi(id, vcpu), level });
  }

  eventfd(initial = 0n): EventfdRef {
    return { index: this.eventfds.create(initial), isEventfd: true };
  }
  /** write(2) by some other process. */
  signal(fd: EventfdRef, n = 1n): void {
    this.eventfds.write(fd.index, n);
  }
  count(fd: EventfdRef): number {
    return Number(this.eventfds.peek(fd.index));
  }
  irqfdArgs(fd: EventfdRef, gsi: number, flags = 0, resamplefd: EventfdRef = NO_FD) {
    return { fd, gsi, flags, resamplefd, drain: true, found: null };
  }
  irqfd(fd: EventfdRef, gsi: number, flags = 0, resamplefd: EventfdRef = NO_FD): void {
    this.call("irqfd", this.irqfdArgs(fd, gsi, flags, resamplefd));
  }
  /** A resampling irqfd with eventfds of its own. */
  resampler(gsi: number): { trigger: EventfdRef; resample: EventfdRef } {
    const [trigger, resample] = [this.eventfd(), this.eventfd()];
    this.irqfd(trigger, gsi, IRQFD.RESAMPLE, resample);
    return { trigger, resample };
  }
}

function settingsOf(settings: readonly string[]): Readonly<Record<string, SettingValue>> {
  return Object.fromEntries(
    settings.map((setting) => {
      const [key = "", value = ""] = setting.split("=");
      if (value === "true" || value === "false") return [key, value === "true"];
      return [key, /^\d+$/.test(value) ? Number(value) : value];
    }),
  );
}
