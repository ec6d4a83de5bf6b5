// Owns: a generic PCIe host bridge: configuration space by ECAM, and the windows through which
// CPUs reach what functions have behind their base address registers. VM thread.
//
//   ECAM ──▶ function's configuration      window ──▶ the function whose bar claims the address
import type { Saved } from "../../../base/saved.js";
import type { Devices, MmioDevice } from "../device.js";
import { PCIE } from "../memory-map.table.js";
import { PciFunction, type Space } from "./function.js";
import { PciTestdev } from "./testdev.js";

/** Bus, device and function number are above this bit of an ECAM offset. */
const BDF_SHIFT = 12; // tidy: ECAM layout
const CONFIG_MASK = 0xfff; // tidy: ECAM layout
/** Nobody answers. */
const NOBODY = (1n << 64n) - 1n;

const QEMU_VENDOR = 0x1b36;
const BRIDGE = { vendor: QEMU_VENDOR, device: 8, class: 0x600 } as const;
const TESTDEV = { vendor: QEMU_VENDOR, device: 5, class: 0xff } as const;

const bdf = (device: number) => device << 3;

class PcieHost implements MmioDevice {
  readonly name = "pcie";
  readonly base = PCIE.ecam.base;
  readonly size = PCIE.ecam.size;
  readonly #functions: ReadonlyMap<number, PciFunction> = new Map([
    [bdf(0), new PciFunction(BRIDGE, null)],
    [bdf(1), new PciFunction(TESTDEV, new PciTestdev())],
  ]);

  reset(): void {
    for (const each of this.#functions.values()) each.reset();
  }

  read(offset: number, bytes: number): bigint {
    const found = this.#functions.get(offset >> BDF_SHIFT);
    return found?.read(offset & CONFIG_MASK, bytes) ?? BigInt.asUintN(8 * bytes, NOBODY);
  }

  write(offset: number, bytes: number, value: bigint): void {
    this.#functions.get(offset >> BDF_SHIFT)?.write(offset & CONFIG_MASK, bytes, value);
  }

  /** A window of the CPUs' addresses; it has no state of its own. */
  window(space: Space): MmioDevice {
    const { base, size, bus } = PCIE[space];
    const at = (offset: number) => this.#claimed(space, bus + offset);
    return {
      name: `pcie-${space}`,
      base,
      size,
      read: (offset, bytes) => {
        const claimed = at(offset);
        if (claimed === null) return BigInt.asUintN(8 * bytes, NOBODY);
        return claimed.device.read(claimed.bar, claimed.offset, bytes);
      },
      write: (offset, bytes, value) => {
        const claimed = at(offset);
        claimed?.device.write(claimed.bar, claimed.offset, bytes, value);
      },
      reset: () => {},
      save: () => ({ kind: "pcie-window", version: 1, data: null }),
      load: () => {},
    };
  }

  #claimed(space: Space, address: number) {
    for (const each of this.#functions.values()) {
      const claimed = each.claims(space, address);
      if (claimed !== null && each.device !== null) return { device: each.device, ...claimed };
    }
    return null;
  }

  save(): Saved {
    const data = { functions: [...this.#functions.values()].map((each) => each.save()) };
    return { kind: "pcie", version: 1, data };
  }

  load(saved: Saved): void {
    const { functions } = saved.data as { functions: readonly Saved[] };
    for (const [i, own] of [...this.#functions.values()].entries()) {
      const state = functions[i];
      if (state !== undefined) own.load(state);
    }
  }
}

/** The host bridge, its bus with a pci-testdev in slot 1, and its windows. */
export function plugPcie(devices: Devices): void {
  const host = devices.add(new PcieHost());
  devices.add(host.window("memory"));
  devices.add(host.window("io"));
}
