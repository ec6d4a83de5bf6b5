// Owns: VMs that are snapshotted every so many seconds, and which of those snapshots stay.
// HTTP thread. A crash of the service loses at most what came after the newest of them.
import { type Clock, timestamp } from "../../base/clock.js";
import { ServiceError } from "../../base/errors.js";
import type { Log } from "../../base/log.js";
import type { AutosnapshotRecord, SnapshotRecord, Store } from "../../store/index.js";
import type { EventLog } from "../event-log.js";
import type { Recorder } from "../recorder.js";
import type { VmEntry } from "../vm-entry.js";
import type { VmRegistry } from "../vm-registry.js";
import type { SnapshotBook } from "./snapshot-book.js";
import type { SnapshotJobs } from "./snapshot-jobs.js";
import type {
  AutosnapshotResource,
  AutosnapshotSpec,
  MovingAutosnapshots,
  SnapshotRequest,
} from "./types.js";

interface Deps {
  readonly store: Store;
  readonly recorder: Recorder;
  readonly events: EventLog;
  readonly registry: VmRegistry;
  readonly book: SnapshotBook;
  readonly jobs: SnapshotJobs;
  readonly clock: Clock;
  readonly log: Log;
}

interface Policy {
  record: AutosnapshotRecord;
  cancelTimer: () => void;
  /** A turn waits until the VM is free. */
  isDue: boolean;
}

const MS_PER_S = 1000;
/** A turn that finds the VM being taken looks again so soon. */
const BUSY_RETRY_MS = 100;

const noTimer = (): void => {};

export class Autosnapshots implements MovingAutosnapshots {
  readonly #deps: Deps;
  readonly #byVm = new Map<string, Policy>();
  #isClosing = false;

  private constructor(deps: Deps) {
    this.#deps = deps;
  }

  static async open(deps: Deps): Promise<Autosnapshots> {
    const all = new Autosnapshots(deps);
    for (const record of await deps.store.loadAutosnapshots()) {
      all.#adopt(record);
    }
    return all;
  }

  get(vmId: string): AutosnapshotResource {
    this.#deps.registry.require(vmId);
    const policy = this.#byVm.get(vmId);
    if (policy === undefined) {
      const why = `VM ${vmId} is not snapshotted by itself.`;
      throw new ServiceError("autosnapshot-not-found", why);
    }
    const latest = this.#own(vmId).at(-1)?.id ?? null;
    return { ...policy.record, latest };
  }

  async set(vmId: string, spec: AutosnapshotSpec): Promise<AutosnapshotResource> {
    const { registry, recorder, events } = this.#deps;
    const vm = registry.require(vmId);
    // It goes with the VM, which has been described to its target already.
    vm.refuseWhileMoving();
    vm.refuseElsewhere();
    const record = this.#recordOf(vmId, spec);
    await recorder.commit([{ kind: "put-autosnapshot", autosnapshot: record }]);
    this.#adopt(record);
    events.announce("vm.autosnapshot", `vms/${vmId}`, { ...spec });
    return this.get(vmId);
  }

  async clear(vmId: string): Promise<void> {
    this.#deps.registry.require(vmId).refuseWhileMoving();
    if (!this.#byVm.has(vmId)) return;
    await this.#forget(vmId);
    this.#deps.events.announce("vm.autosnapshot", `vms/${vmId}`, { everySeconds: null });
  }

  declared(vmId: string): AutosnapshotSpec | null {
    const record = this.#byVm.get(vmId)?.record;
    if (record === undefined) return null;
    const { everySeconds, keep, differential } = record;
    return { everySeconds, keep, differential };
  }

  arrived(vmId: string, spec: AutosnapshotSpec | null) {
    if (spec === null) return { changes: [], done: () => {} };
    const record = this.#recordOf(vmId, spec);
    const changes = [{ kind: "put-autosnapshot", autosnapshot: record } as const];
    return { changes, done: () => this.#adopt(record) };
  }

  left(vmId: string): void {
    this.#byVm.get(vmId)?.cancelTimer();
    void this.#sweep().catch((error: unknown) => {
      this.#deps.log.warn({ err: error }, "How VMs that are gone were snapshotted is still kept.");
    });
  }

  back(vmId: string): void {
    this.#byVm.get(vmId)?.cancelTimer();
    this.#schedule(vmId);
  }

  forgotten(vmId: string): void {
    this.#byVm.get(vmId)?.cancelTimer();
    this.#byVm.delete(vmId);
  }

