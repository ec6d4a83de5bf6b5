// Owns: instructions of the system side: exceptions, hints that wait, PSTATE, system registers,
// cache and TLB maintenance. VM thread.
// @source Arm ARM C5 (System instructions), D1.3, D17.2
import { ICC_BY_ENCODING, type IccRegister } from "../../gic/icc.table.js";
import type { SystemResult } from "../core.js";
import { WHY, ZVA_TRAP } from "../window.js";
import { EC, esrOf, exceptionReturn, takeException, VECTOR } from "./exception.js";
import { gicInstruction, moveIccV5 } from "./gic-system.js";
import { PSTATE_BIT } from "./registers.js";
import { encodingOf, SYSREG_BY_ENCODING, type SysReg } from "./sysreg.table.js";
import {
  INSTRUCTION_BYTES,
  lookAtLines,
  nextUnlessInterrupted,
  type SystemContext,
  sysregIss,
  trapToEl1,
  undefinedInstruction,
} from "./system-context.js";
import { COUNTER_HZ, readControl, readTval, writeTval } from "./timer.js";

const IMM16 = (word: number): number => (word >>> 5) & 0xffff;
/** ISS of an FP trap: CV with condition AL. */
const FP_ISS = 0x1e0_0000;
const SCTLR_UMA = 1n << 9n;
const SCTLR_UCT = 1n << 15n;
const SCTLR_NTWI = 1n << 16n;
const SCTLR_NTWE = 1n << 18n;
const SCTLR_UCI = 1n << 26n;

// ── exception generation and return ───────────────────────────────────────────────────────────

function exception(context: SystemContext, word: number): SystemResult {
  const { registers } = context;
  const after = registers.pc + INSTRUCTION_BYTES;
  const isEl0 = registers.el === 0;
  const imm = IMM16(word);
  switch ((word & 0x00e0_001f) >>> 0) {
    case 0x0000_0001:
      // A step is over when its call is made.
      if ((registers.pstate & PSTATE_BIT.SS) !== 0) registers.pstate &= ~PSTATE_BIT.SS;
      takeException(registers, VECTOR.sync, after, { esr: esrOf(EC.svc64, imm) });
      return "jump";
    case 0x0000_0002:
    case 0x0000_0003: {
      if (isEl0) return undefinedInstruction(context);
      // An SMC is trapped before it happens, but nobody goes back to it.
      registers.pc = after;
      context.trap(esrOf((word & 1) === 0 ? EC.hvc64 : EC.smc64, imm));
      return "leave-retired";
    }
    case 0x0020_0000: {
      const esr = esrOf(EC.brk64, imm);
      if (context.debug.host !== null) {
        context.trap(esr);
        return "leave";
      }
      takeException(registers, VECTOR.sync, registers.pc, { esr });
      return "jump";
    }
    default:
      return undefinedInstruction(context);
  }
}

function exceptionReturnHere(context: SystemContext): SystemResult {
  if (context.registers.el === 0) return undefinedInstruction(context);
  const { registers } = context;
  const { debug } = context;
  exceptionReturn(registers, (spsr, toEl) => debug.returnsStepping(spsr, toEl));
  // With PSTATE.IL set no instruction runs: the next one is this exception.
  if ((registers.pstate & PSTATE_BIT.IL) !== 0) {
    takeException(registers, VECTOR.sync, registers.pc, { esr: esrOf(EC.illegalState, 0) });
  }
  return context.interruptPending ? "leave-retired" : "jump";
}

// ── hints ─────────────────────────────────────────────────────────────────────────────────────

const WFE_ISS = 1;
/** ISS of WFx: CV with condition AL. */
const WFX_ISS = 0x1e0_0000;

function wait(context: SystemContext, isEvent: boolean): SystemResult {
  const { registers } = context;
  if (isEvent) context.updateEvents();
  if (isEvent && registers.event) {
    registers.event = false;
    return "next";
  }
  const allowed = isEvent ? SCTLR_NTWE : SCTLR_NTWI;
  const iss = WFX_ISS | (isEvent ? WFE_ISS : 0);
  if (registers.el === 0 && (registers.get("SCTLR_EL1") & allowed) === 0n) {
    return trapToEl1(context, EC.wfx, iss);
  }
  registers.pc += INSTRUCTION_BYTES;
  context.trap(esrOf(EC.wfx, iss));
  return "leave-retired";
}

function hint(context: SystemContext, op2: number): SystemResult {
  switch (op2) {
    case 2:
      return wait(context, true);
    case 3:
      return wait(context, false);
    case 4:
      context.sendEvent();
      return "next";
    default:
      context.registers.event = true;
      return "next";
  }
}

