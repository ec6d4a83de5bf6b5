// Owns: what a GICv5's SPI tracking costs per exit, with more and more SPIs in flight and vCPUs;
// what it saves to look at listened SPIs only; interrupts beside a GICv3. Bench process.
import { IrqGuest, type IrqGuestOptions } from "./support/irq.js";
import type { BenchContext } from "./support/subject.js";

const MS_PER_S = 1000;
const NS_PER_MS = 1e6;
const US_PER_MS = 1000;
/** All that KVM's routing knows. */
const SPIS = 988;
const NR_SPIS = 1024;
const IN_FLIGHT = [0, 1, 16, SPIS] as const;
const VCPUS = [1, 4, 16, 64] as const;
const TRACKING = "vgicV5.spiTracking";
const POLICIES = ["exact", "none", "seed004", "seed004-notifier-only"] as const;
type Policy = (typeof POLICIES)[number];

/** CPU milliseconds: who else is on the machine then says little. */
function cpuMs(act: () => void): number {
  const before = process.cpuUsage();
  act();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / US_PER_MS;
}

const fastest = (context: BenchContext, round: () => void): number =>
  Math.min(...Array.from({ length: context.quick ? 3 : 8 }, () => cpuMs(round)));

function check(what: string, found: number, wanted: number): void {
  if (found !== wanted) throw new Error(`${what}: ${found} instead of ${wanted}`);
}

interface Exits {
  readonly nsPerExit: number;
  readonly readsPerExit: number;
  readonly savedPerExit: number;
}

/** vCPUs that leave the guest by PSCI_VERSION while edges wait that nobody takes. */
function exits(
  context: BenchContext,
  policy: Policy,
  vcpus: number,
  inFlight: number,
  listened = 0,
): Exits {
  const all = context.quick || inFlight > 16 ? 512 : 8192;
  const hops = Math.max(4, Math.floor(all / vcpus));
  const guest = new IrqGuest({
    ...{ model: "v5", vcpus, config: "edge", work: "exits", hops, nrIrqs: NR_SPIS },
    settings: { [TRACKING]: policy },
  });
  for (let n = 0; n < listened; n++) guest.resampler(n);
  for (let spi = 0; spi < inFlight; spi++) guest.drive(spi, 1);
  const counters = () => guest.call("describeVgicV5", {}).counters;
  guest.exit();
  const before = counters();
  guest.exit();
  const after = counters();
  // The last one of each is its store.
  const perRound = vcpus * (hops + 1);
  check("exits", after.exits - before.exits, perRound);
  const reads = after.vdrcfgCalls - before.vdrcfgCalls;
  const saved = after.vdrcfgSkippedNoNotifier - before.vdrcfgSkippedNoNotifier;
  const ns = (fastest(context, () => guest.exit()) / perRound) * NS_PER_MS;
  check(
    "in flight",
    guest.call("describeVgicV5", {}).inFlight.length,
    counted(policy, inFlight, listened),
  );
  guest.close();
  return { nsPerExit: ns, readsPerExit: reads / perRound, savedPerExit: saved / perRound };
}

/** Of edges that nobody takes, those on message 004's list. */
function counted(policy: Policy, inFlight: number, listened: number): number {
  if (policy === "seed004") return inFlight;
  if (policy !== "seed004-notifier-only") return 0;
  // Listeners are those of SPIs from 8 on.
  return Math.min(listened, Math.max(0, inFlight - 8));
}

/** @returns interrupts per CPU second of the fastest round */
function roundTrips(
  context: BenchContext,
  options: Pick<IrqGuestOptions, "model" | "settings" | "vcpus"> & { how: "irqfd" | "edge" },
): number {
  const { how, ...rest } = options;
  const config = how === "irqfd" ? "level" : "edge";
  const guest = new IrqGuest({ ...rest, config, work: "nothing" });
  const trips = context.quick ? 100 : 1000;
  const lines =
    how === "irqfd" ? Array.from({ length: rest.vcpus }, (_, cpu) => guest.resampler(cpu)) : [];
  let done = 0;
  const ms = fastest(context, () => {
    for (let n = 0; n < trips; n++) {
      if (how === "irqfd") for (const line of lines) line.signal();
      else for (let cpu = 0; cpu < rest.vcpus; cpu++) guest.setLine(cpu, 1);
      guest.settle();
    }
    done += trips;
  });
  for (let cpu = 0; cpu < rest.vcpus; cpu++) check("taken", guest.taken(cpu), done);
  for (const line of lines) check("resampled", line.acks(), done);
  guest.close();
  return ((trips * rest.vcpus) / ms) * MS_PER_S;
}

const many = (count: number, what: string) => `${count} ${what}${count === 1 ? "" : "s"}`;

function tracking(context: BenchContext): void {
  for (const vcpus of VCPUS) {
    const alone = exits(context, "none", vcpus, 0).nsPerExit;
    context.report({ what: `an exit, none, ${many(vcpus, "vCPU")}`, figure: alone, unit: "ns" });
    for (const inFlight of IN_FLIGHT) {
      const { nsPerExit, readsPerExit } = exits(context, "seed004", vcpus, inFlight);
      check("reads per exit", readsPerExit, inFlight);
      const what = `an exit, seed004, ${many(vcpus, "vCPU")}, ${many(inFlight, "SPI")} in flight`;
      context.report({ what, figure: nsPerExit, unit: "ns", ratio: nsPerExit / alone });
    }
  }
}

function savings(context: BenchContext): void {
  const plain = exits(context, "seed004", 4, SPIS);
  for (const listened of [0, 16] as const) {
    const only = exits(context, "seed004-notifier-only", 4, SPIS, listened);
    check("reads and reads saved", only.readsPerExit + only.savedPerExit, SPIS);
    const what = `an exit, notifier-only, 4 vCPUs, ${listened} of ${SPIS} SPIs are listened to`;
    context.report({ what: `${what}: reads`, figure: only.readsPerExit, unit: "VDRCFG" });
    const ratio = only.readsPerExit / plain.readsPerExit;
    context.report({ what: `${what}: saved`, figure: only.savedPerExit, unit: "VDRCFG", ratio });
  }
}

function beside(context: BenchContext): void {
  for (const vcpus of [1, 4] as const) {
    const base = { vcpus, how: "irqfd" } as const;
    const v3 = roundTrips(context, { ...base, model: "v3" });
    const unit = "round trips/CPU s";
    const who = many(vcpus, "vCPU");
    context.report({ what: `irqfd to resamplefd, GICv3, ${who}`, figure: v3, unit });
    const settings = { [TRACKING]: "exact" };
    const v5 = roundTrips(context, { ...base, model: "v5", settings });
    context.report({
      ...{ what: `irqfd to resamplefd, GICv5 exact, ${who}`, figure: v5, unit, ratio: v5 / v3 },
    });
    const edges = { vcpus, how: "edge" } as const;
    const edgeV3 = roundTrips(context, { ...edges, model: "v3" });
    context.report({ what: `KVM_IRQ_LINE, edge, GICv3, ${who}`, figure: edgeV3, unit });
    for (const policy of POLICIES) {
      const figure = roundTrips(context, {
        ...edges,
        model: "v5",
        settings: { [TRACKING]: policy },
      });
      const what = `KVM_IRQ_LINE, edge, GICv5 ${policy}, ${who}`;
      context.report({ what, figure, unit, ratio: figure / edgeV3 });
    }
  }
}

export default function gicv5(context: BenchContext): void {
  beside(context);
  tracking(context);
  savings(context);
}
