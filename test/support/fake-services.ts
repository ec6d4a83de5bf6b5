// Owns: services without rooms below them: records in maps, VM commands from a table, refusals on
// request. For tests of the HTTP face alone.
import { KvmError, ServiceError } from "../../src/base/errors.js";
import type { CommandName, VmCommands } from "../../src/runtime/index.js";
import type {
  EventfdResource,
  IdempotencyService,
  RunResource,
  ServiceEvent,
  Services,
  StoredAnswer,
  VmResource,
} from "../../src/service/index.js";
import { COMMAND_RESULTS } from "./fake-commands.js";
import { fakeDirtyRates } from "./fake-dirty-rates.js";
import { fakeExperiments } from "./fake-experiments.js";
import { fakeGdb } from "./fake-gdb.js";
import { hostService } from "./fake-host.js";
import { fakeImages } from "./fake-images.js";
import { fakeIncoming, fakeMigrations } from "./fake-migrations.js";
import { fakeQmpSockets } from "./fake-qmp-sockets.js";
import { fakeSnapshots } from "./fake-snapshots.js";

const NOW = "2026-11-20T12:00:00.000Z";

/** What a test may do behind the face. */
export interface FakeControl {
  /** Commands that came through, oldest first. */
  readonly calls: { readonly vm: string; readonly name: CommandName; readonly args: unknown }[];
  /** The next command of this name is refused with the error. */
  refuse(name: CommandName, error: Error): void;
  /** The next command of this name answers this. */
  answer<K extends CommandName>(name: K, value: VmCommands[K][1]): void;
  announce(type: string, subject: string): ServiceEvent;
  /** Forgets events up to an id, as a retention limit would. */
  loseEvents(upTo: number): void;
  /** Lets a running run exit. */
  exitRun(id: string): void;
  setVm(id: string, change: Partial<VmResource>): void;
  ready: boolean;
  drained: boolean;
}

class Fake {
  readonly vms = new Map<string, VmResource>();
  readonly runs = new Map<string, RunResource>();
  readonly runWaiters = new Map<string, (() => void)[]>();
  readonly eventfds = new Map<string, EventfdResource>();
  readonly calls: FakeControl["calls"] = [];
  readonly refusals = new Map<CommandName, Error>();
  readonly answers = new Map<CommandName, unknown>();
  readonly listeners = new Set<(event: ServiceEvent) => void>();
  readonly keys = new Map<string, { fingerprint: string; answer: StoredAnswer | null }>();
  events: ServiceEvent[] = [];
  lostUpTo = 0;
  next = 1;
  ready = true;
  drained = false;

  id(prefix: string): string {
    return `${prefix}_${String(this.next++).padStart(4, "0")}`;
  }

  vm(id: string): VmResource {
    const vm = this.vms.get(id);
    if (vm === undefined) throw new ServiceError("vm-not-found", `There is no VM ${id}.`);
    return vm;
  }

  eventfd(id: string): EventfdResource {
    const eventfd = this.eventfds.get(id);
    if (eventfd !== undefined) return eventfd;
    throw new ServiceError("eventfd-not-found", `There is no eventfd ${id}.`);
  }

  run(id: string): RunResource {
    const run = this.runs.get(id);
    if (run === undefined) throw new ServiceError("run-not-found", `There is no run ${id}.`);
    return run;
  }

  announce(type: string, subject: string): ServiceEvent {
    const last = this.events.at(-1)?.id ?? this.lostUpTo;
    const event = { id: last + 1, type, time: NOW, subject, data: {} };
    this.events.push(event);
    for (const listener of [...this.listeners]) listener(event);
    return event;
  }

  command(id: string, name: CommandName, args: unknown): unknown {
    const vm = this.vm(id);
    if (vm.state !== "active") throw new ServiceError("vm-not-active", "The VM is not active.");
    this.calls.push({ vm: id, name, args });
    const refusal = this.refusals.get(name);
    this.refusals.delete(name);
    if (refusal !== undefined) throw refusal;
    if (this.answers.has(name)) {
      const value = this.answers.get(name);
      this.answers.delete(name);
      return value;
    }
    return (COMMAND_RESULTS[name] as (args: unknown) => unknown)(args);
  }

  exit(id: string, errno: "EINTR" | null): RunResource {
    const run = this.run(id);
    const result = {
      errno,
      exitReason: errno === null ? ("KVM_EXIT_MMIO" as const) : ("KVM_EXIT_INTR" as const),
      ...(errno === null
        ? {
            mmio: {
              physAddr: 0x900_0000n,
              data: new Uint8Array([1, 2, 3, 4, 0, 0, 0, 0]),
              len: 4,
              isWrite: true,
            },
          }
        : {}),
      deviceIrqLevel: 0,
      retired: 1,
      program: { completed: 1, finished: false },
    };
    const exited = { ...run, state: "exited" as const, result };
    this.runs.set(id, exited);
    for (const wake of this.runWaiters.get(id) ?? []) wake();
    return exited;
  }
}

