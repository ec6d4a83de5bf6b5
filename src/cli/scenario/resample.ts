// Owns: the scenario gicv5-resample: a VFIO device on a level SPI of a GICv5, under each setting of
// vgicV5.spiTracking: who acknowledges when, and what becomes of the device. CLI process.
//
//   device asserts ─▶ irqfd ─▶ guest takes, quiets, deactivates ─▶ acknowledged, or again and again
//   ─▶ the device's next interrupt ─▶ outcome
import { writeFile } from "node:fs/promises";
import { extname } from "node:path";
import { parseArgs } from "node:util";
import type { Client } from "../client.js";
import { Cleanup, endings, type Terminal } from "../ending.js";
import { EXIT, Failure } from "../failure.js";
import { openHost } from "../host.js";
import { HOST_OPTIONS, hostOf, positive, text, usageOf } from "../options.js";
import { type Access, ASK, ASK_V5 } from "./accesses.js";
import { diagram, type Picture } from "./diagram.js";
import type { SceneEvent } from "./events.js";
import { ScenarioGuest } from "./guest.js";
import { story } from "./text.js";

export const RESAMPLE = "gicv5-resample";
const TIMEOUT_S = 120;

interface Expected {
  readonly acks: number;
  /** Interrupts that found their device quiet. */
  readonly forNothing: number;
  readonly servesNext: boolean;
}

const STORM: Expected = { acks: 0, forNothing: 2, servesNext: false };
/** By setting: what comes of it. docs/gicv5.md has the same, and a test compares both. */
export const TOLD = {
  exact: { acks: 2, forNothing: 0, servesNext: true },
  none: STORM,
  seed004: STORM,
  "seed004-notifier-only": STORM,
} as const satisfies Record<string, Expected>;
export type Tracking = keyof typeof TOLD;
const TRACKINGS = Object.keys(TOLD) as Tracking[];

const USAGE = `usage: tidemark scenario ${RESAMPLE} [options]

A device that is assigned by VFIO asserts its level SPI on a GICv5; the guest takes it, quiets the
device and deactivates the SPI. Runs that under settings of vgicV5.spiTracking, says who was told.
Status: 0 when what came out is what docs/gicv5.md tells, 1 when it is not.

      --tracking LIST         settings, with commas: ${TRACKINGS.slice(0, 3).join(", ")},
                              seed004-notifier-only; or all (all)
      --svg FILE              draws it; of several, each into a file with its name in it
      --timeout SECONDS       gives up after that long, with status 124 (${TIMEOUT_S})
      --server URL            the host to use (one of its own)
      --token-file FILE       holds the bearer token for it
`;
const usage = usageOf(USAGE);
const OPTIONS = {
  tracking: { ...text, default: "all" },
  svg: text,
  timeout: text,
  ...HOST_OPTIONS,
};

const TAKE: readonly Access[] = [ASK_V5.take, ASK_V5.drop, ASK.status];
const HANDLERS: readonly (readonly Access[])[] = [
  [...TAKE, ASK.reset, ASK_V5.deactivate],
  [...TAKE, ASK_V5.deactivate],
  // As Linux does when nobody cared.
  [...TAKE, ASK_V5.disable, ASK_V5.deactivate],
];
/** Where the device is acknowledged there is no second interrupt for nothing. */
const CONTENT: readonly (readonly Access[])[] = [HANDLERS[0] ?? []];

interface Run extends Picture {
  readonly tracking: Tracking;
  readonly differences: readonly string[];
}

const isAck = ({ detail }: SceneEvent): boolean => detail.startsWith("kvm_ack_irq");

function judge(found: Expected, told: Expected): readonly string[] {
  const names = ["acks", "forNothing", "servesNext"] as const;
  return names
    .filter((name) => found[name] !== told[name])
    .map((name) => `${name}: ${found[name]}, but told is ${told[name]}`);
}

function outcomeOf({ acks, servesNext, forNothing }: Expected): string {
  if (servesNext) return `acknowledged ${acks} times, at each deactivation: the device goes on`;
  const storm = `taken ${forNothing} times more for nothing, then disabled`;
  return `never acknowledged: ${storm}; VFIO has the device masked for ever`;
}

