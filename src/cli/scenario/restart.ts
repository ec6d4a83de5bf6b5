// Owns: the restart of message 003: a VM dies before its end of interrupt while its device asserts,
// and the next VM gets the device. CLI process.
//
//   VM 1: irqfd, VFIO, interrupt taken ─ killed ─▶ VM 2: irqfd, VFIO fires ─▶ the variant's steps
//   ─▶ what was seen ─▶ the device's next interrupt ─▶ outcome
import type { Client } from "../client.js";
import type { Cleanup } from "../ending.js";
import { Failure } from "../failure.js";
import type { Settings } from "../options.js";
import { ASK, driver, type Gic } from "./accesses.js";
import { eventOf, type SceneEvent } from "./events.js";
import { type Done, type GuestOptions, ScenarioGuest, type Wires } from "./guest.js";
import { differences, type Observed, outcomeOf } from "./judge.js";
import {
  EXPECTED,
  type Expected,
  type Outcome,
  POLICIES,
  type Policy,
  VARIANTS,
  type VariantName,
} from "./variants.table.js";

export interface Asked {
  readonly variant: VariantName;
  readonly gic: Gic;
  readonly policy: Policy;
  /** On top of the policy's. */
  readonly settings: Settings;
  /** VFIO has the second VM's device before KVM_IRQFD, and not after it. */
  readonly isVfioFirst: boolean;
}

export interface Restart extends Asked {
  readonly outcome: Outcome;
  readonly seen: Observed;
  readonly expected: Expected;
  /** What isn't as it is told. */
  readonly differences: readonly string[];
  readonly events: readonly SceneEvent[];
}

async function eventfds(client: Client, cleanup: Cleanup): Promise<Wires> {
  const make = async () => {
    const { id } = await client.call("createEventfd", {}, {});
    cleanup.add(() => client.call("deleteEventfd", { id }));
    return id;
  };
  return { trigger: await make(), unmask: await make() };
}

/** Both are empty: what the first VM was told is nowhere but in the device. */
async function checkDrained(client: Client, { trigger, unmask }: Wires): Promise<void> {
  for (const id of [trigger, unmask]) {
    const { count } = await client.call("getEventfd", { id });
    if (Number(count) !== 0) throw new Failure(`Eventfd ${id} still counts ${count}.`);
  }
}

/** The first VM, up to its death; the device asserts, and VFIO has it masked. */
async function live(guest: ScenarioGuest, gic: Gic): Promise<void> {
  await guest.setHandlers(driver(gic));
  await guest.carryOut([ASK.level, ASK.enable]);
  await guest.attachIrqfd();
  await guest.attachDevice(false);
  await guest.raise();
  await guest.takeOne(ASK.letIn);
  const { isHigh, isMasked } = await guest.device();
  if (!isHigh || !isMasked) throw new Failure("The device of the first VM is quiet.");
  await guest.kill();
}

const linesOf = (done: readonly Done[]): readonly boolean[] =>
  done.filter(({ access }) => access.learns === "line").map(({ value }) => value !== 0);

const isAck = ({ detail }: SceneEvent): boolean => detail.startsWith("kvm_ack_irq");
const isTaken = ({ detail }: SceneEvent): boolean => /IAR/.test(detail);

function acksOf(events: readonly SceneEvent[]) {
  const first = events.findIndex(isTaken);
  const before = first < 0 ? events : events.slice(0, first);
  return { acks: events.filter(isAck).length, early: before.filter(isAck).length };
}

/** The second VM: the device fires for it, its guest does what the variant says. */
async function revive(
  guest: ScenarioGuest,
  { variant, gic, isVfioFirst }: Asked,
): Promise<Observed> {
  const { before, after, isLazy } = VARIANTS[variant];
  const lists = isLazy ? [driver(gic, false), driver(gic)] : [driver(gic)];
  await guest.setHandlers(...lists);
  await guest.carryOut(before.map((asked) => ASK[asked]));
  if (isVfioFirst) await guest.attachDevice(true);
  await guest.attachIrqfd();
  if (!isVfioFirst) await guest.attachDevice(true);
  await guest.look();
  for (const asked of after) {
    await guest.carryOut([ASK[asked]]);
    if (asked === "clear") await guest.look();
  }
  const taken = linesOf(await guest.carryOut([ASK.letIn]));
  const { isHigh, isMasked, interrupts, unmasks } = await guest.device();
  const { pending: isPending, enabled } = await guest.interrupt();
  const acks = acksOf(guest.events);
  const servesNext = enabled ? await next(guest) : null;
  return { taken, ...acks, interrupts, unmasks, isHigh, isMasked, isPending, servesNext };
}

/** The device has something to say again. @returns whether its driver hears it and quiets it */
async function next(guest: ScenarioGuest): Promise<boolean> {
  guest.tell({ text: "the device has something to say again" });
  await guest.raise();
  const taken = linesOf(await guest.carryOut([ASK.letIn]));
  const { isHigh, isMasked } = await guest.device();
  return taken.length === 1 && taken[0] === true && !isHigh && !isMasked;
}

function divider(vm: number, text: string): SceneEvent {
  return eventOf(vm, { text });
}

/** @param signal ends it before its time */
export async function restart(
  client: Client,
  asked: Asked,
  cleanup: Cleanup,
  signal: AbortSignal,
): Promise<Restart> {
  const wires = await eventfds(client, cleanup);
  const settings = { ...POLICIES[asked.policy], ...asked.settings };
  const create = (number: number) => {
    const options: GuestOptions = { gic: asked.gic, settings, number, wires, signal };
    const onCreated = (vm: string) => cleanup.add(() => client.call("deleteVm", { vm }));
    return ScenarioGuest.create(client, options, onCreated);
  };
  const first = await create(1);
  await live(first, asked.gic);
  await checkDrained(client, wires);
  const second = await create(2);
  const seen = await revive(second, asked);
  await second.kill();
  const expected = EXPECTED[asked.policy][asked.variant];
  return {
    ...asked,
    outcome: outcomeOf(seen),
    seen,
    expected,
    differences: differences(seen, expected),
    events: [
      ...first.events,
      divider(1, "VM 1 is killed before its end of interrupt"),
      divider(2, "VM 2 gets the device and the eventfds"),
      ...second.events,
    ],
  };
}
