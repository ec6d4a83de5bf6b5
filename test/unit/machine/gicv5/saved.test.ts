// Goal: a host that was saved in the middle and loaded elsewhere answers as the one that went on:
// what is kept beside the tables' bytes is enough.
// Method: drawn uses of the host's own domain and of a VM, saved at a drawn point.
import fc from "fast-check";
import { expect, it } from "vitest";
import { digestOf } from "../../../../src/base/saved.js";
import type { GicInsn } from "../../../../src/machine/gic/gicv5/icc.table.js";
import { type HostCpu, IRS32, IRS64 } from "../../../../src/machine/index.js";
import { Gicv5Host, lpi, ppi, spi } from "../../../support/gicv5.js";

const CPUS = 2;
/** The second CPU is for the host's own domain. */
const OWN = 1;

interface Use {
  readonly cpu: number;
  readonly what: "insn" | "take" | "line" | "ppi" | "vdpend" | "away" | "here" | "table";
  readonly insn: GicInsn;
  readonly intid: number;
  readonly value: number;
}

const INSNS: readonly GicInsn[] = [
  ...(["CDEN", "CDEN", "CDDIS", "CDPRI", "CDAFF", "CDPEND", "CDPEND"] as const),
  ...(["CDHM", "CDEOI", "CDDI", "CDRCFG", "GSB_SYS"] as const),
];
const use: fc.Arbitrary<Use> = fc.record({
  cpu: fc.nat(CPUS - 1),
  what: fc.constantFrom<Use["what"]>(
    ...(["insn", "insn", "insn", "insn", "take", "line", "ppi", "vdpend"] as const),
    ...(["away", "here", "table"] as const),
  ),
  insn: fc.constantFrom(...INSNS),
  intid: fc.oneof(fc.nat(5).map(spi), fc.nat(5).map(lpi), fc.constant(ppi(3))),
  value: fc.nat(3),
});

function operand({ insn, intid, value }: Use): bigint {
  if (insn === "CDPRI") return BigInt(intid) | (BigInt(value) << 35n);
  if (insn === "CDAFF") return BigInt(intid) | (BigInt(value & 1) << 32n);
  return BigInt(intid) | (BigInt(value === 0 ? 0 : 1) << 32n);
}

function made(): { machine: Gicv5Host; ist: number } {
  const machine = new Gicv5Host(CPUS);
  machine.host.model["hardware.vdpendLatency"] = 1;
  machine.addVm(1, { lpiBits: 4 });
  machine.enter(0, 1, 0);
  const own = machine.cpu(OWN).gicv5;
  own.usePhysical(1);
  own.poke("ICC_PCR_EL1", 31n);
  own.poke("ICC_CR0_EL1", 1n);
  for (const { gicv5 } of machine.host.cpus) gicv5.poke("ICC_PPI_ENABLER0_EL1", ~0n & 8n);
  const ist = machine.host.frames.allocate(16);
  machine.irs.write(IRS32.CR0, 4, 1n);
  machine.irs.write(IRS32.IST_CFGR, 4, 14n);
  machine.irs.write(IRS64.IST_BASER, 8, BigInt(ist) | 1n);
  return { machine, ist };
}

function apply(machine: Gicv5Host, one: Use, ist: number): void {
  const { gicv5 } = machine.cpu(one.cpu);
  const isOn = one.value !== 0;
  switch (one.what) {
    case "insn":
      gicv5.execute(one.insn, operand(one));
      return;
    case "take":
      gicv5.acknowledge(false);
      return;
    case "line":
      machine.irs.setSpiLine(one.intid & 7, isOn);
      return;
    case "ppi":
      gicv5.setPpiLine(3, isOn);
      return;
    case "vdpend":
      machine.irs.vdpend(1, one.intid, isOn);
      return;
    case "away":
      machine.cpu(0).gicv5.setContext(null);
      return;
    case "here":
      if (machine.cpu(0).gicv5.context === null) machine.enter(0, 1, 0, isOn);
      return;
    default:
      machine.irs.write(IRS64.IST_BASER, 8, BigInt(ist) | BigInt(isOn ? 1 : 0));
  }
}

function seen(machine: Gicv5Host): unknown {
  const shows = ({ gicv5 }: HostCpu) => [
    gicv5.virq,
    gicv5.peek("ICC_HPPIR_EL1"),
    gicv5.peek("ICC_APR_EL1"),
    gicv5.peek("ICC_ICSR_EL1"),
    gicv5.peek("ICC_PPI_SACTIVER0_EL1"),
  ];
  const ids = [0, 1, 2, 3, 4, 5];
  const states = [machine.irs.physical, machine.irs.domainOf(1)!].map((domain) =>
    [...ids.map(spi), ...ids.map(lpi)].map((intid) => domain.config(intid)),
  );
  return [machine.host.cpus.map(shows), states];
}

const silicon = ({ irs, host }: Gicv5Host) => [irs, ...host.cpus.map(({ gicv5 }) => gicv5)];
const partsOf = (machine: Gicv5Host) => [machine.host.memory, ...silicon(machine)];

it("goes on the same", () => {
  const uses = fc.array(use, { minLength: 2, maxLength: 60 });
  fc.assert(
    fc.property(uses, uses, (before, after) => {
      const { machine, ist } = made();
      for (const one of before) apply(machine, one, ist);
      const saved = structuredClone(partsOf(machine).map((part) => part.save()));
      const { machine: other } = made();
      for (const [n, part] of partsOf(other).entries()) part.load(saved[n]!);
      const rung: [number[], number[]] = [[], []];
      machine.irs.onDoorbell = (_, vpe) => rung[0].push(vpe);
      other.irs.onDoorbell = (_, vpe) => rung[1].push(vpe);
      for (const one of after) {
        for (const each of [machine, other]) apply(each, one, ist);
        expect(seen(other)).toEqual(seen(machine));
      }
      expect(rung[1]).toEqual(rung[0]);
      const [first, second] = [machine, other].map((each) => {
        return [each.host.memory.digest(), digestOf(silicon(each).map((part) => part.save()))];
      });
      expect(second).toEqual(first);
    }),
    { numRuns: 200 },
  );
});
