// One seeded migration between two hosts in this thread, with faults; then a second one without.
import { Prng } from "../../../src/base/prng.js";
import {
  DEFAULT_PARAMETERS,
  type MigrationParameters,
  type SourceSession,
} from "../../../src/migration/index.js";
import { LoopbackNetwork } from "../../../src/migration/wire/loopback.js";
import { FAULT_KINDS, type FaultKind } from "./faults.table.js";
import { SimHost } from "./host.js";
import { Net } from "./net.js";
import { Oracle } from "./oracle.js";
import type { MigrationPlant } from "./plant.js";
import { REAL } from "./real-vm.js";
import type { SimVm, VmKind } from "./sim-vm.js";
import { type Shape, TOY_BYTES_PER_MS, toy } from "./toy-vm.js";
import { type NthFault, World } from "./world.js";

export interface MigrationOptions {
  readonly seed: number;
  /** Instead of faults by chance. */
  readonly nth?: NthFault;
  /** Pages go over the real page stream. */
  readonly isWire?: boolean;
  /** Instead of the seed's choice, and then so many at most. */
  readonly most?: number;
  readonly faults?: ReadonlyMap<FaultKind, number> | undefined;
  readonly parameters?: Partial<MigrationParameters>;
  /** Few pages: for all n of a kind of fault. */
  readonly isSmall?: boolean;
  /** A toy of so many pages that those of a post-copy go in several turns. */
  readonly isLarge?: boolean;
  /** A board with a guest of its own, instead of a toy. */
  readonly isReal?: boolean;
  readonly plant?: MigrationPlant | null;
}

export interface MigrationResult {
  readonly failure: string | null;
  readonly outcome: "moved" | "stayed" | "lost";
  readonly handOvers: number;
  readonly faults: readonly string[];
  readonly opportunities: ReadonlyMap<FaultKind, number>;
  readonly events: number;
  readonly rounds: number;
  readonly steps: number;
  readonly story: readonly string[];
}

/** Virtual time within which everything must be over. */
const END_MS = 900_000;
/** Methods by which stores are noticed; a toy knows no difference. */
const TRACKING = [
  "auto",
  "bitmap",
  "manual-protect",
  "ring",
  "hdbss",
  "hdbss+hacdbs",
  "async-run",
] as const;
/** Ways in which a frame doesn't arrive, or nobody hears that it has. */
const LOST = ["cut", "cut-after", "truncate", "corrupt"] as const;
/** Within which a page stream that is dead can be connected again. */
const DEAD_MS = 4_000;
/** A client's patience with a migration that doesn't converge. */
const PATIENCE_MS = 6_000;

function drawShape(prng: Prng, { isSmall, isLarge }: MigrationOptions): Shape {
  if (isSmall === true) return { pages: [8, 4], hot: 4, rate: 2 };
  if (isLarge === true) {
    const pages = 600 + prng.below(1_200);
    const [hot, rate] = [2 + prng.below(pages), 1 + prng.below(10)];
    return { isReal: true, pages: [pages, 300], hot, rate };
  }
  const hot = 2 + prng.below(60);
  const pages = [16 + prng.below(80), 1 + prng.below(40)];
  return { pages, hot, rate: prng.below(40) / 2 };
}

function drawParameters(prng: Prng): MigrationParameters {
  const isOneIn = (n: number) => prng.below(n) === 0;
  return {
    ...DEFAULT_PARAMETERS,
    strategy: isOneIn(4) ? "stop-and-copy" : "pre-copy",
    bandwidthBytesPerSecond: isOneIn(2) ? 0 : 100_000 + prng.below(900_000),
    downtimeMs: 11 + prng.below(40),
    timeoutMs: isOneIn(3) ? 0 : 20 + prng.below(2_000),
    onTimeout: isOneIn(2) ? "force" : "cancel",
    tracking: prng.pick(TRACKING),
    autoConverge: isOneIn(2),
    dirtyLimitPagesPerSecond: isOneIn(4) ? 100 : 0,
    pauseBeforeSwitchover: isOneIn(4),
    verify: isOneIn(3),
  };
}

/** Of a third of the runs; drawn apart, so that the others stay what they are. */
function drawPostcopy(seed: number): Partial<MigrationParameters> & { readonly askedMs?: number } {
  const prng = new Prng(BigInt(seed) * 104_729n + 2n);
  if (prng.below(3) > 0) return {};
  const strategy = prng.pick(["post-copy", "hybrid", "pre-copy"] as const);
  const askedMs = strategy === "pre-copy" ? { askedMs: prng.below(400) } : {};
  return { strategy, onTimeout: "postcopy", verify: false, ...askedMs };
}

/** One run has one to three kinds of faults, or none. */
function drawChances(prng: Prng): Map<FaultKind, number> {
  const chances = new Map<FaultKind, number>();
  const perEvent: readonly FaultKind[] = ["source-crash", "target-crash", "cancel"];
  for (let n = prng.below(4); n > 0; n--) {
    const kind = prng.pick(FAULT_KINDS);
    const rate = perEvent.includes(kind) ? 0.005 : 0.15;
    chances.set(kind, rate * (0.2 + prng.fraction()));
  }
  return chances;
}

