// Owns: shapes of experiments on interrupts: the workload, controllers compared, rows. HTTP thread.
import Type from "typebox";
import { closed, count, nullable, text } from "./common.schema.js";
import { given } from "./dirty-settings.schema.js";
import { integer, number, oneOf, seed } from "./experiment-fields.schema.js";

const rounds = integer(1, 100, "Rounds; each is a row.", 3);
const kind = Type.Literal("interrupts", {
  description: "Devices that interrupt a guest, which serves and deactivates them.",
  examples: ["interrupts"],
});
const rest = {
  vcpus: integer(1, 64, "vCPUs; SPI n is delivered to vCPU n modulo these.", 2),
  spis: integer(1, 988, "SPIs, each of a device; a GICv3 has 960 at most.", 8),
  trigger: oneOf(
    ["level", "level-quieted", "edge"],
    "level: the line stays high until KVM acknowledges it, as with VFIO; level-quieted: the " +
      "guest's driver quiets the device by an exit, and userspace lowers the line; edge: an event.",
    "level",
  ),
  notifierPercent: integer(0, 100, "Share of the SPIs that have a resampling irqfd.", 100),
  interruptsPerSecond: integer(1, 1e7, "Of guest time, all SPIs together.", 20_000),
  exitsPerSecond: integer(1, 1e6, "Each vCPU's to userspace, beside those for interrupts.", 20_000),
  interruptsPerRound: integer(1, 100_000, "Raised in a round.", 500),
  seed,
  stormLimit: integer(1, 1000, "Interrupts in a row for nothing; then the guest disables it.", 100),
  lateNs: integer(0, 1e9, "An acknowledgement later than this counts as late.", 1000),
};
const gic = Type.Union([Type.Literal(3), Type.Literal(5)], {
  description: "The interrupt controller.",
  examples: [5],
});
const spiTracking = oneOf(
  ["none", "seed004", "seed004-notifier-only", "exact"],
  "vgicV5.spiTracking: how KVM learns that a guest is done with an SPI.",
  "exact",
);
const strategyRest = { name: text("Shown in results.", "GICv5 exact", 128), settings: given };

export const InterruptWorkload = Type.Object(
  { ...rest, rounds, kind },
  { ...closed, $id: "InterruptWorkload" },
);
export const InterruptWorkloadCreate = Type.Object(
  { kind, rounds, ...Type.Partial(Type.Object(rest)).properties },
  { ...closed, $id: "InterruptWorkloadCreate" },
);
export const InterruptStrategy = Type.Object(
  { ...strategyRest, gic, spiTracking: nullable(spiTracking) },
  { ...closed, $id: "InterruptStrategy" },
);
export const InterruptStrategyCreate = Type.Object(
  { gic, ...Type.Partial(Type.Object({ ...strategyRest, spiTracking })).properties },
  {
    ...closed,
    $id: "InterruptStrategyCreate",
    description: "A controller, for workloads of kind interrupts; exact unless said.",
  },
);

const InterruptRow = Type.Object(
  {
    round: count("From 1.", 1),
    raised: count("By devices.", 500),
    roundTrips: count("Taken by the guest, its device served, and deactivated.", 495),
    coalesced: count("Raised while the one before was not done.", 5),
    unserved: count("Not served at the round's end, of this round or before.", 0),
    forNothing: count("Taken, and the device had nothing.", 0),
    storms: count("SPIs that the guest disabled for that.", 0),
    exits: count("Times a vCPU left the guest.", 1600),
    maintenanceExits: count(
      "A GICv3's on silicon, one for the end of each level interrupt; our host needs none.",
      0,
    ),
    deactivationTraps: count("Exits of a GIC CDDI that KVM did in the guest's place.", 495),
    acks: count("That told a notifier.", 495),
    lateAcks: count("Of them, later than lateNs after the deactivation.", 0),
    missedAcks: count("Deactivations of a level SPI that its notifier never heard of.", 0),
    needlessAcks: count("Acknowledgements of edges, or without such a deactivation.", 0),
    ackLatencyNs: nullable(
      Type.Object(
        { mean: number("Nanoseconds.", 2), max: number("Nanoseconds.", 3) },
        { ...closed, description: "From the guest's deactivation to the acknowledgement." },
      ),
    ),
    vdrcfgReads: count("Reads of an SPI's state by GIC VDRCFG.", 0),
    vdrcfgSaved: count("That seed004 would have made beside.", 0),
    listLocks: count("Times the lock of SPIs in flight was taken.", 0),
    inFlightMax: count("SPIs in flight at once, at most, until now.", 0),
    cycles: Type.Object(
      {
        total: number("Cycles.", 3_500_000),
        perRoundTrip: number("Cycles.", 7070),
        byEvent: Type.Record(Type.String(), number("Cycles.", 2_400_000), {
          description: "By key of the cost model; what did not occur is left out.",
          examples: [{ exitEntry: 2_400_000 }],
        }),
      },
      { ...closed, description: "By the cost model." },
    ),
    kvm: nullable(
      Type.Record(Type.String(), Type.Integer({ examples: [495] }), {
        description: "The GICv5's own counters of SPI tracking, of this round; null: a GICv3.",
        examples: [{ acks: 495, lateAcks: 0 }],
      }),
    ),
    guestNs: number("Virtual nanoseconds.", 25_000_000),
    runMs: number("Real milliseconds here.", 120),
  },
  { ...closed, $id: "InterruptRow" },
);

export const InterruptResult = Type.Object(
  {
    strategy: InterruptStrategy,
    state: oneOf(["done", "failed", "cancelled"], "How it ended.", "done"),
    error: nullable(text("Why it failed.", "Out of memory.", 4096)), // tidy: characters
    rows: Type.Array(InterruptRow),
  },
  { ...closed, $id: "InterruptResult" },
);
