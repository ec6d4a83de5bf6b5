// Owns: arguments that pass and that don't of each command of vCPUs with guest code, on the VM of
// commands.test.ts: vCPU 7 is initialised, 0 is not, and there is no controller. Data only.
import type { GuestCommands } from "../../../src/vmm/guest-commands.js";
import type { Case } from "./device-cases.table.js";

const bits = new Uint8Array(8).fill(0xff);
const bytes = Uint8Array.of(1, 2, 3);
const PC = 0x6030_0000_0010_0040n;
const events = {
  serrorPending: true,
  serrorHasEsr: true,
  extDabtPending: false,
  serrorEsr: 5n,
};
const debug = { control: 3, bcr: [0n], bvr: [], wcr: [], wvr: [] };
/** struct kvm_smccc_filter: one function from 1 on, DENY. */
const filter = Uint8Array.from({ length: 24 }, (_, at) => (at % 4 === 0 && at <= 8 ? 1 : 0));

export const GUEST_CASES: { readonly [K in keyof GuestCommands]: Case<K> } = {
  irqLineStatus: {
    good: { irq: 0x0007_0000, level: 1 },
    bad: [
      [{ irq: 0x0100_0020, level: 1 }, "ENXIO"],
      [{ irq: 0x0300_0000, level: 1 }, "EINVAL"],
    ],
  },
  setRegs: {
    good: { vcpu: 7, registers: [{ reg: PC, value: bits }] },
    bad: [
      [{ vcpu: 0, registers: [{ reg: PC, value: bits }] }, "ENOEXEC"],
      [{ vcpu: 7, registers: [{ reg: PC, value: bytes }] }, "EINVAL"],
      [{ vcpu: 7, registers: [{ reg: PC ^ 0xffffn, value: bits }] }, "ENOENT"],
    ],
  },
  setSignalMask: {
    good: { vcpu: 0, len: 8, sigset: 0x200n },
    bad: [
      [{ vcpu: 0, len: 16, sigset: 0x200n }, "EINVAL"],
      [{ vcpu: 1, len: 8, sigset: null }, "vcpu-not-found"],
    ],
  },
  describeSignalMask: { good: { vcpu: 0 }, bad: [[{ vcpu: 1 }, "vcpu-not-found"]] },
  copyMteTags: {
    good: undefined as never,
    bad: [
      [{ ipa: 0n, length: 0x1000n, tags: null }, "EINVAL"],
      [{ ipa: 0n, length: 0x1000n, tags: bytes }, "EINVAL"],
    ],
  },
  finalizeVcpu: {
    good: undefined as never,
    bad: [
      [{ vcpu: 0, feature: 4 }, "ENOEXEC"],
      [{ vcpu: 7, feature: 4 }, "EINVAL"],
      [{ vcpu: 7, feature: 3 }, "EINVAL"],
    ],
  },
  getVcpuEvents: { good: { vcpu: 7 }, bad: [[{ vcpu: 0 }, "ENOEXEC"]] },
  setVcpuEvents: {
    good: { vcpu: 7, ...events },
    bad: [
      [{ vcpu: 0, ...events }, "ENOEXEC"],
      [{ vcpu: 7, ...events, serrorEsr: 1n << 25n }, "EINVAL"],
    ],
  },
  setGuestDebug: {
    good: { vcpu: 0, ...debug },
    bad: [
      [{ vcpu: 7, ...debug, control: 4 }, "EINVAL"],
      [{ vcpu: 7, ...debug, control: 0x4_0001 }, "EINVAL"],
    ],
  },
  getRegWritableMasks: { good: { range: 0 }, bad: [[{ range: 1 }, "EINVAL"]] },
  setVmAttr: {
    good: { group: 0, attr: 0n, value: filter },
    bad: [
      [{ group: 0, attr: 1n, value: filter }, "ENXIO"],
      [{ group: 1, attr: 0n, value: filter }, "ENXIO"],
      [{ group: 0, attr: 0n, value: bits }, "EINVAL"],
    ],
  },
  getVmAttr: { good: undefined as never, bad: [[{ group: 0, attr: 0n }, "EINVAL"]] },
  hasVmAttr: { good: { group: 0, attr: 0n }, bad: [[{ group: 0, attr: 1n }, "ENXIO"]] },
};
