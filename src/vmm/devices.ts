// Owns: what each command around in-kernel devices does: one row per name of DeviceCommands.
// VM thread.
import { ServiceError } from "../base/errors.js";
import {
  createDevice,
  createIrqchip,
  type KvmDevice,
  setDeviceAddr,
  type VfioFile,
} from "../kvm/index.js";
import type { Row } from "./command-row.js";
import type { DeviceCommands, DeviceView, VfioFileView } from "./device-commands.js";
import type { Machine } from "./machine.js";
import { vgicV5SpiViews, vgicV5View } from "./vgic-v5-view.js";
import { vgicIrqViews, vgicView } from "./vgic-view.js";

function deviceOf(m: Machine, number: number): KvmDevice {
  const device = m.kvm.vm.devices[number];
  if (device === undefined || device.isClosed === true) {
    throw new ServiceError("device-not-found", `The VM has no device ${number}.`);
  }
  return device;
}

function deviceViews(m: Machine): readonly DeviceView[] {
  const views = m.kvm.vm.devices.map((its, device) => ({ device, type: its.type, its }));
  return views.flatMap(({ its, ...view }) => (its.isClosed === true ? [] : [view]));
}

function closeDevice(m: Machine, number: number): null {
  const device = deviceOf(m, number);
  if (device.close === undefined) {
    throw new ServiceError("device-stays", `Device ${number} goes away with its VM, not before.`);
  }
  device.close();
  return null;
}

const vfioView = ({ fd, isAdded }: Readonly<VfioFile>): VfioFileView => ({ fd, isAdded });

function closeVfioFile(m: Machine, fd: number): null {
  if (m.kvm.vm.vfio.close(fd)) return null;
  throw new ServiceError("vfio-file-not-found", `The VM has no VFIO file ${fd}.`);
}

export const DEVICE_COMMANDS: { readonly [K in keyof DeviceCommands]: Row<K> } = {
  createDevice: { now: (m, { type, flags }) => createDevice(m.kvm.vm, type, flags) },
  listDevices: { now: deviceViews },
  describeDevice: {
    now: (m, { device }) => ({ device, type: deviceOf(m, device).type }),
  },
  closeDevice: { now: (m, { device }) => closeDevice(m, device) },
  hasDeviceAttr: {
    now: (m, { device, group, attr }) => {
      deviceOf(m, device).has(group, attr);
      return null;
    },
  },
  getDeviceAttr: {
    // Of bytes of their own: the device may answer with those that it was given.
    now: (m, { device, group, attr, value }) => deviceOf(m, device).get(group, attr, value).slice(),
  },
  setDeviceAttr: {
    now: (m, { device, group, attr, value }) => {
      deviceOf(m, device).set(group, attr, value);
      return null;
    },
  },
  createIrqchip: {
    now: (m) => {
      createIrqchip(m.kvm.vm);
      return null;
    },
  },
  setDeviceAddr: {
    now: (m, { id, addr }) => {
      setDeviceAddr(m.kvm.vm, id, addr);
      return null;
    },
  },
  openVfioFile: { now: (m) => vfioView(m.kvm.vm.vfio.open()) },
  listVfioFiles: { now: (m) => m.kvm.vm.vfio.list().map(vfioView) },
  closeVfioFile: { now: (m, { fd }) => closeVfioFile(m, fd) },
  describeVgic: { now: vgicView },
  listVgicIrqs: { now: vgicIrqViews },
  describeVgicV5: { now: vgicV5View },
  listVgicV5Spis: { now: vgicV5SpiViews },
};
