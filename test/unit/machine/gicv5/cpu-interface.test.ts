// Goal: a guest's CPU interface of GICv5: what is taken when, what is trapped, what EL0 may not.
// Method: the numbered cases by direct calls, traps and exceptions by instructions of a PE.
import { describe, expect, it } from "vitest";
import type { Pe } from "../../../../src/machine/a64/pe/pe.js";
import { WHY } from "../../../../src/machine/a64/window.js";
import { A64Machine, a64Pages } from "../../../../src/machine/index.js";
import { Gicv5Host, ppi, spi } from "../../../support/gicv5.js";

const TAKEN = 1n << 32n;
const MASK = { doorbellMask: 31 } as const;

function ready(hasLevel = false) {
  const machine = new Gicv5Host();
  machine.addVm(1);
  machine.setUp(1, spi(7));
  if (hasLevel) machine.irs.domainOf(1)!.handling(spi(7), true);
  machine.enter(0, 1, 0);
  return { machine, gic: machine.cpu(0).gicv5, domain: machine.irs.domainOf(1)! };
}

describe("a guest", () => {
  it("T65: passes a priority that PCR equals", () => {
    const { machine, gic } = ready();
    machine.irs.vdpend(1, spi(7), true);
    gic.write("ICC_PCR_EL1", 7n);
    expect(gic.acknowledge(false)).toBe(0n);
    gic.write("ICC_PCR_EL1", 8n);
    expect(gic.acknowledge(false)).toBe(0x1_6000_0007n);
  });

  it("T66: a level is masked while it is active, and back after CDDI", () => {
    const { machine, gic } = ready(true);
    machine.irs.vdpend(1, spi(7), true);
    expect(gic.acknowledge(false)).toBe(TAKEN | BigInt(spi(7)));
    gic.execute("CDEOI", 0n);
    expect(gic.acknowledge(false)).toBe(0n);
    gic.execute("CDDI", BigInt(spi(7)));
    expect(gic.virq).toBe(true);
    expect(gic.acknowledge(false)).toBe(TAKEN | BigInt(spi(7)));
  });

  it("T67: an edge that comes while the first is active is one more", () => {
    const { machine, gic } = ready();
    machine.irs.vdpend(1, spi(7), true);
    gic.acknowledge(false);
    machine.irs.vdpend(1, spi(7), true);
    machine.irs.vdpend(1, spi(7), true);
    gic.execute("CDEOI", 0n);
    gic.execute("CDDI", BigInt(spi(7)));
    expect(gic.acknowledge(false)).toBe(TAKEN | BigInt(spi(7)));
    gic.execute("CDEOI", 0n);
    gic.execute("CDDI", BigInt(spi(7)));
    expect(gic.acknowledge(false)).toBe(0n);
  });

  it("T69: without IRSEN takes PPIs alone", () => {
    const { machine, gic } = ready();
    machine.irs.vdpend(1, spi(7), true);
    gic.setContext({ vm: 1, vpe: 0, isIrsEnabled: false, hasDoorbell: false, ...MASK });
    expect(gic.virq).toBe(false);
    gic.write("ICC_PPI_ENABLER0_EL1", 1n << 27n);
    gic.setPpiLine(27, true);
    expect(gic.acknowledge(false)).toBe(TAKEN | BigInt(ppi(27)));
    gic.setContext({ vm: 1, vpe: 0, isIrsEnabled: true, hasDoorbell: false, ...MASK });
    gic.write("ICC_APR_EL1", 0n);
    expect(gic.acknowledge(false)).toBe(TAKEN | BigInt(spi(7)));
  });

  it("has priority 0 as superpriority, which CDNMIA takes where there are NMIs", () => {
    const { machine, gic, domain } = ready();
    domain.priority(spi(7), 0);
    machine.irs.vdpend(1, spi(7), true);
    expect(gic.isSuperpriority).toBe(true);
    expect(gic.acknowledge(true, false)).toBe(0n);
    expect(gic.acknowledge(false, true)).toBe(0n);
    expect(gic.acknowledge(true, true)).toBe(TAKEN | BigInt(spi(7)));
    expect(gic.isSuperpriority).toBe(false);
  });

  it("shows its hypervisor what its VPE is, and state that it moves", () => {
    const { machine, gic } = ready();
    expect(gic.peek("ICC_IAFFIDR_EL1")).toBe(0n);
    gic.state.ppi.enable[0] = 8n;
    gic.state.ppi.pend[0] = 8n;
    gic.candidateChanged();
    expect(gic.virq).toBe(true);
    const other = machine.cpu(1).gicv5;
    other.state.copyFrom(gic.state);
    gic.setContext(null);
    expect(gic.virq).toBe(false);
    other.setContext({ vm: 1, vpe: 0, isIrsEnabled: true, hasDoorbell: true, ...MASK });
    expect(other.acknowledge(false)).toBe(TAKEN | BigInt(ppi(3)));
  });
});

