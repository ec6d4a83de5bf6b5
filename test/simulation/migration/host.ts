// A simulated host: a journal that outlives it, VMs that don't, sessions over them, and the life of
// its process. What the service does around the engine, in a few lines.
import {
  type CommitPoint,
  type DataPlane,
  type EndedTarget,
  type Failure,
  type Journal,
  type MigrationParameters,
  type MigrationState,
  type Offer,
  type Passport,
  type Peer,
  PeerError,
  type Progress,
  ResumedSource,
  type ResumeOutcome,
  type RoundRecord,
  resumeTarget,
  SourceSession,
  type Statistics,
  TargetSession,
  type Verdict,
  verdictOf,
} from "../../../src/migration/index.js";
import { STREAM_VERSIONS } from "../../../src/migration/wire/frame.js";
import { LoopbackDataPlane, type LoopbackNetwork } from "../../../src/migration/wire/loopback.js";
import type { Net } from "./net.js";
import type { Oracle } from "./oracle.js";
import { type Listeners, SimPlane } from "./plane.js";
import type { MigrationPlant } from "./plant.js";
import type { SimVm, VmKind } from "./sim-vm.js";
import type { Life, World } from "./world.js";

/** What is on the disk. */
export interface Kept {
  readonly direction: "outgoing" | "incoming";
  state: MigrationState;
  point: CommitPoint;
  peerSession: string | null;
  failure: Failure | null;
}

type Incoming = TargetSession | EndedTarget;
type Outgoing = SourceSession | ResumedSource;

export interface Surroundings {
  readonly world: World;
  readonly net: Net;
  readonly oracle: Oracle;
  readonly listeners: Listeners;
  readonly kind: VmKind;
  readonly plant: MigrationPlant | null;
  /** Pages go over the real stream, in this thread; null: over a simulated one. */
  readonly network: LoopbackNetwork | null;
}

const FULL_MS = 3_000;
/** As the service's batches. */
const BATCH_MS = 200;
/** Of a channel: small VMs fill it too, and channels fail while a frame waits for room. */
const WINDOW_BYTES = 65_536;

export class SimHost {
  readonly name: string;
  life: Life = { isAlive: true };
  /** The newest life's VMs. */
  vms: SimVm[] = [];
  readonly disk = new Map<string, Kept>();
  readonly rounds: RoundRecord[] = [];
  readonly progress: Progress[] = [];
  readonly statistics: Statistics[] = [];
  readonly outgoing = new Map<string, Outgoing>();
  readonly incoming = new Map<string, Incoming>();
  /** Of sessions that a restart has resumed. */
  readonly outcomes = new Map<string, ResumeOutcome>();
  readonly #around: Surroundings;
  #planes: LoopbackDataPlane[] = [];
  #vmOf = new Map<string, SimVm>();
  #writesDueMs = 0;
  #fullUntilMs = 0;

  constructor(name: string, around: Surroundings) {
    this.name = name;
    this.#around = around;
  }

  get isSettled(): boolean {
    if (!this.life.isAlive) return false;
    const ended: readonly MigrationState[] = ["completed", "failed", "cancelled"];
    return [...this.disk.values()].every(({ state }) => ended.includes(state));
  }

  createVm(name: string): SimVm {
    const { world, oracle, kind } = this.#around;
    const vm = kind.create(`${name}@${this.name}`, { world, oracle, life: this.life });
    this.vms.push(vm);
    return vm;
  }

  discard(vm: SimVm, isCalledOff = false): void {
    if (vm.isGone) return;
    const { oracle, world } = this.#around;
    world.tell(`${vm.name} is thrown away`);
    oracle.discard(vm, isCalledOff);
    vm.end();
    this.vms = this.vms.filter((other) => other !== vm);
  }

