// Owns: calls of a recording about the interrupt controller, its lines and what a guest does with
// it, as requests. Any thread.
import { isOk, jsonOf, plainOutcome, refusal, success } from "../client.js";
import { Irqchip, SPI_FIRST } from "../irqchip.js";
import { type Line, numberArg, type Outcome, ReplayFault } from "../line.js";
import { hex, type VcpuState, type VmState, type World } from "../world.js";
import { runProgram } from "./guest.js";

/** Numbers of KVM_IRQ_LINE as the path has them: an SPI belongs to no vCPU. */
const [LINE_SPI, NO_VCPU, LINE_INTID_MAX] = [1, 0, 0xffff];

/** KVM_CREATE_IRQCHIP. */
export async function createIrqchip(world: World, line: Line): Promise<Outcome> {
  const vm = world.vm(line.on);
  const made = await Irqchip.create(world.client, {
    vm: vm.path,
    frames: world.frames,
    edgePins: world.edgePins,
  });
  if (!(made instanceof Irqchip)) return refusal(made);
  vm.irqchip = made;
  return success();
}

/** KVM_IRQ_LINE: the recorded number is a GSI, arm64's is an INTID. */
export function irqLine(world: World, line: Line): Promise<Outcome> {
  return setLine(world, line, "");
}

/** KVM_IRQ_LINE_STATUS: what x86 says of the interrupt, arm64 doesn't. */
export function irqLineStatus(world: World, line: Line): Promise<Outcome> {
  return setLine(world, line, "?status=true");
}

async function setLine(world: World, line: Line, query: string): Promise<Outcome> {
  const intid = Math.min(SPI_FIRST + numberArg(line, "irq"), LINE_INTID_MAX);
  const path = `${world.vm(line.on).path}/irq-lines/${LINE_SPI}:${NO_VCPU}:${intid}${query}`;
  const json = { level: numberArg(line, "level") === 0 ? 0 : 1 };
  return plainOutcome(await world.client.send("PUT", path, { json }));
}

function irqchipOf(vm: VmState): Irqchip {
  if (vm.irqchip === null) throw new ReplayFault("the VM has no interrupt controller");
  return vm.irqchip;
}

/** irqchip_pin_level: the wire. */
export async function pinLevel(world: World, line: Line): Promise<Outcome> {
  const interrupt = await irqchipOf(world.vm(line.on)).interrupt(numberArg(line, "pin"));
  return success({ level: interrupt.lineLevel ? 1 : 0 });
}

/** irqchip_pin_edge: what an edge has left; looking takes it. */
export async function pinEdge(world: World, line: Line): Promise<Outcome> {
  const irqchip = irqchipOf(world.vm(line.on));
  const pin = numberArg(line, "pin");
  const { pendingLatch } = await irqchip.interrupt(pin);
  if (pendingLatch) await irqchip.forgetEdge(pin);
  return success({ latched: pendingLatch ? 1 : 0 });
}

const [GICD_CTLR, GICD_ISENABLER, GICD_ICENABLER, GICD_ITARGETSR] = [0, 0x100, 0x180, 0x800];
const [GICC_CTLR, GICC_PMR, GICC_IAR, GICC_EOIR] = [0, 4, 0xc, 0x10];
const LOWEST_PRIORITY = 0xff;
const SPURIOUS = 1023;

/**
 * guest_eoi: the guest takes the interrupt of `gsi` and ends it. It enables this one alone, so that
 * nothing else can be taken in its place. With the line low there is nothing to take, and on arm64
 * that tells nobody.
 */
export async function guestEoi(world: World, line: Line): Promise<Outcome> {
  const vcpu = world.vcpu(line.on);
  const { distributor, cpuInterface } = irqchipOf(vcpu.vm).frames;
  const intid = SPI_FIRST + (await pinOf(world, vcpu.vm, numberArg(line, "gsi")));
  const bit = 1 << (intid & 31);
  const word = 4 * (intid >>> 5);
  const index = Number(vcpu.path.split("/").at(-1));
  const [taken] = await guest(world, vcpu, [
    store(distributor, GICD_CTLR, 1),
    store(cpuInterface, GICC_PMR, LOWEST_PRIORITY),
    store(cpuInterface, GICC_CTLR, 1),
    store(distributor, GICD_ITARGETSR + intid, 1 << index, 1),
    store(distributor, GICD_ISENABLER + word, bit),
    { op: "read", length: 4, address: hex(cpuInterface + BigInt(GICC_IAR)) },
  ]);
  const disable = store(distributor, GICD_ICENABLER + word, bit);
  if (taken === SPURIOUS) {
    await guest(world, vcpu, [disable]);
    return success();
  }
  if (taken !== intid) throw new ReplayFault(`the guest took ${taken} instead of ${intid}`);
  await guest(world, vcpu, [store(cpuInterface, GICC_EOIR, intid), disable]);
  return success();
}

function store(base: bigint, offset: number, value: number, length = 4): object {
  return { op: "write", length, address: hex(base + BigInt(offset)), value: hex(value >>> 0) };
}

/** @returns what the accesses loaded */
async function guest(world: World, vcpu: VcpuState, accesses: readonly object[]) {
  const isRead = accesses.some((access) => "op" in access && access.op === "read");
  const outcome = await runProgram(world, vcpu, { accesses, isRead });
  const exits = outcome.out["exits"];
  if (outcome.errno !== null || !Array.isArray(exits) || exits.length > 0) {
    throw new ReplayFault(`the guest's driver: ${JSON.stringify(outcome)}`);
  }
  const values = (outcome.out["values"] ?? []) as readonly (string | null)[];
  return values.filter((value) => value !== null).map(Number);
}

/** The pin that a GSI leads to. */
async function pinOf(world: World, vm: VmState, gsi: number): Promise<number> {
  const answer = await world.client.send("GET", `${vm.path}/gsi-routing`);
  if (!isOk(answer)) throw new ReplayFault(`GET gsi-routing gave ${answer.status}`);
  const entries = jsonOf(answer)["entries"] as readonly Readonly<Record<string, number>>[];
  const pin = entries.find((entry) => entry["gsi"] === gsi && entry["type"] === 1)?.["pin"];
  if (pin === undefined) throw new ReplayFault(`gsi ${gsi} leads to no pin`);
  return pin;
}