const DISR_A = 1n << 31n;

/** ESB: an SError that waits and is masked is written down instead of taken. */
function errorBarrier(context: SystemContext): SystemResult {
  const { registers, serror } = context;
  if (serror === null || (registers.pstate & PSTATE_BIT.A) === 0) return "next";
  registers.set("DISR_EL1", DISR_A | BigInt(serror));
  context.serror = null;
  return "next";
}

// ── PSTATE ────────────────────────────────────────────────────────────────────────────────────

const DAIF_SHIFT = 6;

function msrImmediate(context: SystemContext, word: number): SystemResult {
  const { registers } = context;
  const [op1, crm, op2] = [(word >>> 16) & 7, (word >>> 8) & 15, (word >>> 5) & 7];
  if (op1 === 0) {
    if (registers.el === 0) return undefinedInstruction(context);
    registers.pstate = (registers.pstate & ~PSTATE_BIT.SP) | (crm & 1);
    return "next";
  }
  if (registers.el === 0 && (registers.get("SCTLR_EL1") & SCTLR_UMA) === 0n) {
    return trapToEl1(context, EC.sysreg, sysregIss(word));
  }
  const bits = crm << DAIF_SHIFT;
  registers.pstate = op2 === 6 ? registers.pstate | bits : registers.pstate & ~bits;
  return nextUnlessInterrupted(context);
}

// ── system registers ──────────────────────────────────────────────────────────────────────────

const CURRENT_EL = encodingOf(3, 0, 4, 2, 2);
const SP_SEL = encodingOf(3, 0, 4, 2, 0);
const DAIF = encodingOf(3, 3, 4, 2, 1);

/** Whether EL0 may, where a register's own control says. @returns null where none does */
function el0Control({ registers }: SystemContext, name: string): boolean | null {
  const kernel = registers.get("CNTKCTL_EL1");
  const bit = (n: bigint): boolean => ((kernel >> n) & 1n) !== 0n;
  if (name === "CTR_EL0") return (registers.get("SCTLR_EL1") & SCTLR_UCT) !== 0n;
  if (name === "CNTFRQ_EL0") return bit(0n) || bit(1n);
  if (name === "CNTPCT_EL0") return bit(0n);
  if (name === "CNTVCT_EL0") return bit(1n);
  if (name.startsWith("CNTV_")) return bit(8n);
  if (name.startsWith("CNTP_")) return bit(9n);
  return null;
}

const DCZID_DZP = 1n << 4n;
const ISR_A = 1n << 8n;
const ISR_I = 1n << 7n;
const ISR_F = 1n << 6n;
/** The IRQ has superpriority. */
const ISR_IS = 1n << 10n;

function readSysreg(context: SystemContext, row: SysReg): bigint {
  const { registers } = context;
  switch (row.name) {
    case "DCZID_EL0":
      // DZP: this level may not.
      return registers.get(row.name) | (registers.u32(ZVA_TRAP) === 0 ? 0n : DCZID_DZP);
    case "CNTFRQ_EL0":
      return COUNTER_HZ;
    case "CNTPCT_EL0":
      return context.counter("physical");
    case "CNTVCT_EL0":
      return context.counter("virtual");
    case "CNTP_CTL_EL0":
      return readControl(registers, "physical", context.counter("physical"));
    case "CNTV_CTL_EL0":
      return readControl(registers, "virtual", context.counter("virtual"));
    case "CNTP_TVAL_EL0":
      return readTval(registers, "physical", context.counter("physical"));
    case "CNTV_TVAL_EL0":
      return readTval(registers, "virtual", context.counter("virtual"));
    case "ISR_EL1":
      return (
        (context.serror === null ? 0n : ISR_A) |
        (context.irqInput ? ISR_I : 0n) |
        (context.gicv5?.isSuperpriority === true ? ISR_IS : 0n) |
        (context.fiqInput ? ISR_F : 0n)
      );
    default:
      return registers.get(row.name);
  }
}

/** Writes to these may change an interrupt line, or when it changes. */
const TIMER_REGISTERS: ReadonlySet<string> = new Set(
  ["CNTP", "CNTV"].flatMap((timer) => ["CTL", "CVAL", "TVAL"].map((r) => `${timer}_${r}_EL0`)),
);

