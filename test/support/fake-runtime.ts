// Owns: a runtime without threads and without KVM, for tests of the rooms above it.
// Its VMs keep lists of parts and refuse what would not fit, and that is all.
import { KvmError, ServiceError } from "../../src/base/errors.js";
import { defaultPolicies } from "../../src/kvm/dirty/policy.table.js";
import { defaultModel } from "../../src/machine/dirty/model.table.js";
import type {
  CommandArgs,
  CommandName,
  CommandResult,
  DirtyView,
  EventfdTable,
  InputLog,
  RunResult,
  Runtime,
  Stamped,
  VmDefinition,
  VmHandle,
} from "../../src/runtime/index.js";
import type { GuestMemfdView, MemoryObjectView, MemslotView } from "../../src/vmm/commands.js";

type News = Parameters<Parameters<VmHandle["onNews"]>[0]>[0];
type Entered = { readonly name: CommandName; readonly args: unknown };

export class FakeVm implements VmHandle {
  readonly definition: VmDefinition;
  /** Every command that was taken, in order. */
  readonly entered: Entered[] = [];
  /** Commands by name that are refused from now on. */
  readonly refuse = new Map<CommandName, Error>();
  readonly memslots = new Map<number, MemslotView>();
  readonly vcpus: number[] = [];
  /** Devices of the host that are assigned to it. */
  readonly assigned: object[] = [];
  tracking: object = {
    ...{ owner: "none", method: null, consumers: [] },
    methods: [{ method: "bitmap", whyNot: null }],
  };
  isClosed = false;
  #seq = 0;
  #objects: MemoryObjectView[] = [];
  #memfds: GuestMemfdView[] = [];
  #dirty: DirtyView;
  #listener: (news: News) => void = () => {};
  readonly #running = new Map<number, { exit(result: RunResult): void; gone(): void }>();
  readonly #onClose: () => void;

  constructor(definition: VmDefinition, onClose: () => void) {
    this.definition = definition;
    const { settings, seedBugs } = definition.dirty ?? { settings: {}, seedBugs: [] };
    this.#dirty = {
      settings: { ...defaultModel(), ...defaultPolicies(), ...settings },
      seedBugs,
    };
    this.#onClose = onClose;
  }

  async call<K extends CommandName>(
    name: K,
    args: CommandArgs<K>,
  ): Promise<Stamped<CommandResult<K>>> {
    if (this.isClosed) throw new ServiceError("vm-gone", "The VM's thread ended.");
    const refusal = this.refuse.get(name);
    if (refusal !== undefined) throw refusal;
    this.entered.push({ name, args });
    const value = await this.#carryOut(name, args as never);
    const seq = this.#seq++;
    const stamp = { seq, step: 0, instructions: 0, virtualNs: 0, cut: false };
    return { value: value as CommandResult<K>, stamp };
  }

  async inputLog(): Promise<InputLog> {
    return { version: 1, definition: this.definition, entries: [], truncated: false };
  }

  onNews(listener: (news: News) => void): void {
    this.#listener = listener;
  }

  async close(): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    for (const run of this.#running.values()) run.gone();
    this.#onClose();
  }

  /** What the thread tells. */
  tell(news: News): void {
    this.#listener(news);
  }

  /** Ends the run of a vCPU. */
  exit(vcpu: number, result: Partial<RunResult> = {}): void {
    this.#running.get(vcpu)?.exit(runResult(result));
  }

  names(): readonly CommandName[] {
    return this.entered.map(({ name }) => name);
  }

  // biome-ignore lint/suspicious/noExplicitAny: one fake for fifty argument types
  async #carryOut(name: CommandName, args: any): Promise<unknown> {
    switch (name) {
      case "createVcpu":
        this.vcpus.push(args.id);
        return { id: args.id, index: this.vcpus.length - 1 };
      case "listVcpus":
        return this.vcpus.map((id, index) => ({ id, index }));
      case "describeVcpu":
        if (!this.vcpus.includes(args.vcpu)) {
          throw new ServiceError("vcpu-not-found", `There is no vCPU ${args.vcpu}.`);
        }
        return { id: args.vcpu };
      case "createMemoryObject": {
        const userspaceAddr = args.userspaceAddr ?? BigInt(this.#objects.length + 1) << 32n;
        const object = { ...args, id: freeId(this.#objects), userspaceAddr };
        this.#objects.push(object);
        return object;
      }
      case "listMemoryObjects":
        return this.#objects;
      case "deleteMemoryObject":
        this.#objects = this.#objects.filter(({ id }) => id !== args.id);
        return null;
      case "createGuestMemfd": {
        const memfd = { ...args, id: freeId(this.#memfds), allocatedPages: 0 };
        this.#memfds.push(memfd);
        return memfd;
      }
      case "listGuestMemfds":
        return this.#memfds;
      case "closeGuestMemfd":
        this.#memfds = this.#memfds.filter(({ id }) => id !== args.id);
        return null;
      case "setUserMemoryRegion":
      case "setUserMemoryRegion2":
        return this.#setRegion(args);
      case "listMemslots":
        return [...this.memslots.values()];
      case "describeDirty":
        return this.#dirty;
      case "changeDirty":
        this.#dirty = {
          settings: { ...this.#dirty.settings, ...args.settings },
          seedBugs: args.seedBugs ?? this.#dirty.seedBugs,
        };
        return this.#dirty;
      case "describe":
        return { replaying: false };
      case "listIrqfds":
      case "listIoeventfds":
        return [];
      case "listAssignedDevices":
        return this.assigned;
      case "describeMemory":
        return { blocks: this.#objects.map(blockOf) };
      case "describeTracking":
        return this.tracking;
      case "run":
        return this.#run(args.vcpu);
      case "kick":
        this.exit(args.vcpu, { errno: "EINTR", exitReason: "KVM_EXIT_INTR" });
        return null;
      default:
        return null;
    }
  }

  #setRegion(args: CommandArgs<"setUserMemoryRegion2">): unknown {
    const known = this.memslots.get(args.slot);
    if (args.memorySize === 0n) {
      if (known === undefined) throw new KvmError("EINVAL", "KVM_SET_USER_MEMORY_REGION", "none");
      this.memslots.delete(args.slot);
      return { created: false, slot: null };
    }
    const bound = args.guestMemfd !== undefined && (args.flags & 4) !== 0;
    if (bound && !this.#memfds.some(({ id }) => id === args.guestMemfd)) {
      throw new KvmError("EBADF", "KVM_SET_USER_MEMORY_REGION2", "no such memfd");
    }
    const slot: MemslotView = {
      slot: args.slot,
      flags: args.flags,
      guestPhysAddr: args.guestPhysAddr,
      memorySize: args.memorySize,
      userspaceAddr: args.userspaceAddr,
      guestMemfdId: bound ? args.guestMemfd : null,
      guestMemfdOffset: bound ? args.guestMemfdOffset : 0n,
      npages: Number(args.memorySize >> 12n),
    };
    this.memslots.set(args.slot, slot);
    return { created: known === undefined, slot };
  }

  #run(vcpu: number): Promise<RunResult> {
    return new Promise((resolve, reject) => {
      this.#running.set(vcpu, {
        exit: (result) => {
          this.#running.delete(vcpu);
          resolve(result);
        },
        gone: () => reject(new ServiceError("vm-gone", "The VM's thread ended.")),
      });
    });
  }
}

