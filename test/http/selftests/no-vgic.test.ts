// Goal: what the kernel's no-vgic checks, over HTTP: a guest without a GICv3 is told of none, and
// every register of its CPU interface is UNDEFINED. Method: the guest tries each, and its handler
// keeps the syndrome.
import { expect, it } from "vitest";
import { ICC_REGISTERS } from "../../../src/machine/gic/icc.table.js";
import * as a64 from "../../support/a64.js";
import { mrsIcc, msrIcc } from "../../support/irq-code.js";
import { GICC, type HttpCpu, HttpVm, TYPE } from "../../support/irq-http.js";
import { serviceOfFile } from "../../support/irq-service.js";
import { ADDR, CTRL_INIT, DIST, GROUP } from "../../support/irq-uapi.js";

const call = serviceOfFile("no-vgic");

const PFR0 = "0x603000000013c020";
const SYNC = 0x200;
/** What no exception leaves in X18. */
const NOTHING = 0x3f;
/** X18 gets the exception's class; behind the instruction it goes on. */
const HANDLER = [
  a64.mrs(18, "ESR_EL1"),
  a64.lsr(18, 18, 26),
  a64.mrs(17, "ELR_EL1"),
  a64.add(17, 17, 4),
  a64.msr("ELR_EL1", 17),
  a64.ERET,
];
const MRS_PFR0 = 0xd538_0400;
const gicOf = (pfr0: bigint) => (pfr0 >> 24n) & 0xfn;

async function classOf(cpu: HttpCpu, word: number): Promise<number> {
  const words = [...a64.mov(18, BigInt(NOTHING)), word, a64.addReg(0, 18, 31)];
  return Number(await cpu.exec(...words));
}

/** Every access as its register has it. */
const ACCESSES = ICC_REGISTERS.flatMap(({ name, access }) => {
  const both = [
    { name, what: "read", word: mrsIcc(0, name) },
    { name, what: "written", word: msrIcc(name, 0) },
  ];
  return both.filter(({ what }) => access === "rw" || (access === "ro") === (what === "read"));
});

async function expectNone(cpu: HttpCpu): Promise<void> {
  await cpu.setVector(SYNC, HANDLER);
  expect(gicOf(await cpu.exec(MRS_PFR0))).toBe(0n);
  expect(ACCESSES.length).toBeGreaterThan(30);
  for (const { name, what, word } of ACCESSES) {
    expect([name, what, await classOf(cpu, word)]).toEqual([name, what, 0]);
  }
}

it("a VM without a vGIC has no GICv3, which its host has", async () => {
  const vm = await HttpVm.create(call);
  const cpu = await vm.cpu(0);
  expect(gicOf(await cpu.getRegister(PFR0))).not.toBe(0n);
  await expectNone(cpu);
  expect(gicOf(await cpu.getRegister(PFR0))).toBe(0n);
  await vm.delete();
});

it("nor has one with a GICv2", async () => {
  const vm = await HttpVm.create(call);
  const cpu = await vm.cpu(0);
  const device = await vm.device(TYPE.V2);
  expect(await device.set(GROUP.ADDR, ADDR.V2_DIST, DIST, 8)).toBeNull();
  expect(await device.set(GROUP.ADDR, ADDR.V2_CPU, GICC, 8)).toBeNull();
  expect(await device.setNothing(GROUP.CTRL, CTRL_INIT)).toBeNull();
  await expectNone(cpu);
  await vm.delete();
});
