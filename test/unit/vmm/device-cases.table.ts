// Owns: arguments that pass and that don't of each command around in-kernel devices, on the VM of
// commands.test.ts, which has a KVM-VFIO device and a file for it. Data only.
import type { CommandArgs, CommandName } from "../../../src/vmm/commands.js";
import type { DeviceCommands } from "../../../src/vmm/device-commands.js";

export type Case<K extends CommandName> = {
  /** Arguments that pass on the VM of setUp. */
  readonly good: CommandArgs<K>;
  /** Arguments that are refused, and with what; empty for commands that refuse nothing. */
  readonly bad: readonly (readonly [CommandArgs<K>, string])[];
};

const none = {};
const bits = new Uint8Array(8).fill(0xff);
const bytes = Uint8Array.of(1, 2, 3);
/** The descriptor of the VFIO file that setUp opens, as an int. */
const VFIO_FD = Uint8Array.of(0, 0, 16, 0);
const EVERY_IRQ = { from: 0, to: 65_535, vcpu: null, state: null, after: null, limit: 100 };
const EVERY_SPI = { from: 0, to: 1023, state: null, after: null, limit: 100 };

export const DEVICE_CASES: { readonly [K in keyof DeviceCommands]: Case<K> } = {
  createDevice: {
    good: { type: 4, flags: 1 },
    bad: [
      [{ type: 4, flags: 0 }, "EBUSY"],
      [{ type: 4, flags: 2 }, "EBUSY"],
      [{ type: 9999, flags: 1 }, "ENODEV"],
    ],
  },
  listDevices: { good: none, bad: [] },
  describeDevice: { good: { device: 0 }, bad: [[{ device: 1 }, "device-not-found"]] },
  closeDevice: { good: { device: 0 }, bad: [[{ device: 1 }, "device-not-found"]] },
  hasDeviceAttr: {
    good: { device: 0, group: 1, attr: 2n },
    bad: [
      [{ device: 0, group: 1, attr: 3n }, "ENXIO"],
      [{ device: 0, group: 0, attr: 1n }, "ENXIO"],
      [{ device: 1, group: 1, attr: 1n }, "device-not-found"],
    ],
  },
  getDeviceAttr: {
    good: { device: 1, group: 3, attr: 0n, value: bits },
    bad: [
      [{ device: 0, group: 99, attr: 0n, value: bits }, "EPERM"],
      [{ device: 1, group: 0, attr: 0n, value: bits }, "device-not-found"],
    ],
  },
  setDeviceAttr: {
    good: { device: 0, group: 1, attr: 1n, value: VFIO_FD },
    bad: [
      [{ device: 0, group: 1, attr: 99n, value: VFIO_FD }, "ENXIO"],
      [{ device: 0, group: 0, attr: 1n, value: VFIO_FD }, "ENXIO"],
      [{ device: 0, group: 1, attr: 1n, value: new Uint8Array(4).fill(255) }, "EBADF"],
      [{ device: 0, group: 1, attr: 1n, value: Uint8Array.of(1, 0, 0, 0) }, "EINVAL"],
      [{ device: 0, group: 1, attr: 1n, value: bytes }, "EFAULT"],
      [{ device: 0, group: 1, attr: 2n, value: VFIO_FD }, "ENOENT"],
      [{ device: 1, group: 1, attr: 1n, value: VFIO_FD }, "device-not-found"],
    ],
  },
  createIrqchip: { good: none, bad: [] },
  setDeviceAddr: {
    good: { id: 1n, addr: 0x801_0000n },
    bad: [
      [{ id: 0n, addr: 0n }, "ENODEV"],
      [{ id: 2n, addr: 0n }, "ENODEV"],
      [{ id: 0x1_0000n, addr: 0n }, "ENODEV"],
    ],
  },
  openVfioFile: { good: none, bad: [] },
  listVfioFiles: { good: none, bad: [] },
  closeVfioFile: {
    good: { fd: 1_048_576 },
    bad: [[{ fd: 1 }, "vfio-file-not-found"]],
  },
  describeVgic: { good: none, bad: [[none, "vgic-not-found"]] },
  listVgicIrqs: {
    good: EVERY_IRQ,
    bad: [[EVERY_IRQ, "vgic-not-found"]],
  },
  describeVgicV5: { good: none, bad: [[none, "vgic-not-found"]] },
  listVgicV5Spis: {
    good: EVERY_SPI,
    bad: [[EVERY_SPI, "vgic-not-found"]],
  },
};