function vmService(fake: Fake): Services["vms"] {
  const change = (id: string, patch: Partial<VmResource>): VmResource => {
    const vm = fake.vm(id);
    const next = { ...vm, ...patch, version: vm.version + 1, updatedAt: NOW };
    fake.vms.set(id, next);
    return next;
  };
  const match = (id: string, version: number | null) => {
    if (version === null || fake.vm(id).version === version) return;
    throw new ServiceError("precondition-failed", "The VM has changed.");
  };
  return {
    create: async (spec) => {
      if (fake.drained) throw new ServiceError("draining", "No new VMs.");
      const bits = Number(spec.definition.type & 0xffn);
      if (bits !== 0 && bits < 32) throw new KvmError("EINVAL", "KVM_CREATE_VM", "Bad IPA size.");
      if (spec.validateOnly) return null;
      const vm: VmResource = {
        id: fake.id("vm"),
        uuid: spec.uuid ?? "3e2c52ae-6a0d-4d0c-9d5b-8f3f4f4a2b10",
        name: spec.name,
        labels: spec.labels,
        definition: spec.definition,
        state: "active",
        stateReason: null,
        migrationId: null,
        version: 1,
        createdAt: NOW,
        updatedAt: NOW,
      };
      fake.vms.set(vm.id, vm);
      fake.announce("vm.created", `vms/${vm.id}`);
      return vm;
    },
    get: async (id) => fake.vm(id),
    counts: () => new Map([["active", fake.vms.size]]),
    list: async ({ state, labels, limit, cursor }) => {
      const all = [...fake.vms.values()].filter(
        (vm) =>
          (state === null || vm.state === state) &&
          labels.every(([name, value]) => vm.labels[name] === value),
      );
      const from = cursor === null ? 0 : all.findIndex((vm) => vm.id === cursor) + 1;
      const items = all.slice(from, from + limit);
      const more = from + limit < all.length;
      return { items, nextCursor: more ? (items.at(-1)?.id ?? null) : null };
    },
    patch: async (id, patch, version) => {
      match(id, version);
      const labels: Record<string, string> = { ...fake.vm(id).labels };
      for (const [name, value] of Object.entries(patch.labels ?? {})) {
        if (value === null) delete labels[name];
        else labels[name] = value;
      }
      return change(id, { labels, ...(patch.name === undefined ? {} : { name: patch.name }) });
    },
    delete: async (id, version) => {
      match(id, version);
      fake.vm(id);
      fake.vms.delete(id);
      fake.announce("vm.deleted", `vms/${id}`);
    },
    start: async (id) => {
      return fake.vm(id).state === "active" ? fake.vm(id) : change(id, { state: "active" });
    },
    stop: async (id) => {
      const vm = change(id, { state: "stopped", stateReason: "Stopped." });
      fake.announce("vm.stopped", `vms/${id}`);
      return vm;
    },
    command: async (id, name, args) => ({
      value: fake.command(id, name, args) as never,
      stamp: { seq: 0, step: 0, instructions: 0, virtualNs: 0, cut: false },
    }),
    changeDirty: async (id, args) => fake.command(id, "changeDirty", args) as never,
    onBoardNews: (id) => {
      fake.vm(id);
      return () => {};
    },
    inputLog: async (id) => {
      fake.vm(id);
      return { version: 1, definition: {}, entries: [], truncated: false };
    },
  };
}

function runService(fake: Fake): Services["runs"] {
  return {
    start: async (vmId, vcpu, options) => {
      fake.command(vmId, "describeVcpu", { vcpu });
      const active = [...fake.runs.values()].find(
        (run) => run.vmId === vmId && run.vcpu === vcpu && run.state === "running",
      );
      if (active !== undefined) {
        throw new ServiceError("vcpu-running", "It runs.", { runId: active.id });
      }
      const run: RunResource = {
        id: fake.id("run"),
        vmId,
        vcpu,
        state: "running",
        result: null,
        kickRequested: false,
      };
      fake.runs.set(run.id, run);
      return options.immediateExit ? fake.exit(run.id, "EINTR") : run;
    },
    get: async (vmId, _vcpu, runId, waitMs) => {
      fake.vm(vmId);
      const run = fake.run(runId);
      if (run.state === "exited" || waitMs === 0) return run;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, waitMs);
        const wake = () => {
          clearTimeout(timer);
          resolve();
        };
        fake.runWaiters.set(runId, [...(fake.runWaiters.get(runId) ?? []), wake]);
      });
      return fake.run(runId);
    },
    list: async (vmId, vcpu) => {
      fake.vm(vmId);
      return [...fake.runs.values()].filter((run) => run.vmId === vmId && run.vcpu === vcpu);
    },
    kick: async (vmId, vcpu, runId) => {
      fake.vm(vmId);
      const run =
        runId === null
          ? [...fake.runs.values()].find(
              (r) => r.vmId === vmId && r.vcpu === vcpu && r.state === "running",
            )
          : fake.run(runId);
      if (run === undefined) return null;
      if (run.state === "exited") return run;
      fake.runs.set(run.id, { ...run, kickRequested: true });
      return fake.exit(run.id, "EINTR");
    },
  };
}

