// Owns: the devices of an interrupt workload, as they stand outside of the VM: who wants an
// interrupt, whose is masked until KVM acknowledges it, whose line userspace drives. HTTP thread.

import { parseU64 } from "../../../base/hex.js";
import { Prng } from "../../../base/prng.js";
import { hasNotifier } from "./spec.js";
import type { InterruptWorkload } from "./types.js";

/** What a device has KVM told. */
export type Signal =
  | { readonly kind: "trigger"; readonly spi: number }
  | { readonly kind: "line"; readonly spi: number; readonly level: 0 | 1 };

interface Device {
  readonly spi: number;
  readonly hasNotifier: boolean;
  /** Work that it has had in all, modulo 2^32. */
  used: number;
  /** VFIO has its interrupt masked: it waits for an acknowledgement. */
  isMasked: boolean;
  /** Something came meanwhile. */
  wants: boolean;
  /** Its line, where userspace drives it. */
  isHigh: boolean;
}

export class Devices {
  readonly #workload: InterruptWorkload;
  readonly #prng: Prng;
  readonly #devices: readonly Device[];
  raised = 0;

  constructor(workload: InterruptWorkload) {
    this.#workload = workload;
    this.#prng = new Prng(parseU64(workload.seed) ?? 1n);
    this.#devices = Array.from({ length: workload.spis }, (_, spi) => ({
      ...{ spi, hasNotifier: hasNotifier(workload, spi) },
      ...{ used: 0, isMasked: false, wants: false, isHigh: false },
    }));
  }

  /** Those that userspace hears of. */
  get notified(): readonly number[] {
    return this.#devices.filter((one) => one.hasNotifier).map(({ spi }) => spi);
  }

  /** Whether an irqfd raises it; else KVM_IRQ_LINE. */
  isByIrqfd(spi: number): boolean {
    const { trigger } = this.#workload;
    if (trigger === "edge") return true;
    return trigger === "level" && this.#devices[spi]?.hasNotifier === true;
  }

  /** Something comes for `count` devices. */
  raise(count: number): readonly Signal[] {
    return Array.from({ length: count }, () => this.#raise()).flat();
  }

  #raise(): readonly Signal[] {
    const device = this.#devices[this.#prng.below(this.#devices.length)];
    if (device === undefined) return [];
    this.raised++;
    device.used = (device.used + 1) >>> 0;
    if (this.#workload.trigger === "edge") return [{ kind: "trigger", spi: device.spi }];
    if (!this.isByIrqfd(device.spi)) return this.#drive(device, true);
    if (!device.isMasked) return this.#fire(device);
    device.wants = true;
    return [];
  }

  #fire(device: Device): readonly Signal[] {
    device.isMasked = true;
    device.wants = false;
    return [{ kind: "trigger", spi: device.spi }];
  }

  #drive(device: Device, isHigh: boolean): readonly Signal[] {
    if (device.isHigh === isHigh) return [];
    device.isHigh = isHigh;
    return [{ kind: "line", spi: device.spi, level: isHigh ? 1 : 0 }];
  }

  /** The guest's driver has quieted it by a store. */
  quiet(spi: number): readonly Signal[] {
    const device = this.#devices[spi];
    return device === undefined || this.isByIrqfd(spi) ? [] : this.#drive(device, false);
  }

  /** KVM has acknowledged it. @param seen what the guest has done of its work */
  acknowledged(spi: number, seen: number): readonly Signal[] {
    const device = this.#devices[spi];
    if (device === undefined || !this.isByIrqfd(spi) || !device.isMasked) return [];
    device.isMasked = false;
    return device.wants && device.used !== seen ? this.#fire(device) : [];
  }

  /** As the guest's memory has it. */
  usedBytes(): Uint8Array {
    const bytes = new Uint8Array(4 * this.#devices.length);
    const view = new DataView(bytes.buffer);
    for (const { spi, used } of this.#devices) view.setUint32(4 * spi, used, true);
    return bytes;
  }

  usedOf(spi: number): number {
    return this.#devices[spi]?.used ?? 0;
  }
}
