// Owns: GICv5 as instructions of a PE: which encodings there are, who may use them, what is
// trapped. VM thread.
// @source gicv5-observed.md 4.1, 4.2
import type { CpuInterface } from "../../gic/gicv5/cpu-interface.js";
import { GIC_SYS, GIC_SYSL, ICC_V5_BY_ENCODING } from "../../gic/gicv5/icc.table.js";
import type { SystemResult } from "../core.js";
import { EC, esrOf } from "./exception.js";
import {
  INSTRUCTION_BYTES,
  nextUnlessInterrupted,
  type SystemContext,
  sysregIss,
  undefinedInstruction,
} from "./system-context.js";

const IS_READ = 1 << 21;
/** SCTLR_EL1.NMI. */
const SCTLR_NMI = 1n << 61n;

/** MRS and MSR of what no other table has; GICv3's registers are UNDEFINED beside a GICv5. */
export function moveIccV5(
  context: SystemContext,
  gic: CpuInterface,
  word: number,
  encoding: number,
): SystemResult {
  const { registers } = context;
  const row = ICC_V5_BY_ENCODING.get(encoding);
  const isRead = (word & IS_READ) !== 0;
  if (row === undefined || registers.el === 0 || (!isRead && row.access === "ro")) {
    return undefinedInstruction(context);
  }
  const rt = word & 31;
  if (!isRead) {
    const done = gic.write(row.name, registers.x(rt));
    return done === "trap" ? trapToEl2(context, word) : nextUnlessInterrupted(context);
  }
  const value = gic.read(row.name);
  if (value === "trap") return trapToEl2(context, word);
  registers.setX(rt, value);
  return "next";
}

/** SYS and SYSL with CRn 12. */
export function gicInstruction(
  context: SystemContext,
  gic: CpuInterface,
  word: number,
): SystemResult {
  const { registers } = context;
  const [op1, at] = [(word >>> 16) & 7, (word >>> 5) & 0x7f];
  if (op1 !== 0 || registers.el === 0) return undefinedInstruction(context);
  const rt = word & 31;
  if ((word & IS_READ) !== 0) {
    const name = GIC_SYSL.get(at);
    if (name === undefined) return undefinedInstruction(context);
    const hasNmi = (registers.get("SCTLR_EL1") & SCTLR_NMI) !== 0n;
    registers.setX(rt, gic.acknowledge(name === "CDNMIA", hasNmi));
    return "next";
  }
  const name = GIC_SYS.get(at);
  if (name === undefined) return undefinedInstruction(context);
  if (gic.execute(name, registers.x(rt)) === "trap") return trapToEl2(context, word);
  return nextUnlessInterrupted(context);
}

/** EL2 does it, and the guest goes on after it. */
function trapToEl2(context: SystemContext, word: number): SystemResult {
  context.registers.pc += INSTRUCTION_BYTES;
  context.trap(esrOf(EC.sysreg, sysregIss(word)));
  return "leave-retired";
}