  /** Everything but the disk is gone. @param returns whether it starts again */
  crash(returns = true): void {
    if (!this.life.isAlive) return;
    const { oracle, world } = this.#around;
    world.tell(`${this.name} dies`);
    this.life.isAlive = false;
    for (const plane of this.#planes) void plane.close();
    this.#planes = [];
    const owned = [...this.disk].flatMap(([session, { point }]) => {
      const vm = this.#vmOf.get(session);
      return point === "running" && vm !== undefined && !vm.isGone ? [vm] : [];
    });
    oracle.crash(this.vms, owned);
    for (const vm of this.vms) vm.end();
    this.vms = [];
    this.#vmOf = new Map();
    this.outgoing.clear();
    this.incoming.clear();
    if (returns) world.at(world.between(50, 3_000), () => this.#restart());
  }

  /** Its disk has room. */
  heal(): void {
    this.#fullUntilMs = 0;
  }

  #restart(): void {
    const { world, plant } = this.#around;
    world.tell(`${this.name} starts again`);
    this.life = { isAlive: true };
    this.#fullUntilMs = 0;
    const { life } = this;
    const clock = world.clock(life);
    for (const [session, kept] of this.disk) {
      const journal = this.#journal(kept, session, life);
      if (kept.direction === "incoming") {
        void resumeTarget({ kept, journal, clock }).then((ended) => {
          if (life.isAlive) this.incoming.set(session, ended);
        });
      } else if (!["completed", "failed", "cancelled"].includes(kept.state)) {
        const peer = this.#peer(life, true);
        const read = plant?.kept?.({ ...kept }) ?? { ...kept };
        const resumed = new ResumedSource({ kept: read, journal, clock }, peer);
        plant?.resumed?.(resumed);
        this.outgoing.set(session, resumed);
        void resumed.run().then((outcome) => this.outcomes.set(session, outcome));
      }
    }
  }

  #other: SimHost | null = null;
  set other(host: SimHost) {
    this.#other = host;
  }
  get #peerHost(): SimHost {
    if (this.#other === null) throw new Error("a host has a peer");
    return this.#other;
  }

  /** Begins to move a VM to the other host. */
  migrate(session: string, vm: SimVm, parameters: MigrationParameters): SourceSession {
    const { world, plant } = this.#around;
    const { life } = this;
    const kept: Kept = this.#record("outgoing");
    this.disk.set(session, kept);
    const source = new SourceSession({
      session,
      passport: this.#passport(session, vm),
      parameters,
      vm,
      peer: this.#peer(life, false),
      trust: null,
      dataPlane: this.#plane(),
      journal: this.#journal(kept, session, life),
      clock: world.clock(life),
      supportsPostcopy: true,
      eventfds: (saved) => saved.map(noEventfd),
    });
    plant?.source?.(source);
    this.outgoing.set(session, source);
    void source.run().then((state) => {
      world.tell(`${session} ${state} ${source.status.failure?.detail ?? ""}`);
      // In post-copy it has run at the target, whatever became of it there.
      const isTheirs = state === "completed" || kept.point === "released";
      if (life.isAlive && isTheirs) this.discard(vm);
    });
    return source;
  }

  #record(direction: Kept["direction"]): Kept {
    return { direction, state: "queued", point: "none", peerSession: null, failure: null };
  }

