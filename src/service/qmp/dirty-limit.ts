// Owns: set-vcpu-dirty-limit: a rate that no vCPU may dirty pages faster than. HTTP thread.
// A page counts when it becomes dirty, so while a limit is in force the log is read every second.
// @source QEMU 7.2 qapi/migration.json: DirtyLimitInfo
import type { Clock } from "../../base/clock.js";
import type { JsonObject } from "./json.js";
import { DIRTY_LIMIT_PERIOD_MS } from "./limits.js";
import type { QmpVm } from "./ports.js";
import { arrayOf, INT, object, QmpError } from "./qapi.js";

export const LIMIT_ARGS = object({ "cpu-index?": INT, "dirty-rate": INT });
export const CANCEL_LIMIT_ARGS = object({ "cpu-index?": INT });

const LIMIT_INFO = object({ "cpu-index": INT, "limit-rate": INT, "current-rate": INT });
export const LIMIT_LIST = arrayOf(LIMIT_INFO);

const MIB = 1_048_576;
const MS = 1000;

interface Sample {
  readonly atMs: number;
  readonly dirtied: ReadonlyMap<number, number>;
}

export class DirtyLimit {
  readonly #vm: QmpVm;
  readonly #clock: Clock;
  readonly #consumer: string;
  /** MiB a second; 0: none is in force. */
  #rate = 0;
  #rates = new Map<number, number>();
  #sample: Sample | null = null;
  #cancel: () => void = () => {};
  /** Harvests follow each other. */
  #reading: Promise<void> = Promise.resolve();

  constructor(vm: QmpVm, clock: Clock) {
    this.#vm = vm;
    this.#clock = clock;
    this.#consumer = `vms/${vm.id}/qmp#dirty-limit`;
  }

  /** @throws QmpError, ServiceError */
  async set(args: JsonObject): Promise<void> {
    await this.#requireAll(args);
    const rate = Number(args["dirty-rate"]);
    const pages = Math.max(1, Math.floor((rate * MIB) / this.#vm.pageSize));
    if (rate < 0 || !Number.isSafeInteger(pages)) {
      throw new QmpError("'dirty-rate' must be MiB a second, 0 for none.");
    }
    if (rate === 0) return this.#end();
    await this.#vm.dirty.begin(this.#consumer, null);
    await this.#vm.dirty.limit(pages);
    const wasOff = this.#rate === 0;
    this.#rate = rate;
    if (!wasOff) return;
    this.#sample = await this.#read();
    this.#schedule();
  }

  /** @throws QmpError, ServiceError */
  async cancel(args: JsonObject): Promise<void> {
    await this.#requireAll(args);
    await this.#end();
  }

  async query(): Promise<readonly JsonObject[]> {
    if (this.#rate === 0) return [];
    return (await this.#vm.vcpus()).map((vcpu) => ({
      "cpu-index": vcpu,
      "limit-rate": this.#rate,
      "current-rate": this.#rates.get(vcpu) ?? 0,
    }));
  }

  /** The limit goes with the socket that set it. */
  async close(): Promise<void> {
    // A VM that is gone or away has no limit either.
    await this.#end().catch(() => {});
  }

  /** There is one limit for all vCPUs. */
  async #requireAll(args: JsonObject): Promise<void> {
    const index = args["cpu-index"];
    if (index === undefined) return;
    const vcpus = await this.#vm.vcpus();
    if (!vcpus.includes(Number(index))) throw new QmpError(`There is no vCPU ${index}.`);
    if (vcpus.length === 1) return;
    throw new QmpError("Here a dirty limit is of all vCPUs: leave 'cpu-index' out.");
  }

  async #end(): Promise<void> {
    if (this.#rate === 0) return;
    this.#rate = 0;
    this.#rates = new Map();
    this.#cancel();
    await this.#reading;
    await this.#vm.dirty.limit(0);
    await this.#vm.dirty.end(this.#consumer);
  }

  #schedule(): void {
    this.#cancel = this.#clock.timer(DIRTY_LIMIT_PERIOD_MS, () => {
      this.#reading = this.#period().catch(() => {
        // The VM ended or moved away: there is nothing left to limit.
        this.#rate = 0;
      });
    });
  }

  async #period(): Promise<void> {
    await this.#vm.dirty.harvest(this.#consumer);
    const before = this.#sample;
    const now = await this.#read();
    this.#sample = now;
    if (before !== null) {
      const seconds = (now.atMs - before.atMs) / MS;
      for (const [vcpu, count] of now.dirtied) {
        const pages = count - (before.dirtied.get(vcpu) ?? 0);
        const rate = Math.round((pages * this.#vm.pageSize) / MIB / seconds);
        this.#rates.set(vcpu, rate);
      }
    }
    if (this.#rate !== 0) this.#schedule();
  }

  async #read(): Promise<Sample> {
    return { atMs: this.#clock.monotonicMs(), dirtied: await this.#vm.dirty.dirtied() };
  }
}