function writeSysreg(context: SystemContext, row: SysReg, value: bigint): void {
  const { registers } = context;
  switch (row.name) {
    case "CNTKCTL_EL1":
      // What the old setting brought, before the new one counts from here.
      context.updateEvents();
      registers.set(row.name, value & row.mask);
      context.eventStreamChanged();
      return;
    case "CNTP_TVAL_EL0":
      writeTval(registers, "physical", context.counter("physical"), value);
      return;
    case "CNTV_TVAL_EL0":
      writeTval(registers, "virtual", context.counter("virtual"), value);
      return;
    case "OSLAR_EL1":
      // OSLSR_EL1.OSLK follows the key's lowest bit.
      registers.set("OSLSR_EL1", 8n | ((value & 1n) << 1n));
      context.debugChanged();
      return;
    default: {
      const old = registers.get(row.name);
      registers.set(row.name, (old & ~row.mask) | (value & row.mask));
      if (row.translates) context.translationChanged();
      if (row.debugs) context.debugChanged();
    }
  }
}

function move(context: SystemContext, word: number): SystemResult {
  const { registers } = context;
  const encoding = ((word >>> 5) & 0x7fff) | (2 << 14);
  const isRead = (word & (1 << 21)) !== 0;
  const rt = word & 31;
  const isEl0 = registers.el === 0;
  if (encoding === DAIF) return moveDaif(context, word, isRead, rt);
  if (encoding === CURRENT_EL || encoding === SP_SEL) {
    if (isEl0 || (!isRead && encoding === CURRENT_EL)) return undefinedInstruction(context);
    if (isRead && encoding === CURRENT_EL) registers.setX(rt, BigInt(registers.el << 2));
    else if (isRead) registers.setX(rt, BigInt(registers.pstate & PSTATE_BIT.SP));
    else registers.pstate = (registers.pstate & ~PSTATE_BIT.SP) | Number(registers.x(rt) & 1n);
    return "next";
  }
  const row = SYSREG_BY_ENCODING.get(encoding);
  if (row === undefined) return moveIcc(context, word, encoding, isRead);
  if (row.access === "host") return undefinedInstruction(context);
  if (row.isPmu) return movePmu(context, row.name, isRead, rt);
  if (row.access.startsWith(isRead ? "wo" : "ro")) return undefinedInstruction(context);
  // The stack pointer in use has no name of its own.
  const usesSp0 = (registers.pstate & PSTATE_BIT.SP) === 0;
  if (row.name === "SP_EL0" && usesSp0) return undefinedInstruction(context);
  if (isEl0) {
    const allowed = row.access.endsWith("0") ? el0Control(context, row.name) : null;
    if (allowed === false) return trapToEl1(context, EC.sysreg, sysregIss(word));
    if (allowed === null && row.name !== "DCZID_EL0") return undefinedInstruction(context);
  }
  if (isRead) {
    registers.setX(rt, readSysreg(context, row));
    return "next";
  }
  writeSysreg(context, row, registers.x(rt));
  return TIMER_REGISTERS.has(row.name) ? lookAtLines(context) : "next";
}

function moveIcc(
  context: SystemContext,
  word: number,
  encoding: number,
  isRead: boolean,
): SystemResult {
  const { registers, icc } = context;
  if (context.gicv5 !== null) return moveIccV5(context, context.gicv5, word, encoding);
  const row: IccRegister | undefined = ICC_BY_ENCODING.get(encoding);
  const isWrong = row?.access === (isRead ? "wo" : "ro");
  if (row === undefined || icc === null || registers.el === 0 || isWrong) {
    return undefinedInstruction(context);
  }
  const rt = word & 31;
  if (isRead) {
    registers.setX(rt, icc.read(row.name));
    return "next";
  }
  if (icc.write(row.name, registers.x(rt)) === "trap") {
    registers.pc += INSTRUCTION_BYTES;
    context.trap(esrOf(EC.sysreg, sysregIss(word)));
    return "leave-retired";
  }
  return icc.maintenance ? lookAtLines(context) : nextUnlessInterrupted(context);
}

function movePmu(context: SystemContext, name: string, isRead: boolean, rt: number): SystemResult {
  const { registers, pmu } = context;
  if (!pmu.allows(name, isRead)) return undefinedInstruction(context);
  if (isRead) {
    registers.setX(rt, pmu.read(name));
    return "next";
  }
  pmu.write(name, registers.x(rt));
  return lookAtLines(context);
}

function moveDaif(context: SystemContext, word: number, isRead: boolean, rt: number): SystemResult {
  const { registers } = context;
  if (registers.el === 0 && (registers.get("SCTLR_EL1") & SCTLR_UMA) === 0n) {
    return trapToEl1(context, EC.sysreg, sysregIss(word));
  }
  if (isRead) {
    registers.setX(rt, BigInt(registers.pstate & PSTATE_BIT.DAIF));
    return "next";
  }
  const bits = Number(registers.x(rt)) & PSTATE_BIT.DAIF;
  registers.pstate = (registers.pstate & ~PSTATE_BIT.DAIF) | bits;
  return nextUnlessInterrupted(context);
}