  #passport(session: string, vm: SimVm): Passport {
    const memory = vm.map.blocks.map((block) => {
      const { object, bytes, contentPage } = block;
      return { object, bytes, contentPage };
    });
    const shape = { uuid: "u", name: null, labels: {}, definition: null, shape: null, images: [] };
    const source = { instance: this.name, session, url: `sim:${this.name}` };
    return { version: 1, streams: STREAM_VERSIONS, source, vm: shape, memory };
  }

  /** What becomes of frames, and how long they take, is the same chance as everywhere. */
  #wire(network: LoopbackNetwork): LoopbackDataPlane {
    const { world } = this.#around;
    const url = `loopback://${this.name}-${world.events}`;
    const clock = world.clock(this.life);
    const patience = { giveUpMs: 1_500, stallMs: 1_000, windowBytes: WINDOW_BYTES };
    const plane = new LoopbackDataPlane({ network, url, clock, ...patience });
    this.#planes.push(plane);
    return plane;
  }

  #plane(): DataPlane {
    const { world, net, listeners, kind, network } = this.#around;
    if (network !== null) return this.#wire(network);
    return new SimPlane({ world, net, life: this.life, kind }, listeners);
  }

  #peer(life: Life, isResumed: boolean): Peer {
    const { net, plant } = this.#around;
    const to = this.#peerHost;
    const call = <T>(what: string, handle: () => Promise<T>) =>
      net.call(`${to.name}.${what}`, life, to, handle);
    const peer: Peer = {
      name: to.name,
      offer: (passport, parameters) => call("offer", () => to.#takeOffer(passport, parameters)),
      status: (id) => call("status", async () => to.#session(id).status),
      finish: (id, state, digest) =>
        call("finish", async () => to.#session(id).finish(state.slice(), digest)),
      commit: (id) => call("commit", async () => to.#session(id).commit()),
      abort: (id, why, unlessReady) => {
        if (!isResumed) this.calledOff.add(id.slice("in-".length));
        return call("abort", async () => to.#session(id).abort(why, unlessReady));
      },
    };
    return plant?.peer?.(peer, isResumed) ?? peer;
  }

  #session(id: string): Incoming {
    const session = this.incoming.get(id);
    if (session !== undefined) return session;
    if (this.disk.has(id)) throw new PeerError("starting", "Not resumed yet.", true);
    throw new PeerError("session-unknown", `No session ${id}.`, false);
  }

  async #takeOffer(passport: Passport, parameters: MigrationParameters): Promise<Offer> {
    const { world, net, plant, oracle } = this.#around;
    const { life } = this;
    const from = passport.source.session;
    const session = `in-${from}`;
    const known = this.incoming.get(session);
    if (known instanceof TargetSession) return known.offer();
    if (this.disk.has(session)) {
      throw new PeerError("session-aborted", "The host restarted meanwhile.", false);
    }
    const kept = this.#record("incoming");
    this.disk.set(session, kept);
    const clock = world.clock(life);
    const source = {
      verdict: () =>
        net.call(`${this.#peerHost.name}.verdict`, life, this.#peerHost, async () =>
          this.#peerHost.#verdict(from),
        ),
    };
    const target: TargetSession = new TargetSession({
      session,
      passport,
      parameters,
      streams: STREAM_VERSIONS,
      host: {
        build: async () => this.#build(session, life),
        eventfds: async (moved) => moved.map(noEventfd),
        release: async (wasRunning) => this.#release(session, from, wasRunning),
        discard: async () => {
          const vm = this.#vmOf.get(session);
          const isCalledOff = this.#peerHost.calledOff.has(from);
          if (vm !== undefined && life.isAlive)
            this.discard(vm, isCalledOff || this.#dies(vm, from));
        },
        lose: async () => {
          const vm = this.#vmOf.get(session);
          if (vm === undefined || !life.isAlive) return;
          if (vm.isGone) oracle.isLost = true;
          else if (!this.#dies(vm, from)) oracle.violation(`${vm.name} is said to be lost`);
          this.discard(vm, true);
        },
      },
      dataPlane: this.#plane(),
      journal: this.#journal(kept, session, life),
      clock,
      source: plant?.voice?.(source) ?? source,
    });
    plant?.target?.(target);
    this.incoming.set(session, target);
    return target.offer();
  }

  async #build(session: string, life: Life): Promise<SimVm> {
    await this.#around.world.sleep(this.#around.world.between(0.5, 5));
    if (!life.isAlive) await new Promise(() => {});
    if (this.#around.world.hits("vm-refuses", `${this.name}.build`)) {
      throw new PeerError("budget", "No memory is left.", false);
    }
    const vm = this.createVm(session);
    this.#vmOf.set(session, vm);
    await vm.receive();
    return vm;
  }

  /** It lacks pages, and nobody has them any more. */
  #dies(vm: SimVm, from: string): boolean {
    const source = this.#peerHost.origins.get(from);
    return source?.isGone === true && (vm.lacks?.() ?? false);
  }

  async #release(session: string, from: string, wasRunning: boolean): Promise<void> {
    const { oracle } = this.#around;
    const vm = this.#vmOf.get(session);
    if (vm === undefined || vm.isGone) throw new Error("a target releases what it has");
    const source = this.#peerHost.origins.get(from);
    if (!wasRunning) oracle.violation("the guest ran at the source");
    if (source !== undefined) oracle.handOver(source, vm);
    await vm.call("holdVm", { hold: false, why: session });
  }

  /** VMs by the session that moves them away, also dead ones: what the oracle compares with. */
  readonly origins = new Map<string, SimVm>();

  /** Sessions of which this host has said, while it had the VM, that it keeps it. */
  readonly calledOff = new Set<string>();

  #verdict(session: string): Verdict {
    const live = this.outgoing.get(session);
    if (live instanceof SourceSession && live.verdict === "aborted") this.calledOff.add(session);
    if (live !== undefined) return live.verdict;
    const kept = this.disk.get(session);
    if (kept === undefined) throw new PeerError("session-unknown", session, false);
    return verdictOf(kept.state, kept.point);
  }

  /** Writes are done one after the other. */
  #journal(kept: Kept, session: string, life: Life): Journal {
    let passed: () => void = () => {};
    const write = (what: string, act: () => void): Promise<void> =>
      this.#write(`${this.name}.${what}`, life, () => {
        passed();
        act();
      });
    return {
      passed: (state, failure) => {
        passed = () => {
          passed = () => {};
          kept.state = state;
          kept.failure = failure;
        };
        this.#around.world.at(BATCH_MS, () => void write("batch", () => {}).catch(() => {}));
      },
      state: (state: MigrationState, failure: Failure | null) =>
        write(`state ${state}`, () => {
          kept.state = state;
          kept.failure = failure;
        }),
      point: (point) =>
        write(`point ${point}`, () => {
          kept.point = point;
        }),
      peer: (name) =>
        write(`peer ${name}`, () => {
          kept.peerSession = name;
        }),
      round: (record) => {
        const at = this.rounds.findIndex(({ round }) => round === record.round);
        if (at < 0) this.rounds.push(record);
        else this.rounds[at] = record;
      },
      progress: (progress) => void this.progress.push(progress),
      decided: ({ why }) => this.#around.world.tell(`${session}: ${why}`),
      statistics: (statistics) => void this.statistics.push(statistics),
    };
  }

  #write(what: string, life: Life, act: () => void): Promise<void> {
    const { world } = this.#around;
    const dueMs = Math.max(world.now + world.between(0.1, 2), this.#writesDueMs + 0.01);
    this.#writesDueMs = dueMs;
    return new Promise((resolve, reject) => {
      world.at(dueMs - world.now, () => {
        if (!life.isAlive) return;
        if (world.hits("crash-before-write", what)) return this.crash();
        if (world.hits("journal-full", what)) {
          this.#fullUntilMs = world.now + world.between(100, FULL_MS);
        }
        if (world.now < this.#fullUntilMs || world.hits("journal-fails", what)) {
          return reject(new Error("database or disk is full"));
        }
        act();
        world.tell(`wrote ${what}`);
        if (world.hits("crash-after-write", what)) return this.crash();
        resolve();
      });
    });
  }
}

function noEventfd(): never {
  throw new Error("VMs of the simulation have no eventfds");
}
