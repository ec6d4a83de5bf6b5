// Owns: calc-dirty-rate: how fast a VM makes pages dirty, over some seconds, beside whatever else
// tracks them. HTTP thread.
// @source QEMU 7.2 qapi/migration.json: DirtyRateInfo
import type { Clock } from "../../base/clock.js";
import type { JsonObject } from "./json.js";
import { DIRTY_RATE_SECONDS_MAX } from "./limits.js";
import type { QmpVm } from "./ports.js";
import { arrayOf, INT, object, oneOf, QmpError } from "./qapi.js";

/** Pages are counted, never guessed from samples. */
const MODES = oneOf("dirty-bitmap", "dirty-ring");
const VCPU_RATE = object({ id: INT, "dirty-rate": INT });

export const DIRTY_RATE_ARGS = object({ "calc-time": INT, "mode?": MODES });

export const DIRTY_RATE_INFO = object({
  "dirty-rate?": INT,
  status: oneOf("unstarted", "measuring", "measured"),
  "start-time": INT,
  "calc-time": INT,
  "sample-pages": INT,
  mode: MODES,
  "vcpu-dirty-rate?": arrayOf(VCPU_RATE),
});

const MIB = 1_048_576;
const MS = 1000;

interface Result {
  readonly rate: number;
  /** null: nobody asked for each of them. */
  readonly vcpus: readonly JsonObject[] | null;
}

interface Measurement {
  readonly seconds: number;
  readonly mode: string;
  readonly startSeconds: number;
  /** null: not yet. */
  result: Result | null;
}

/** A method of ours for each mode; null: whichever is in force. */
const METHODS: Readonly<Record<string, string | null>> = {
  "dirty-bitmap": null,
  "dirty-ring": "ring",
};

export class DirtyRate {
  readonly #vm: QmpVm;
  readonly #clock: Clock;
  readonly #consumer: string;
  #last: Measurement | null = null;
  #isClosed = false;
  #cancel: () => void = () => {};
  /** Resolves when the VM's log is as it was. */
  #underWay: Promise<void> | null = null;

  constructor(vm: QmpVm, clock: Clock) {
    this.#vm = vm;
    this.#clock = clock;
    this.#consumer = `vms/${vm.id}/qmp#dirty-rate`;
  }

  /** Begins; query() tells the end. @throws QmpError, ServiceError */
  async begin(args: JsonObject): Promise<void> {
    const seconds = Number(args["calc-time"]);
    const mode = (args["mode"] as string | undefined) ?? "dirty-bitmap";
    if (seconds < 1 || seconds > DIRTY_RATE_SECONDS_MAX) {
      throw new QmpError(`'calc-time' must be from 1 to ${DIRTY_RATE_SECONDS_MAX} seconds.`);
    }
    if (this.#underWay !== null) throw new QmpError("A measurement is under way already.");
    const startSeconds = Math.floor(this.#clock.monotonicMs() / MS);
    const measurement: Measurement = { seconds, mode, startSeconds, result: null };
    const before = this.#last;
    this.#last = measurement;
    const begun = this.#vm.dirty.begin(this.#consumer, METHODS[mode] ?? null);
    this.#underWay = begun
      .then(() => this.#measure(measurement))
      .then((result) => {
        // By now the log is as it was before.
        measurement.result = result;
      })
      .catch(() => {
        // The VM ended or moved away under it: nothing was measured.
        if (this.#last === measurement) this.#last = before;
      })
      .finally(() => {
        this.#underWay = null;
      });
    await begun;
  }

  async #measure(measurement: Measurement): Promise<Result | null> {
    const { dirty, pageSize } = this.#vm;
    try {
      const before = await dirty.dirtied();
      const from = this.#clock.monotonicMs();
      await this.#sleep(measurement.seconds * MS);
      if (this.#isClosed) return null;
      const pages = await dirty.harvest(this.#consumer);
      const after = await dirty.dirtied();
      const seconds = (this.#clock.monotonicMs() - from) / MS;
      const rateOf = (count: number) => Math.round((count * pageSize) / MIB / seconds);
      const vcpus = [...after].map(([id, count]) => {
        return { id, "dirty-rate": rateOf(count - (before.get(id) ?? 0)) };
      });
      const isRing = measurement.mode === "dirty-ring";
      return { rate: rateOf(pages), vcpus: isRing ? vcpus : null };
    } finally {
      await dirty.end(this.#consumer);
    }
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#clock.timer(ms, resolve);
      this.#cancel = () => {
        cancel();
        resolve();
      };
    });
  }

  query(): JsonObject {
    const last = this.#last;
    const { seconds = 0, mode = "dirty-bitmap", startSeconds = 0, result = null } = last ?? {};
    return {
      ...(result === null ? {} : { "dirty-rate": result.rate }),
      status: last === null ? "unstarted" : result === null ? "measuring" : "measured",
      "start-time": startSeconds,
      "calc-time": seconds,
      "sample-pages": 0,
      mode,
      ...(result?.vcpus ? { "vcpu-dirty-rate": result.vcpus } : {}),
    };
  }

  /** Resolves when nothing of it goes on. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancel();
    await this.#underWay;
  }
}