// ── maintenance ───────────────────────────────────────────────────────────────────────────────

/** op1:CRm:op2 of cache maintenance that exists; those from op1 3 are EL0's with SCTLR.UCI. */
const CACHE_OPS: ReadonlySet<number> = new Set(
  [
    [0, 1, 0],
    [0, 5, 0],
    [0, 6, 1],
    [0, 6, 2],
    [0, 10, 2],
    [0, 14, 2],
    [3, 5, 1],
    [3, 10, 1],
    [3, 11, 1],
    [3, 14, 1],
  ].map(([op1, crm, op2]) => (op1! << 7) | (crm! << 3) | op2!),
);
/** op2 of TLBI at EL1: VMALLE1, VAE1, ASIDE1, VAAE1, VALE1, VAALE1. */
const TLBI_OPS: ReadonlySet<number> = new Set([0, 1, 2, 3, 5, 7]);
const TLBI_BY_ADDRESS: ReadonlySet<number> = new Set([1, 3, 5, 7]);
const TLBI_VALE1 = 5;
const GIC_CRN = 12; // tidy: a CRn

function systemInstruction(context: SystemContext, word: number): SystemResult {
  const { registers } = context;
  const isEl0 = registers.el === 0;
  const [op1, crn, crm, op2] = [
    (word >>> 16) & 7,
    (word >>> 12) & 15, // tidy: a bit position
    (word >>> 8) & 15,
    (word >>> 5) & 7,
  ];
  const isSysl = (word & (1 << 21)) !== 0;
  if (crn === GIC_CRN && context.gicv5 !== null) {
    return gicInstruction(context, context.gicv5, word);
  }
  if (isSysl) return undefinedInstruction(context);
  if (crn === 7 && CACHE_OPS.has((op1 << 7) | (crm << 3) | op2)) {
    if (!isEl0) return "next";
    if (op1 === 0) return undefinedInstruction(context);
    if ((registers.get("SCTLR_EL1") & SCTLR_UCI) !== 0n) return "next";
    return trapToEl1(context, EC.sysreg, sysregIss(word));
  }
  // DC ZVA comes here only where SCTLR_EL1.DZE forbids it to EL0.
  if (crn === 7 && crm === 4 && op1 === 3) return trapToEl1(context, EC.sysreg, sysregIss(word));
  if (isEl0 || op1 !== 0) return undefinedInstruction(context);
  if (crn === 7 && crm === 8 && op2 < 4) {
    const va = registers.x(word & 31);
    return context.translateAddress(va, (op2 & 1) !== 0, op2 < 2) ? "next" : "leave";
  }
  if (crn === 8 && (crm === 3 || crm === 7) && TLBI_OPS.has(op2)) {
    const va = TLBI_BY_ADDRESS.has(op2) ? registers.x(word & 31) : null;
    context.tlbi({ va, isBroadcast: crm === 3, isLastLevel: op2 >= TLBI_VALE1 });
    return "next";
  }
  return undefinedInstruction(context);
}

interface Form {
  readonly mask: number;
  readonly value: number;
  readonly execute: (context: SystemContext, word: number) => SystemResult;
}
const FORMS: readonly Form[] = [
  { mask: 0xff00_0000, value: 0xd400_0000, execute: exception },
  { mask: 0xffff_ffff, value: 0xd69f_03e0, execute: exceptionReturnHere },
  { mask: 0xffff_ffff, value: 0xd503_221f, execute: errorBarrier },
  { mask: 0xffff_ff1f, value: 0xd503_201f, execute: (c, word) => hint(c, (word >>> 5) & 7) },
  { mask: 0xfff8_f01f, value: 0xd500_401f, execute: msrImmediate },
  { mask: 0xffd0_0000, value: 0xd510_0000, execute: move },
  { mask: 0xffd8_0000, value: 0xd508_0000, execute: systemInstruction },
];

/** CoreHooks.system. PC is that of the instruction. */
export function executeSystem(context: SystemContext, word: number, why: number): SystemResult {
  if (why === WHY.undefined) return undefinedInstruction(context);
  if (why === WHY.fpTrap) return trapToEl1(context, EC.fpTrap, FP_ISS);
  const form = FORMS.find(({ mask, value }) => (word & mask) >>> 0 === value);
  return form === undefined ? undefinedInstruction(context) : form.execute(context, word);
}