// ── by instructions ───────────────────────────────────────────────────────────────────────────

interface Numbers {
  readonly op0?: number;
  readonly op1?: number;
  readonly crm: number;
  readonly op2: number;
  readonly isRead?: boolean;
}
const RT = 3;
function word({ op0 = 1, op1 = 0, crm, op2, isRead = false }: Numbers): number {
  const fields = (op0 << 19) | (op1 << 16) | (12 << 12) | (crm << 8) | (op2 << 5);
  return (0xd500_0000 | (isRead ? 1 << 21 : 0) | fields | RT) >>> 0;
}
const CDDI = word({ crm: 2, op2: 0 });
const CDEN = word({ crm: 1, op2: 1 });
const CDPEND = word({ crm: 1, op2: 4 });
const CDIA = word({ crm: 3, op2: 0, isRead: true });
const READ_IDR0 = word({ op0: 3, crm: 10, op2: 2, isRead: true });
const READ_IAFFIDR = word({ op0: 3, crm: 10, op2: 5, isRead: true });
const WRITE_IAFFIDR = word({ op0: 3, crm: 10, op2: 5 });
const READ_ENABLER0 = word({ op0: 3, crm: 10, op2: 6, isRead: true });
const WRITE_ENABLER0 = word({ op0: 3, crm: 10, op2: 6 });
const READ_ISR = word({ op0: 3, crm: 1, op2: 0, isRead: true });
/** ICC_IAR1_EL1 of GICv3. */
const READ_IAR1 = word({ op0: 3, crm: 12, op2: 0, isRead: true });
const VBAR = 0x1_0000n;
const SYNC_EL1H = 0x200n;
const SYNC_EL0 = 0x400n;
const PC = 0x8000n;
const ESR_UNKNOWN = 0x0200_0000n;
const EC_SYSREG = 0x18n;

function peOf(machine: Gicv5Host): Pe {
  const { host } = machine;
  const pages = a64Pages(host.geometry.size);
  const a64 = new A64Machine(host, host.frames.allocate(pages.arena), () => 0n, null);
  const pe = a64.addPe(host.frames.allocate(pages.window));
  pe.registers.reset({ mpidr: 0n, ipaBits: 40, hasGicv5: true });
  pe.registers.set("VBAR_EL1", VBAR);
  pe.registers.pc = PC;
  pe.load(machine.cpu(0));
  return pe;
}

function run(pe: Pe, code: number, xt = 0n) {
  pe.slowLeft = 100;
  pe.stop = null;
  pe.registers.setX(RT, xt);
  const done = pe.system(code, WHY.instruction);
  const trap = pe.stop as { kind: string; esr: bigint } | null;
  return { done, esr: trap?.esr ?? null, x: pe.registers.x(RT) };
}

function expectUndefined(pe: Pe, code: number): void {
  pe.registers.pc = PC;
  const vector = pe.registers.el === 0 ? SYNC_EL0 : SYNC_EL1H;
  expect(run(pe, code).done).toBe("jump");
  expect(pe.registers.get("ESR_EL1")).toBe(ESR_UNKNOWN);
  expect(pe.registers.pc).toBe(VBAR + vector);
}