/** The device has something to say again. @returns whether the guest heard it */
async function next(guest: ScenarioGuest): Promise<boolean> {
  guest.tell({ text: "the device has something to say again" });
  await guest.raise();
  const done = await guest.carryOut([ASK.letIn]);
  const { isHigh, isMasked } = await guest.device();
  return done.length > 0 && !isHigh && !isMasked;
}

async function run(
  client: Client,
  tracking: Tracking,
  cleanup: Cleanup,
  signal: AbortSignal,
): Promise<Run> {
  const wire = async () => {
    const { id } = await client.call("createEventfd", {}, {});
    cleanup.add(() => client.call("deleteEventfd", { id }));
    return id;
  };
  const wires = { trigger: await wire(), unmask: await wire() };
  const options = {
    gic: 5,
    settings: { "vgicV5.spiTracking": tracking },
    number: 1,
    wires,
    signal,
  };
  const guest = await ScenarioGuest.create(client, { ...options, gic: 5 }, (vm) =>
    cleanup.add(() => client.call("deleteVm", { vm })),
  );
  const told = TOLD[tracking];
  await guest.setHandlers(...(told.forNothing > 0 ? HANDLERS : CONTENT));
  await guest.carryOut([ASK_V5.enable]);
  await guest.attachIrqfd();
  await guest.attachDevice(false);
  await guest.raise();
  const taken = await guest.carryOut([ASK.letIn]);
  const lines = taken.filter(({ access }) => access.learns === "line");
  const forNothing = lines.filter(({ value }) => value === 0).length;
  const servesNext = await next(guest);
  const { events } = guest;
  const found = { acks: events.filter(isAck).length, forNothing, servesNext };
  return {
    ...{ tracking, events, differences: judge(found, told), outcome: outcomeOf(found) },
    title: `GICv5, vgicV5.spiTracking ${tracking}`,
    subtitle: "a VFIO device on a level SPI; its irqfd resamples",
    mood: servesNext ? "good" : "bad",
  };
}

function read(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS });
  } catch (error) {
    throw usage((error as Error).message);
  }
}

function trackingsOf(given: string): readonly Tracking[] {
  if (given === "all") return TRACKINGS;
  return given.split(",").map((name) => {
    const known = TRACKINGS.find((one) => one === name);
    if (known === undefined) throw usage(`--tracking takes ${TRACKINGS.join(", ")} or all.`);
    return known;
  });
}

async function draw(all: readonly Run[], svg: string | null): Promise<void> {
  if (svg === null) return;
  const end = extname(svg);
  const stem = svg.slice(0, svg.length - end.length);
  for (const one of all) {
    const path = all.length > 1 ? `${stem}-${one.tracking}${end}` : svg;
    await writeFile(path, diagram(one)).catch((error: Error) => {
      throw new Failure(`${path} can't be written: ${error.message}.`);
    });
  }
}

/** @returns the exit code */
export async function resample(args: readonly string[], terminal: Terminal): Promise<number> {
  const { values } = read(args);
  if (values.help) {
    terminal.write(USAGE);
    return EXIT.ok;
  }
  const asked = trackingsOf(values.tracking);
  const timeoutS = positive("timeout", values.timeout, TIMEOUT_S, usage);
  const { ending, stop } = endings("The scenario", timeoutS, terminal);
  const { signal } = ending.controller;
  const host = await openHost(hostOf(values, null, usage));
  const all: Run[] = [];
  try {
    for (const tracking of asked) {
      signal.throwIfAborted();
      const cleanup = new Cleanup();
      const one = await run(host.client, tracking, cleanup, signal).finally(() => cleanup.run());
      all.push(one);
      terminal.write(story(one, one.differences));
    }
  } catch (error) {
    throw ending.cause ?? error;
  } finally {
    stop();
    await host.close();
  }
  await draw(all, values.svg ?? null);
  return all.every(({ differences }) => differences.length === 0) ? EXIT.ok : EXIT.differs;
}
