// Goal: what the kernel's vgic_lpi_stress checks, over HTTP: MSIs of several devices, signalled at
// once while vCPUs take them, are delivered each (1), reach the guest as LPIs only, and the vCPUs
// stop when they are kicked. Method: the guest sets its ITS up by commands; one task a device.
import { expect, it } from "vitest";
import * as a64 from "../../support/a64.js";
import { mrsIcc, msrIcc } from "../../support/irq-code.js";
import type { HttpCpu, HttpVm } from "../../support/irq-http.js";
import { serviceOfFile } from "../../support/irq-service.js";
import { startV3 } from "../../support/irq-v3.js";
import {
  COMMAND,
  COMMAND_BYTES,
  type Command,
  DOORBELL,
  enableLpis,
  issue,
  LPI,
  setProperty,
  setUpTables,
  turn,
} from "../../support/its-code.js";

const call = serviceOfFile("vgic-lpi-stress");

const VCPUS = 2;
const DEVICES = 2;
const EVENTS = 16;
/** The kernel's own test has 1000. */
const ROUNDS = 12;
const [TAKEN, COUNT, FOREIGN, PLACE, SCRATCH] = [21, 18, 19, 20, 23];
const lpiOf = (device: number, event: number) => LPI + device * EVENTS + event;

/** Counts LPIs at [X20], everything else behind that. */
const HANDLER = [
  mrsIcc(TAKEN, "ICC_IAR1_EL1"),
  a64.lsr(SCRATCH, TAKEN, 13),
  a64.cbnz(SCRATCH, 3),
  a64.add(FOREIGN, FOREIGN, 1),
  a64.b(2),
  a64.add(COUNT, COUNT, 1),
  a64.str(COUNT, PLACE),
  a64.str(FOREIGN, PLACE, 8),
  msrIcc("ICC_EOIR1_EL1", TAKEN),
  a64.ERET,
];

/** Sleeps and takes what comes, until it is kicked. */
const forEver = (log: number) => [
  ...a64.mov(PLACE, BigInt(log)),
  ...a64.mov(COUNT, 0n),
  ...a64.mov(FOREIGN, 0n),
  a64.str(COUNT, PLACE),
  a64.str(FOREIGN, PLACE, 8),
  a64.daifclr(2),
  a64.WFI,
  a64.b(-1),
];

async function setUp(cpus: readonly HttpCpu[]): Promise<void> {
  const cpu = cpus[0]!;
  const commands: Command[] = cpus.map((_, n) => COMMAND.mapCollection(n, n));
  for (let device = 0; device < DEVICES; device++) {
    commands.push(COMMAND.mapDevice(device));
    for (let event = 0; event < EVENTS; event++) {
      await cpu.exec(...setProperty(lpiOf(device, event), true));
      commands.push(COMMAND.mapEvent(device, event, lpiOf(device, event), event % VCPUS));
    }
  }
  commands.push(...cpus.map((_, n) => COMMAND.invalidateAll(n)));
  for (const [n] of cpus.entries()) await cpu.exec(...enableLpis(n));
  await cpu.exec(...setUpTables(), ...turn(true));
  for (const [n, command] of commands.entries()) {
    await cpu.exec(...issue(n * COMMAND_BYTES, command));
  }
}

/** @returns each answer that wasn't 1 */
async function storm(vm: HttpVm, devid: number): Promise<unknown[]> {
  const others: unknown[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    for (let data = 0; data < EVENTS; data++) {
      const msi = { addressLo: DOORBELL, addressHi: 0, data, devid, flags: 1 };
      const { status, body } = await call("POST", `${vm.path}/msis`, msi);
      if (status !== 200 || body.delivered !== true) others.push([status, body]);
    }
  }
  return others;
}

it("every MSI is delivered, and only LPIs come", async () => {
  const { vm, cpus } = await startV3(call, { vcpus: VCPUS, its: true });
  await setUp(cpus);
  const runs: string[] = [];
  for (const cpu of cpus) {
    await cpu.setHandlerWords(HANDLER);
    await cpu.exec(a64.NOP);
    await vm.words(cpu.places.snippet, forEver(cpu.places.log));
    const run = await call("POST", `${vm.path}/vcpus/${cpu.id}/runs`, {});
    expect(run.status).toBe(202);
    runs.push(run.location);
  }
  const storms = Array.from({ length: DEVICES }, (_, device) => storm(vm, device));
  expect((await Promise.all(storms)).flat()).toEqual([]);
  const counts = async () => {
    const views = await Promise.all(cpus.map((cpu) => vm.memory(cpu.places.log, 16)));
    return views.map((view) => [view.getBigUint64(0, true), view.getBigUint64(8, true)] as const);
  };
  // Those that came while one was pending already are one interrupt with it; none of the events of
  // a vCPU is missing.
  await expect
    .poll(async () => (await counts()).every(([taken]) => taken >= (DEVICES * EVENTS) / VCPUS))
    .toBe(true);
  for (const [taken, foreign] of await counts()) {
    expect(taken).toBeLessThanOrEqual(BigInt(DEVICES * EVENTS * ROUNDS));
    expect(foreign).toBe(0n);
  }
  for (const run of runs) {
    await call("DELETE", run);
    const ended = await call("GET", `${run}?wait=10`);
    expect(ended.body.result).toMatchObject({ errno: "EINTR", exitReason: "KVM_EXIT_INTR" });
  }
  await vm.delete();
});
