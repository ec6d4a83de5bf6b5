// Owns: what each command of vCPUs that run guest code, and of their firmware, does: one row per
// name of GuestCommands. VM thread.
import { KvmError } from "../base/errors.js";
import { hex } from "../base/hex.js";
import {
  armVcpuFinalize,
  checkOneReg,
  getVcpuEvents,
  getVmAttr,
  hasVmAttr,
  irqLineStatus,
  mteCopyTags,
  regWritableMasks,
  setGuestDebug,
  setOneReg,
  setSignalMask,
  setVcpuEvents,
  setVmAttr,
} from "../kvm/index.js";
import type { Row } from "./command-row.js";
import type { CommandArgs } from "./commands.js";
import type { GuestCommands, RegisterWrite } from "./guest-commands.js";
import type { Machine } from "./machine.js";
import { idleVcpu, vcpuOf } from "./vcpu-of.js";

/** Does something with each, and says at which one KVM refused. */
function each(
  registers: readonly RegisterWrite[],
  act: (register: RegisterWrite) => void,
  isWriting: boolean,
): void {
  for (const [index, register] of registers.entries()) {
    try {
      act(register);
    } catch (error) {
      if (!(error instanceof KvmError)) throw error;
      const { errno, ioctl, message, code } = error;
      const place = { index, register: hex(register.reg) };
      const detail = `register ${index}, ${place.register}: ${message}`;
      if (!isWriting || index === 0) throw new KvmError(errno, ioctl, detail, code, place);
      const written = registers.slice(0, index).map(({ reg }) => hex(reg));
      throw new KvmError(errno, ioctl, detail, "partly-written", { ...place, written });
    }
  }
}

/** A write can't be taken back (a counter's moves others): so what can be known is asked first. */
function setRegs(m: Machine, { vcpu, registers }: CommandArgs<"setRegs">): null {
  const { vm } = m.kvm;
  const of = idleVcpu(m, vcpu);
  each(registers, ({ reg, value }) => checkOneReg(vm, of, reg, value), false);
  each(registers, ({ reg, value }) => setOneReg(vm, of, reg, value), true);
  return null;
}

export const GUEST_COMMANDS: { readonly [K in keyof GuestCommands]: Row<K> } = {
  irqLineStatus: { now: (m, { irq, level }) => irqLineStatus(m.kvm.vm, irq, level) },
  setRegs: { now: setRegs },
  setSignalMask: {
    now: (m, { vcpu, len, sigset }) => {
      const of = idleVcpu(m, vcpu);
      setSignalMask(of, sigset === null ? null : { len, sigset });
      return { sigset: of.signalMask };
    },
  },
  describeSignalMask: { now: (m, { vcpu }) => ({ sigset: vcpuOf(m, vcpu).signalMask }) },
  copyMteTags: { now: () => mteCopyTags() },
  finalizeVcpu: { now: (m, { vcpu, feature }) => armVcpuFinalize(idleVcpu(m, vcpu), feature) },
  getVcpuEvents: { now: (m, { vcpu }) => getVcpuEvents(idleVcpu(m, vcpu)) },
  setVcpuEvents: {
    now: (m, { vcpu, ...events }) => {
      setVcpuEvents(idleVcpu(m, vcpu), events);
      return null;
    },
  },
  setGuestDebug: {
    now: (m, { vcpu, ...debug }) => {
      setGuestDebug(idleVcpu(m, vcpu), debug);
      return null;
    },
  },
  getRegWritableMasks: { now: (_m, { range }) => regWritableMasks(range) },
  setVmAttr: {
    now: (m, { group, attr, value }) => {
      setVmAttr(m.kvm.vm, group, attr, value);
      return null;
    },
  },
  getVmAttr: { now: () => getVmAttr() },
  hasVmAttr: {
    now: (_m, { group, attr }) => {
      hasVmAttr(group, attr);
      return null;
    },
  },
};