export class FakeRuntime implements Runtime {
  readonly vms: FakeVm[] = [];
  readonly eventfds: EventfdTable = fakeEventfds();
  /** Thrown by the next starts. */
  refuse: Error | null = null;
  replays: InputLog[] = [];
  maxVms = 1_000;
  /** Awaited by each start. */
  gate: Promise<void> = Promise.resolve();

  get latest(): FakeVm {
    const vm = this.vms.at(-1);
    if (vm === undefined) throw new Error("no VM was started");
    return vm;
  }

  async start(definition: VmDefinition, replay?: InputLog): Promise<VmHandle> {
    await this.gate;
    if (this.refuse !== null) throw this.refuse;
    if (this.live() >= this.maxVms) throw new ServiceError("vm-limit", "too many");
    if (replay !== undefined) this.replays.push(replay);
    const vm = new FakeVm(definition, () => {});
    this.vms.push(vm);
    return vm;
  }

  live(): number {
    return this.vms.filter((vm) => !vm.isClosed).length;
  }

  usage() {
    return {
      vms: this.live(),
      maxVms: this.maxVms,
      memoryBudgetBytes: 1 << 30,
      memoryUsedBytes: 0,
    };
  }

  async close(): Promise<void> {
    for (const vm of this.vms) await vm.close();
  }
}

function runResult(more: Partial<RunResult>): RunResult {
  const program = { completed: 1, finished: true };
  const plain = { errno: null, exitReason: "KVM_EXIT_MMIO", deviceIrqLevel: 0 } as const;
  return { ...plain, retired: 1, program, ...more };
}

function blockOf({ id, size, backing }: MemoryObjectView) {
  return { object: id, bytes: Number(size), backing, pa: 0, contentPage: 0 };
}

function freeId(list: readonly { readonly id: number }[]): number {
  for (let id = 1; ; id++) if (!list.some((item) => item.id === id)) return id;
}

function fakeEventfds(): EventfdTable {
  const counts: bigint[] = [];
  const semaphores = new Set<number>();
  let wake: (() => void)[] = [];
  return {
    create: (initial, isSemaphore) => {
      if (isSemaphore) semaphores.add(counts.length);
      return counts.length < 3 ? counts.push(initial) - 1 : -1;
    },
    write: async (index, value) => {
      counts[index] = counts[index]! + value;
      for (const resolve of wake) resolve();
      wake = [];
    },
    peek: (index) => counts[index]!,
    take: (index) => {
      const count = counts[index]!;
      const value = semaphores.has(index) && count > 1n ? 1n : count;
      counts[index] = count - value;
      return value;
    },
    withdraw: (index, n) => {
      const count = counts[index]!;
      counts[index] = count > n ? count - n : 0n;
    },
    isClaimed: () => false,
    free: () => 3 - counts.length,
    close: async () => {},
    sequence: () => 0,
    moved: () => new Promise((resolve) => wake.push(resolve)),
    changed: () => new Promise((resolve) => wake.push(resolve)),
  };
}