  /** No more begin; one under way is ended by who takes it. */
  close(): void {
    this.#isClosing = true;
    for (const { cancelTimer } of this.#byVm.values()) cancelTimer();
  }

  async #forget(vmId: string): Promise<void> {
    await this.#deps.recorder.commit([{ kind: "delete-autosnapshot", vmId }]);
    this.forgotten(vmId);
  }

  /** Of VMs that were deleted after they had moved away, no turn comes any more. */
  async #sweep(): Promise<void> {
    const { registry } = this.#deps;
    for (const vmId of [...this.#byVm.keys()]) {
      if (!registry.has(vmId)) await this.#forget(vmId);
    }
  }

  #recordOf(vmId: string, spec: AutosnapshotSpec): AutosnapshotRecord {
    const now = timestamp(this.#deps.clock);
    const createdAt = this.#byVm.get(vmId)?.record.createdAt ?? now;
    const { everySeconds, keep, differential } = spec;
    return { vmId, everySeconds, keep, differential, createdAt, updatedAt: now };
  }

  #adopt(record: AutosnapshotRecord): void {
    const { vmId } = record;
    this.#byVm.get(vmId)?.cancelTimer();
    this.#byVm.set(vmId, { record, cancelTimer: noTimer, isDue: false });
    this.#schedule(vmId);
  }

  #schedule(vmId: string): void {
    const policy = this.#byVm.get(vmId);
    if (policy === undefined || this.#isClosing || this.#isElsewhere(vmId)) return;
    const ms = policy.record.everySeconds * MS_PER_S;
    policy.cancelTimer = this.#deps.clock.timer(ms, () => {
      // The period is from begin to begin.
      this.#schedule(vmId);
      void this.#turn(vmId).catch((error: unknown) => {
        this.#deps.log.warn({ vmId, err: error }, "A VM was not snapshotted when it was due.");
      });
    });
  }

  /** It moved away: what is left of it here is a record. */
  #isElsewhere(vmId: string): boolean {
    const { registry } = this.#deps;
    return registry.has(vmId) && registry.require(vmId).record.state === "migrated";
  }

  async #turn(vmId: string): Promise<void> {
    const { registry, jobs } = this.#deps;
    const policy = this.#byVm.get(vmId);
    // One that is due already stands for this turn, too.
    if (policy === undefined || policy.isDue) return;
    policy.isDue = true;
    await this.#untilFree(vmId).finally(() => {
      policy.isDue = false;
    });
    if (this.#isClosing || this.#byVm.get(vmId) !== policy) return;
    if (!registry.has(vmId)) {
      await this.#forget(vmId);
      return;
    }
    const vm = registry.require(vmId);
    if (vm.handle === null || this.#isElsewhere(vmId)) return;
    const { id } = await jobs.create(vmId, this.#request(vm, policy.record), "autosnapshot");
    await this.#deps.book.find(id)?.job?.ended;
    await this.#prune(vmId, policy.record.keep);
  }

  /** The one that is being taken, an earlier one of these too, may last longer than a period. */
  async #untilFree(vmId: string): Promise<void> {
    const { jobs, clock } = this.#deps;
    while (jobs.isBusy(vmId) && !this.#isClosing) await clock.sleep(BUSY_RETRY_MS);
  }

  #request(vm: VmEntry, { keep, differential }: AutosnapshotRecord): SnapshotRequest {
    const name = null;
    const tip = this.#deps.jobs.tipOf(vm, ({ origin }) => origin === "autosnapshot");
    const length = this.#own(vm.id).filter(({ chainId }) => chainId === tip?.chainId).length;
    if (differential && tip !== null && length < keep) {
      return { name, kind: "differential", parent: tip.id, track: null };
    }
    return { name, kind: "full", parent: null, track: differential ? null : false };
  }

  /** Its complete ones, oldest first. */
  #own(vmId: string): readonly SnapshotRecord[] {
    const all = this.#deps.book.all().map(({ record }) => record);
    return all.filter(({ origin, state, vmId: of }) => {
      return origin === "autosnapshot" && state === "complete" && of === vmId;
    });
  }

  /** Oldest chains go, as long as `keep` snapshots stay. */
  async #prune(vmId: string, keep: number): Promise<void> {
    const own = this.#own(vmId);
    const chains = new Map<string, SnapshotRecord[]>();
    for (const record of own) {
      chains.set(record.chainId, [...(chains.get(record.chainId) ?? []), record]);
    }
    let left = own.length;
    for (const chain of chains.values()) {
      if (left - chain.length < keep) return;
      left -= chain.length;
      for (const { id } of chain.reverse()) await this.#deps.jobs.delete(id);
    }
  }
}
