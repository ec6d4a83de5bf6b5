// Owns: what each command of a debugger does: one row per name of DebuggerCommands. VM thread.
import { getOneReg, setOneReg } from "../kvm/index.js";
import type { Row } from "./command-row.js";
import type { DebuggerCommands } from "./debugger-commands.js";
import { guestEngine, ipaOf } from "./stage1-address.js";
import { idleVcpu } from "./vcpu-of.js";

export const DEBUGGER_COMMANDS: { readonly [K in keyof DebuggerCommands]: Row<K> } = {
  translate: {
    now: (m, { vcpu, address }) => {
      const ipa = ipaOf(m.kvm, guestEngine(idleVcpu(m, vcpu)), address);
      return { ipa: ipa === null ? null : BigInt(ipa) };
    },
  },
  readRegisters: {
    now: (m, { vcpu, regs }) => {
      const idle = idleVcpu(m, vcpu);
      return regs.map((reg) => getOneReg(m.kvm.vm, idle, reg).value);
    },
  },
  writeRegister: {
    now: (m, { vcpu, reg, value }) => {
      setOneReg(m.kvm.vm, idleVcpu(m, vcpu), reg, value);
      return null;
    },
  },
  passBreakpoint: {
    now: (m, { vcpu }) => {
      guestEngine(idleVcpu(m, vcpu)).takeBreakpoint();
      return null;
    },
  },
};