class Simulation {
  readonly #options: MigrationOptions;
  readonly #world: World;
  readonly #net: Net;
  readonly #oracle = new Oracle();
  readonly #source: SimHost;
  readonly #target: SimHost;
  readonly #parameters: MigrationParameters;
  /** When somebody says :start-postcopy; null: nobody. */
  readonly #postcopyAskedMs: number | null;
  /** Of its link, by a toy's. */
  readonly #speed: number;
  /** The real page stream can't be connected before. */
  #deadUntilMs = 0;

  constructor(options: MigrationOptions) {
    this.#options = options;
    const { seed, nth = null, plant = null } = options;
    const prng = new Prng(BigInt(seed) * 7_919n + 1n);
    const shape = drawShape(prng, options);
    const kind = options.isReal === true ? REAL : toy(shape);
    this.#speed = kind.bytesPerMs / TOY_BYTES_PER_MS;
    const drawn = drawParameters(prng);
    const bandwidthBytesPerSecond = Math.round(drawn.bandwidthBytesPerSecond * this.#speed);
    const { askedMs = null, ...postcopy } = options.isReal === true ? {} : drawPostcopy(seed);
    this.#postcopyAskedMs = options.parameters === undefined ? askedMs : null;
    const given = options.parameters ?? postcopy;
    // Pages follow as slowly as they went, so that faults have time to strike.
    const limits = {
      bandwidthBytesPerSecond,
      postcopyBandwidthBytesPerSecond:
        given.postcopyBandwidthBytesPerSecond ??
        given.bandwidthBytesPerSecond ??
        bandwidthBytesPerSecond,
    };
    this.#parameters = { ...drawn, ...limits, ...given };
    // Drawn in any case, so that what follows is the same with a plant and without.
    const byChance = drawChances(prng);
    const chances = nth === null ? (options.faults ?? byChance) : new Map<FaultKind, number>();
    this.#world = new World(prng, { chances, nth, most: options.most ?? 4 });
    this.#net = new Net(this.#world);
    const listeners = new Map();
    const network = options.isWire === true ? this.#network(kind) : null;
    const around = {
      world: this.#world,
      net: this.#net,
      oracle: this.#oracle,
      listeners,
      kind,
      network,
    };
    this.#source = new SimHost("A", { ...around, plant });
    this.#target = new SimHost("B", { ...around, plant });
    this.#source.other = this.#target;
    this.#target.other = this.#source;
  }

  /** The real stream's own hooks, moved by this world's time and chance. */
  #network(kind: VmKind): LoopbackNetwork {
    const world = this.#world;
    const network = new LoopbackNetwork();
    network.faults = {
      reach: async () => {
        await world.sleep(world.between(0.05, 0.5));
        return !this.#net.isCut && world.now >= this.#deadUntilMs;
      },
      frame: async ({ frame, bytes }) => {
        await world.sleep(bytes / kind.bytesPerMs + world.between(0.01, 0.05));
        const where = `frame ${frame}`;
        const isDead = world.hits("stream-dead", where);
        // Longer than a source's patience.
        if (isDead) this.#deadUntilMs = world.now + world.between(1_000, DEAD_MS);
        if (this.#net.isCut || isDead || world.now < this.#deadUntilMs) return "cut";
        if (world.hits("frame-lost", where)) return world.prng.pick(LOST);
        return world.hits("frame-duplicated", where) ? "twice" : "pass";
      },
    };
    return network;
  }

  async run(): Promise<MigrationResult> {
    const world = this.#world;
    const vm = this.#source.createVm("vm");
    await vm.boot(BigInt(this.#options.seed));
    world.onTime = (ms) => {
      for (const host of [this.#source, this.#target]) for (const copy of host.vms) copy.run(ms);
    };
    const session = this.#begin("m1", this.#source, vm, this.#parameters);
    const { life } = this.#source;
    const startPostcopy = (): void => {
      if (life.isAlive) session.startPostcopy();
    };
    if (this.#postcopyAskedMs !== null) world.at(this.#postcopyAskedMs, startPostcopy);
    world.onEvent = () => this.#strike(session);
    await this.#settle("the first migration");
    const outcome = await this.#look();
    if (this.#oracle.violations.length === 0 && outcome !== "lost") await this.#again();
    return this.#result(outcome);
  }

  #begin(id: string, from: SimHost, vm: SimVm, parameters: MigrationParameters): SourceSession {
    const world = this.#world;
    from.origins.set(id, vm);
    const session = from.migrate(id, vm, parameters);
    const { life } = from;
    const ask = (act: () => void) => () => {
      if (life.isAlive) act();
    };
    if (parameters.pauseBeforeSwitchover) {
      world.at(
        world.between(1, 800),
        ask(() => session.continue()),
      );
    }
    if (world.prng.below(4) === 0) {
      const rate = 200_000 + world.prng.below(1_000_000);
      const bandwidthBytesPerSecond = Math.round(rate * this.#speed);
      world.at(
        world.between(1, 200),
        ask(() =>
          session.adjust({
            bandwidthBytesPerSecond,
            postcopyBandwidthBytesPerSecond: bandwidthBytesPerSecond,
          }),
        ),
      );
    }
    const recover = (): void => {
      if (session.status.state === "postcopy-paused") session.recover();
      if (!session.notes.isEnded) world.at(700, ask(recover));
    };
    world.at(700, ask(recover));
    world.at(
      PATIENCE_MS,
      ask(() => session.cancel()),
    );
    return session;
  }

  /** What may happen at any event. */
  #strike(session: SourceSession): void {
    const world = this.#world;
    const where = `event ${world.events}`;
    if (this.#isOver) return;
    if (world.hits("cancel", where) && this.#source.life.isAlive) session.cancel();
    if (world.hits("source-crash", where)) this.#source.crash();
    if (world.hits("target-crash", where)) this.#target.crash();
  }

  get #isOver(): boolean {
    return this.#source.isSettled && this.#target.isSettled;
  }

  async #settle(what: string): Promise<void> {
    const world = this.#world;
    const end = async () => {
      if (await world.run(() => this.#isOver, world.now + END_MS)) return;
      this.#oracle.violation(`${what} never ended`);
    };
    await end();
    // What comes late comes now, and may begin something that must end too.
    const lateMs = world.now + 6_000;
    await world.run(() => world.now > lateMs, lateMs);
    await end();
  }

  /** What became of the VM, and whether everybody says so. */
  async #look(): Promise<"moved" | "stayed" | "lost"> {
    const oracle = this.#oracle;
    const all = [...this.#source.vms, ...this.#target.vms];
    const running = all.filter((vm) => !vm.isHeld);
    const kept = this.#source.disk.get("m1");
    const there = this.#target.disk.get("in-m1");
    // A service takes it for a VM that is elsewhere, and never starts it again.
    if (kept?.point === "released" && there?.point !== "running") {
      oracle.violation(`released, but it never ran there: ${kept.state}, ${there?.point}`);
    }
    if (oracle.isLost || (oracle.mayBeLost && all.length === 0)) {
      if (all.length > 0) oracle.violation(`lost, but ${all.map(({ name }) => name)} is there`);
      return "lost";
    }
    const [vm] = running;
    if (running.length !== 1 || vm === undefined || all.length !== 1) {
      oracle.violation(`${running.length} of ${all.length} copies run`);
      return "lost";
    }
    const isMoved = this.#target.vms.includes(vm);
    const isSaidMoved = kept?.state === "completed";
    if (isMoved !== isSaidMoved) oracle.violation(`on ${vm.name}, but it is ${kept?.state}`);
    const theirs = there?.state;
    if (isMoved !== (theirs === "completed")) oracle.violation(`the target says ${theirs}`);
    if (!isMoved && kept?.failure == null) oracle.violation("it failed, and nobody says why");
    await vm.check();
    return isMoved ? "moved" : "stayed";
  }

  /** The next attempt succeeds, from wherever the VM is now. */
  async #again(): Promise<void> {
    const world = this.#world;
    this.#net.heal();
    for (const host of [this.#source, this.#target]) host.heal();
    this.#deadUntilMs = 0;
    const from = this.#source.vms.length > 0 ? this.#source : this.#target;
    const to = from === this.#source ? this.#target : this.#source;
    const [vm] = from.vms;
    if (vm === undefined) return;
    world.onEvent = () => {};
    world.stopFaults();
    const easy = { ...DEFAULT_PARAMETERS, timeoutMs: 1_000, onTimeout: "force" as const };
    this.#begin("m2", from, vm, { ...easy, verify: true });
    await this.#settle("the second migration");
    const [moved] = to.vms;
    if (from.disk.get("m2")?.state !== "completed" || moved === undefined) {
      const why = from.disk.get("m2")?.failure?.detail ?? "no reason";
      this.#oracle.violation(`the second migration ${from.disk.get("m2")?.state}: ${why}`);
    }
    await moved?.check();
  }

  #result(outcome: MigrationResult["outcome"]): MigrationResult {
    const { violations, handOvers, latest: steps } = this.#oracle;
    const { faults, opportunities, events, story } = this.#world;
    return {
      failure: violations[0] ?? null,
      outcome,
      handOvers,
      faults,
      opportunities,
      events,
      rounds: this.#source.rounds.length,
      steps,
      story,
    };
  }
}

export async function simulateMigration(options: MigrationOptions): Promise<MigrationResult> {
  const takeOut = options.plant?.everywhere?.();
  try {
    return await new Simulation(options).run();
  } finally {
    takeOut?.();
  }
}
