// Goal: whatever order requests come in, slots, dirty logs, rings and eventfds do what a model of a
// few lines says.
// Method: random commands against the real service and the model; fast-check shortens what differs.
// effort.ts says how long.
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type RealService, startReal, temporary } from "../support/real-service.js";
import { Caller } from "./caller.js";
import { effort } from "./effort.js";
import { eventfdCommands, eventfdsAfter, furnishEventfds } from "./model/eventfds.js";
import { Guest } from "./model/guest.js";
import { furnishRing, ringAfter, ringCommands, ringModel } from "./model/ring.js";
import { furnish, slotCommands, slotsAfter, slotsBefore, slotsModel } from "./model/slots.js";

const MS_PER_RUN = 10_000;
const EFFORT = effort(12, MS_PER_RUN);
const COMMANDS_MAX = 40;

let folder: Awaited<ReturnType<typeof temporary>>;
let service: RealService;
let caller: Caller;

beforeAll(async () => {
  folder = await temporary("model");
  service = await startReal({ dataDir: folder.path });
  caller = await Caller.open(service.origin);
});
afterAll(async () => {
  await caller?.close();
  await service?.stop();
  await folder?.remove();
});

interface Subject<M extends object> {
  readonly definition: object;
  readonly begin: (guest: Guest) => Promise<M>;
  readonly before: readonly fc.AsyncCommand<M, Guest>[];
  readonly after: readonly fc.AsyncCommand<M, Guest>[];
}

async function runAll<M extends object>(
  commands: readonly fc.AsyncCommand<M, Guest>[],
  model: M,
  guest: Guest,
): Promise<void> {
  for (const command of commands) {
    if (await command.check(model)) await command.run(model, guest);
  }
}

/** Runs commands on a VM of their own, which goes away with them. */
async function compare<M extends object>(
  { definition, begin, before, after }: Subject<M>,
  commands: Iterable<fc.AsyncCommand<M, Guest>>,
): Promise<void> {
  const guest = await Guest.create(caller, definition);
  try {
    const model = await begin(guest);
    await runAll(before, model, guest);
    await fc.asyncModelRun(() => ({ model, real: guest }), commands);
    await runAll(after, model, guest);
  } finally {
    await guest.remove();
  }
}

it.each([
  ["legacy", 0, "write-protect"],
  ["manual", 1, "write-protect"],
  ["manual, initially set", 3, "write-protect"],
  ["legacy with DBM", 0, "dbm"],
  ["manual with DBM", 1, "dbm"],
])(
  "memslots and their dirty log: %s",
  async (_name, manual, dirtyTracking) => {
    const commands = fc.commands(slotCommands, { maxCommands: COMMANDS_MAX, size: "max" });
    const property = fc.asyncProperty(commands, (list) =>
      compare(
        {
          definition: { dirtyTracking },
          begin: async (guest) => {
            await furnish(guest, manual);
            return slotsModel(manual);
          },
          before: slotsBefore(),
          after: slotsAfter(),
        },
        list,
      ),
    );
    await fc.assert(property, EFFORT.parameters);
    expect(service.isRunning()).toBe(true);
  },
  EFFORT.timeoutMs,
);

it(
  "a dirty ring",
  async () => {
    const commands = fc.commands(ringCommands, { maxCommands: COMMANDS_MAX, size: "max" });
    const property = fc.asyncProperty(commands, (list) =>
      compare(
        {
          definition: {},
          begin: async (guest) => {
            await furnishRing(guest);
            return ringModel();
          },
          before: [],
          after: ringAfter(),
        },
        list,
      ),
    );
    await fc.assert(property, EFFORT.parameters);
  },
  EFFORT.timeoutMs,
);

it(
  "eventfds and ioeventfds",
  async () => {
    const commands = fc.commands(eventfdCommands, { maxCommands: COMMANDS_MAX, size: "max" });
    const subject = { definition: {}, begin: furnishEventfds, before: [], after: eventfdsAfter() };
    const property = fc.asyncProperty(commands, (list) => compare(subject, list));
    await fc.assert(property, EFFORT.parameters);
  },
  EFFORT.timeoutMs,
);