function eventfdService(fake: Fake): Services["eventfds"] {
  return {
    create: async (count, isSemaphore) => {
      const eventfd = { id: fake.id("efd"), count, isSemaphore, createdAt: NOW };
      fake.eventfds.set(eventfd.id, eventfd);
      return eventfd;
    },
    list: async (limit) => ({
      items: [...fake.eventfds.values()].slice(0, limit),
      nextCursor: null,
    }),
    get: async (id) => fake.eventfd(id),
    write: async (id, value) => {
      const eventfd = fake.eventfd(id);
      const next = { ...eventfd, count: eventfd.count + value };
      fake.eventfds.set(id, next);
      return next;
    },
    read: async (id) => {
      const { count, isSemaphore } = fake.eventfd(id);
      if (count === 0n) throw new KvmError("EAGAIN", "read", "The count is zero.");
      const value = isSemaphore ? 1n : count;
      fake.eventfds.set(id, { ...fake.eventfd(id), count: count - value });
      return { id: "r1", value, repeated: false };
    },
    delete: async (id) => {
      fake.eventfd(id);
      fake.eventfds.delete(id);
    },
    follow: async (id) => ({ eventfd: fake.eventfds.get(id) ?? null, seen: 0 }),
    resolve: (id) => ({ index: id !== null && fake.eventfds.has(id) ? 0 : -1, isEventfd: true }),
    named: (index) => (index === null ? null : ([...fake.eventfds.values()][index] ?? null)),
  };
}

function eventService(fake: Fake): Services["events"] {
  return {
    list: async (after, limit) => ({
      items: fake.events.filter((event) => event.id > after).slice(0, limit),
      gap: after < fake.lostUpTo,
    }),
    oldest: () => fake.events[0]?.id ?? fake.lostUpTo,
    newest: () => fake.events.at(-1)?.id ?? fake.lostUpTo,
    subscribe: (listener) => {
      fake.listeners.add(listener);
      return () => fake.listeners.delete(listener);
    },
  };
}

function idempotencyService(fake: Fake): IdempotencyService {
  return {
    begin: async (key, fingerprint) => {
      const known = fake.keys.get(key);
      if (known === undefined) {
        fake.keys.set(key, { fingerprint, answer: null });
        return { outcome: "new" };
      }
      if (known.fingerprint !== fingerprint) {
        throw new ServiceError("idempotency-mismatch", "Another request.");
      }
      if (known.answer === null) throw new ServiceError("idempotency-running", "It runs.");
      return { outcome: "replay", answer: known.answer };
    },
    finish: async (key, answer) => {
      const known = fake.keys.get(key);
      if (known !== undefined) fake.keys.set(key, { ...known, answer });
    },
    abandon: async (key) => {
      fake.keys.delete(key);
    },
  };
}

function controlOf(fake: Fake): FakeControl {
  return {
    calls: fake.calls,
    refuse: (name, error) => fake.refusals.set(name, error),
    answer: (name, value) => fake.answers.set(name, value),
    announce: (type, subject) => fake.announce(type, subject),
    loseEvents: (upTo) => {
      fake.lostUpTo = upTo;
      fake.events = fake.events.filter((event) => event.id > upTo);
    },
    exitRun: (id) => fake.exit(id, null),
    setVm: (id, change) => fake.vms.set(id, { ...fake.vm(id), ...change }),
    get ready() {
      return fake.ready;
    },
    set ready(value) {
      fake.ready = value;
    },
    get drained() {
      return fake.drained;
    },
    set drained(value) {
      fake.drained = value;
    },
  };
}

export function fakeServices(): { services: Services; control: FakeControl } {
  const fake = new Fake();
  const vms = vmService(fake);
  const services: Services = {
    vms,
    images: fakeImages(),
    experiments: fakeExperiments(),
    migrations: fakeMigrations((id) => fake.vm(id)),
    incoming: fakeIncoming(),
    snapshots: fakeSnapshots({
      vm: (id) => fake.vm(id),
      create: async (name) => {
        const [any] = fake.vms.values();
        if (any === undefined) throw new Error("there is no VM to restore");
        const vm = { ...any, id: fake.id("vm"), name };
        fake.vms.set(vm.id, vm);
        return vm;
      },
    }),
    runs: runService(fake),
    eventfds: eventfdService(fake),
    gdb: fakeGdb((id) => fake.vm(id)),
    dirtyRates: fakeDirtyRates((id) => fake.vm(id)),
    qmp: fakeQmpSockets((id) => fake.vm(id)),
    events: eventService(fake),
    host: hostService(),
    idempotency: idempotencyService(fake),
    readiness: () => ({
      ready: fake.ready,
      checks: { store: { ok: fake.ready, detail: fake.ready ? "Open." : "Closed." } },
    }),
    drain: () => {
      fake.drained = true;
    },
    close: async () => {},
  };
  return { services, control: controlOf(fake) };
}
