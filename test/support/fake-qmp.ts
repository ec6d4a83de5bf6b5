// Owns: a VM as QMP's commands see it, without a VM: what happens is what a test says.
import { ManualClock } from "../../src/base/clock.js";
import { ServiceError } from "../../src/base/errors.js";
import { silentLog } from "../../src/base/log.js";
import { DEFAULT_PARAMETERS } from "../../src/migration/index.js";
import type { Face } from "../../src/service/qmp/command.js";
import { DirtyLimit } from "../../src/service/qmp/dirty-limit.js";
import { DirtyRate } from "../../src/service/qmp/dirty-rate.js";
import { MigrationSettings } from "../../src/service/qmp/migration-settings.js";
import type {
  QmpDirty,
  QmpMigrations,
  QmpVm,
  RunState,
  SessionView,
  VmNews,
} from "../../src/service/qmp/ports.js";
import { Session } from "../../src/service/qmp/session.js";

export const SESSION: SessionView = {
  id: "mig_1",
  isOutgoing: true,
  state: "active",
  parameters: DEFAULT_PARAMETERS,
  progress: null,
  statistics: null,
  failure: null,
  startedMs: 1_000,
  endedMs: null,
  downtimeBytes: 0,
};

export class FakeQmpVm implements QmpVm {
  readonly id = "vm_1";
  readonly uuid = "7f3a0000-0000-4000-8000-000000000001";
  readonly name = "guest";
  readonly pageSize = 4096; // tidy: the VM's page size
  runState: RunState = "running";
  session: SessionView | null = null;
  /** Everything that was asked for, with its arguments. */
  readonly asked: unknown[][] = [];
  readonly listeners = new Set<(news: VmNews) => void>();
  /** Pages that vCPUs 0 and 1 have made dirty. */
  pages = [0, 0];
  /** The next call is refused so. */
  refusal: Error | null = null;

  state = async () => this.runState;
  vcpus = async () => [0, 1];
  act = async (action: string) => {
    this.#ask("act", action);
    if (action === "pause") this.runState = "paused";
    else if (action !== "reset") this.runState = "running";
  };
  stop = async () => this.#ask("stop");

  onNews(listener: (news: VmNews) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  tell(news: VmNews): void {
    for (const listener of this.listeners) listener(news);
  }

  readonly migrations: QmpMigrations = {
    start: async (peer, parameters) => {
      this.#ask("start", peer, parameters);
      if (peer !== "beta") throw new ServiceError("peer-unknown", `There is no peer ${peer}.`);
      this.session = { ...SESSION, parameters: { ...DEFAULT_PARAMETERS, ...parameters } };
    },
    current: async () => this.session,
    cancel: async () => this.#ask("cancel"),
    proceed: async () => this.#ask("proceed"),
    startPostcopy: async () => this.#ask("startPostcopy"),
    recover: async () => this.#ask("recover"),
    adjust: async (change) => this.#ask("adjust", change),
  };

  readonly dirty: QmpDirty = {
    begin: async (consumer, method) => this.#ask("begin", consumer, method),
    end: async (consumer) => this.#ask("end", consumer),
    harvest: async (consumer) => {
      this.#ask("harvest", consumer);
      return this.pages.reduce((sum, pages) => sum + pages, 0);
    },
    dirtied: async () => new Map(this.pages.entries()),
    limit: async (pagesPerSecond) => this.#ask("limit", pagesPerSecond),
  };

  #ask(...what: unknown[]): void {
    const { refusal } = this;
    this.refusal = null;
    if (refusal !== null) throw refusal;
    this.asked.push(what);
  }
}

export interface FakeFace {
  readonly face: Face;
  readonly vm: FakeQmpVm;
  readonly clock: ManualClock;
  readonly counts: { commands: number; errors: number };
  /** A session whose greeting has been read. */
  session(): Promise<{
    /** Sends bytes as they are. @returns what came back, parsed by plain JSON */
    raw(bytes: string | Uint8Array): Promise<Record<string, unknown>[]>;
    /** @returns the answer to one command */
    ask(execute: string, args?: object): Promise<Record<string, unknown>>;
    /** Lines as they came, the greeting first. */
    readonly lines: readonly string[];
    readonly session: Session;
  }>;
}

export function fakeFace(): FakeFace {
  const vm = new FakeQmpVm();
  const clock = new ManualClock(1_000_000);
  const counts = { commands: 0, errors: 0 };
  const face: Face = {
    vm,
    clock,
    version: [1, 2, 3],
    settings: new MigrationSettings(),
    dirtyRate: new DirtyRate(vm, clock),
    dirtyLimit: new DirtyLimit(vm, clock),
    quits: () => vm.asked.push(["quits"]),
  };
  return { face, vm, clock, counts, session: () => openSession(face, counts) };
}

async function openSession(face: Face, counts: FakeFace["counts"]) {
  const lines: string[] = [];
  const send = async (line: string) => void lines.push(line);
  const session = new Session({ face, log: silentLog, send, counts });
  await session.greet();
  const raw = async (bytes: string | Uint8Array) => {
    const from = lines.length;
    await session.receive(typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes);
    return lines.slice(from).map((line) => JSON.parse(line) as Record<string, unknown>);
  };
  const ask = async (execute: string, args?: object) => {
    const [answer = {}] = await raw(JSON.stringify({ execute, arguments: args }));
    return answer;
  };
  return { raw, ask, lines, session };
}
