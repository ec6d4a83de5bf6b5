// Owns: two simulated hosts without chance: a toy VM, journals, a network that is cut when a test
// wants it. Test process.
import { expect } from "vitest";
import { Prng } from "../../src/base/prng.js";
import {
  DEFAULT_PARAMETERS,
  type MigrationParameters,
  type SourceSession,
} from "../../src/migration/index.js";
import { SimHost } from "../simulation/migration/host.js";
import { Net } from "../simulation/migration/net.js";
import { Oracle } from "../simulation/migration/oracle.js";
import type { SimVm } from "../simulation/migration/sim-vm.js";
import { type Shape, toy } from "../simulation/migration/toy-vm.js";
import { World } from "../simulation/migration/world.js";

export const QUIET: Shape = { pages: [32, 8], hot: 4, rate: 0.2 };
/** Rewrites all of its memory in each round. */
export const BUSY: Shape = { pages: [200], hot: 190, rate: 100 };
const END_MS = 600_000;

export class Pair {
  readonly world = new World(new Prng(5n), { chances: new Map(), nth: null, most: 0 });
  readonly oracle = new Oracle();
  readonly net = new Net(this.world);
  readonly source: SimHost;
  readonly target: SimHost;
  vm: SimVm | null = null;
  session: SourceSession | null = null;

  constructor(shape: Shape) {
    const { world, oracle, net } = this;
    const kind = toy(shape);
    const listeners = new Map();
    const around = { world, oracle, net, listeners, kind, plant: null, network: null };
    this.source = new SimHost("A", around);
    this.target = new SimHost("B", around);
    this.source.other = this.target;
    this.target.other = this.source;
  }

  async begin(parameters: Partial<MigrationParameters> = {}): Promise<SourceSession> {
    const vm = this.source.createVm("vm");
    await vm.boot(1n);
    this.vm = vm;
    this.world.onTime = (ms) => {
      for (const host of [this.source, this.target]) for (const one of host.vms) one.run(ms);
    };
    this.source.origins.set("m1", vm);
    this.session = this.source.migrate("m1", vm, { ...DEFAULT_PARAMETERS, ...parameters });
    return this.session;
  }

  async until(isSo: () => boolean): Promise<void> {
    expect(await this.world.run(isSo, this.world.now + END_MS)).toBe(true);
  }

  /** Until the source's record says that it has ended. */
  async end() {
    await this.until(() => this.source.isSettled && this.target.isSettled);
    expect(this.oracle.violations).toEqual([]);
    return this.source.disk.get("m1");
  }

  get state() {
    return this.session?.status.state;
  }
}
