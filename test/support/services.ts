// Owns: the service room over a real store and a fake runtime, for tests.
import { type Clock, systemClock } from "../../src/base/clock.js";
import { silentLog } from "../../src/base/log.js";
import type { VmDefinition } from "../../src/runtime/index.js";
import { createServices, type ServiceLimits } from "../../src/service/index.js";
import type { MigrationConfig } from "../../src/service/migration/open.js";
import type { Services, VmSpec } from "../../src/service/services.js";
import type { Change, Store } from "../../src/store/index.js";
import { FakeRuntime } from "./fake-runtime.js";
import { type TestStores, testStores } from "./store.js";

export const DEFINITION: VmDefinition = {
  type: 0n,
  pageSize: 4096,
  hostCpus: 0,
  seed: 2n ** 64n - 1n,
  clock: { mode: "virtual", nsPerInstruction: 1, idle: "jump" },
  dirtyTracking: "write-protect",
};

export function spec(more: Partial<VmSpec> = {}): VmSpec {
  return {
    name: null,
    uuid: null,
    labels: {},
    definition: DEFINITION,
    replay: null,
    validateOnly: false,
    ...more,
  };
}

export interface TestService {
  readonly services: Services;
  readonly runtime: FakeRuntime;
  readonly store: Store;
  readonly stores: TestStores;
  /** Commits that hold a change of one of these kinds are refused. */
  readonly refuse: Set<Change["kind"]>;
  /** The service as it comes up after kill -9 at this moment. */
  afterKill(): Promise<TestService>;
  /** Ends it with a goodbye and starts it again on the same file. */
  restart(): Promise<TestService>;
  remove(): Promise<void>;
}

interface Options {
  readonly stores?: TestStores;
  readonly limits?: Partial<ServiceLimits>;
  readonly clock?: Clock;
  readonly migration?: Partial<MigrationConfig>;
}

export async function testService(options: Options = {}): Promise<TestService> {
  const stores = options.stores ?? (await testStores());
  const store = await stores.open();
  const refuse = new Set<Change["kind"]>();
  const guarded: Store = {
    ...bound(store),
    commit: (changes) =>
      changes.some(({ kind }) => refuse.has(kind))
        ? Promise.reject(new Error("disk I/O error"))
        : store.commit(changes),
  };
  const runtime = new FakeRuntime();
  const services = await createServices({
    store: guarded,
    runtime,
    clock: options.clock ?? systemClock,
    log: silentLog,
    config: {
      version: "0.0.0",
      limits: options.limits ?? {},
      migration: options.migration ?? {},
    },
    uapi: {
      vcpuMmapSize: 8192,
      ipaLimitBits: 48,
      capabilities: () => [{ name: "KVM_CAP_USER_MEMORY", number: 3, value: 1, summary: "" }],
      checkExtension: (cap) => (cap === 3 ? 1 : 0),
      ioctls: () => [],
    },
  });
  const self: TestService = {
    services,
    runtime,
    store,
    stores,
    refuse,
    afterKill: async () => testService({ ...options, stores: await stores.afterKill() }),
    restart: async () => {
      await services.close();
      await store.close();
      return testService({ ...options, stores });
    },
    remove: async () => {
      await services.close().catch(() => {});
      await stores.remove();
    },
  };
  return self;
}

function bound(store: Store): Store {
  return {
    commit: (changes) => store.commit(changes),
    loadVms: () => store.loadVms(),
    readEvents: (after, limit) => store.readEvents(after, limit),
    eventRange: () => store.eventRange(),
    findIdempotency: (key) => store.findIdempotency(key),
    newestBoot: () => store.newestBoot(),
    loadImages: () => store.loadImages(),
    imageFiles: store.imageFiles,
    loadExperiments: () => store.loadExperiments(),
    readExperimentResult: (id) => store.readExperimentResult(id),
    loadMigrations: () => store.loadMigrations(),
    readMigrationRounds: (id) => store.readMigrationRounds(id),
    loadSnapshots: () => store.loadSnapshots(),
    loadAutosnapshots: () => store.loadAutosnapshots(),
    snapshotFolder: store.snapshotFolder,
    drained: () => store.drained(),
    close: () => store.close(),
  };
}

/** The code of the ServiceError or the errno of the KvmError that a promise ends in. */
export async function refusalOf(promise: Promise<unknown>): Promise<string> {
  const error: unknown = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (error !== null && typeof error === "object") {
    if ("errno" in error) return String(error.errno);
    if ("code" in error) return String(error.code);
  }
  return error === null ? "no refusal" : String(error);
}