describe("instructions", () => {
  it("take an interrupt that was let in, and ISR_EL1 shows it", () => {
    const { machine } = ready();
    const pe = peOf(machine);
    expect(pe.registers.get("ID_AA64PFR2_EL1")).toBe(1n << 12n);
    expect(run(pe, CDPEND, (1n << 32n) | BigInt(spi(7))).done).toBe("next");
    expect(run(pe, READ_ISR).x).toBe(1n << 7n);
    expect(run(pe, CDIA).x).toBe(TAKEN | BigInt(spi(7)));
    expect(run(pe, READ_ISR).x).toBe(0n);
  });

  it("leave for an interrupt that they make and PSTATE lets in", () => {
    const { machine } = ready();
    const pe = peOf(machine);
    pe.registers.pstate &= ~(1 << 7);
    const { done } = run(pe, CDPEND, (1n << 32n) | BigInt(spi(7)));
    expect(done).toBe("leave-retired");
    expect(pe.registers.pc).toBe(PC + 4n);
    expect(pe.takeInterrupts()).toBe(true);
    expect(pe.registers.pc).toBe(VBAR + 0x280n);
    expect(pe.registers.get("ELR_EL1")).toBe(PC + 4n);
  });

  it.each([
    ["CDDI", CDDI, "insn", "CDDI", (1n << 20n) | (2n << 1n)],
    ["a read of ICC_IDR0", READ_IDR0, "read", "ICC_IDR0_EL1", (3n << 20n) | (2n << 17n) | 21n],
    ["a read of IAFFIDR", READ_IAFFIDR, "read", "ICC_IAFFIDR_EL1", (3n << 20n) | (5n << 17n) | 21n],
    [
      "a write of ENABLER0",
      WRITE_ENABLER0,
      "write",
      "ICC_PPI_ENABLER0_EL1",
      (3n << 20n) | (6n << 17n) | 20n,
    ],
  ] as const)("of %s trap when EL2 says so, and not before", (_, code, kind, name, iss) => {
    const { machine, gic } = ready();
    const pe = peOf(machine);
    expect(run(pe, code, 8n)).toMatchObject({ done: "next", esr: null });
    gic.traps[kind].add(name);
    const before = gic.peek("ICC_PPI_ENABLER0_EL1");
    const { done, esr } = run(pe, code, BigInt(spi(7)));
    expect(done).toBe("leave-retired");
    expect(pe.registers.pc).toBe(PC + 4n);
    expect(esr! >> 26n).toBe(EC_SYSREG);
    expect(esr! & 0x1ff_ffffn).toBe(iss | (12n << 10n) | (BigInt(RT) << 5n));
    expect(gic.peek("ICC_PPI_ENABLER0_EL1")).toBe(before);
  });

  it("read a register whose writes alone are trapped", () => {
    const { machine, gic } = ready();
    const pe = peOf(machine);
    gic.traps.write.add("ICC_PPI_ENABLER0_EL1");
    gic.poke("ICC_PPI_ENABLER0_EL1", 8n);
    expect(run(pe, READ_ENABLER0)).toMatchObject({ done: "next", x: 8n });
  });

  it("T89: a write of IAFFIDR is UNDEFINED, and so are GICv3's registers", () => {
    const pe = peOf(ready().machine);
    for (const code of [WRITE_IAFFIDR, READ_IAR1]) expectUndefined(pe, code);
  });

  it("are UNDEFINED at EL0", () => {
    const pe = peOf(ready().machine);
    for (const code of [CDEN, CDIA, READ_IDR0, WRITE_ENABLER0]) {
      pe.registers.pstate &= ~0xf;
      expectUndefined(pe, code);
    }
  });

  it("are UNDEFINED without a GICv5 guest's context", () => {
    const { machine, gic } = ready();
    const pe = peOf(machine);
    gic.setContext(null);
    for (const code of [CDEN, CDIA, READ_IDR0, WRITE_ENABLER0]) expectUndefined(pe, code);
  });
});
