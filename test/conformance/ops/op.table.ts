// Owns: which function carries out which recorded operation; data only. Any thread.
import type { Line, Outcome } from "../line.js";
import type { World } from "../world.js";
import { clearDirtyLog, getDirtyLog, resetDirtyRings } from "./dirty.js";
import {
  closeDescriptor,
  createEventfd,
  ioeventfd,
  irqfd,
  readEventfd,
  writeEventfd,
} from "./eventfd.js";
import { continueRun, guestAccess } from "./guest.js";
import { createDevice, deviceAttr, setGsiRouting, signalMsi } from "./interrupt.js";
import { createIrqchip, guestEoi, irqLine, irqLineStatus, pinEdge, pinLevel } from "./irqchip.js";
import { ringHarvest, ringPeek, ringSetFlags } from "./ring.js";
import {
  checkExtension,
  closeVm,
  createVcpu,
  createVm,
  enableCap,
  hostAccess,
  hostFact,
  setMemslot,
} from "./vm.js";

export type Operation = (world: World, line: Line) => Promise<Outcome>;

export const OPERATIONS: Readonly<Record<string, Operation>> = {
  KVM_GET_API_VERSION: hostFact,
  KVM_GET_VCPU_MMAP_SIZE: hostFact,
  KVM_CREATE_VM: createVm,
  KVM_CHECK_EXTENSION: checkExtension,
  KVM_ENABLE_CAP: enableCap,
  KVM_CREATE_VCPU: createVcpu,
  KVM_SET_USER_MEMORY_REGION: setMemslot,
  KVM_SET_USER_MEMORY_REGION2: setMemslot,
  KVM_GET_DIRTY_LOG: getDirtyLog,
  KVM_CLEAR_DIRTY_LOG: clearDirtyLog,
  KVM_RESET_DIRTY_RINGS: resetDirtyRings,
  KVM_RUN: continueRun,
  KVM_IOEVENTFD: ioeventfd,
  KVM_IRQFD: irqfd,
  KVM_SET_GSI_ROUTING: setGsiRouting,
  KVM_SIGNAL_MSI: signalMsi,
  KVM_CREATE_DEVICE: createDevice,
  KVM_CREATE_IRQCHIP: createIrqchip,
  KVM_IRQ_LINE: irqLine,
  KVM_IRQ_LINE_STATUS: irqLineStatus,
  KVM_HAS_DEVICE_ATTR: deviceAttr,
  KVM_GET_DEVICE_ATTR: deviceAttr,
  KVM_SET_DEVICE_ATTR: deviceAttr,
  guest_write: guestAccess,
  guest_read: guestAccess,
  host_write: hostAccess,
  host_read: hostAccess,
  ring_harvest: ringHarvest,
  ring_peek: ringPeek,
  ring_set_flags: ringSetFlags,
  eventfd: createEventfd,
  eventfd_write: writeEventfd,
  eventfd_read: readEventfd,
  close: closeDescriptor,
  close_vm: closeVm,
  irqchip_pin_level: pinLevel,
  irqchip_pin_edge: pinEdge,
  guest_eoi: guestEoi,
};
