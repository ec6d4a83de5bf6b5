// Owns: what a spare thread does before its VM comes: it moves small VMs of its own to and fro, so
// that what a migration's pause consists of has been compiled when a guest waits for it. VM thread.
import { assert } from "../base/assert.js";
import { EventfdCounters } from "../base/eventfd-counters.js";
import { MemoryBudget } from "../base/memory-budget.js";
import { SMALL_PAGE } from "../base/page.js";
import type { CommandArgs, CommandName, CommandResult, VmDefinition } from "../vmm/index.js";
import { InlineVm } from "./inline-vm.js";
import type { InstanceFactory } from "./vm-core.js";

/** Each is faster than the one before; how many is our choice. */
const TIMES = 4;
const MEMORY_MIB = 16;
const BUDGET_BYTES = 2 ** 28;
/** Nobody replays it. */
const SHORTEST_LOG = { entriesMax: 1, bytesMax: 16 };
const WHY = "practice";

/** Stores to one word for ever: movz x1, #0x4080, lsl 16; str x0, [x1]; add x0, x0, #1; b .-8 */
const PROGRAM = Uint32Array.of(0xd2a8_1001, 0xf900_0020, 0x9100_0400, 0x17ff_fffe);

const DEFINITION: VmDefinition = {
  type: 0n,
  pageSize: SMALL_PAGE,
  hostCpus: 0,
  seed: 1n,
  clock: { mode: "virtual", nsPerInstruction: 1, idle: "jump" },
  dirtyTracking: "write-protect",
  board: {
    image: { name: WHY, sha256: "", size: PROGRAM.byteLength },
    initrd: null,
    cmdline: "",
    memoryMiB: MEMORY_MIB,
    vcpus: 2,
    gic: 3,
  },
};

class PractisingVm {
  readonly #vm: InlineVm;

  constructor(createInstance: InstanceFactory, budget: MemoryBudget, eventfds: EventfdCounters) {
    const request = {
      definition: DEFINITION,
      replay: null,
      inputLog: SHORTEST_LOG,
    };
    const schedule = "round-robin" as const;
    this.#vm = InlineVm.create(request, { budget, eventfds, createInstance, schedule });
  }

  async do<K extends CommandName>(name: K, args: CommandArgs<K>): Promise<CommandResult<K>> {
    let isOver = false;
    const answer = this.#vm.call(name, args).finally(() => {
      isOver = true;
    });
    while (!isOver) {
      this.#vm.pump(1);
      await null;
    }
    return (await answer).value;
  }

  async build(): Promise<void> {
    const image = new Uint8Array(PROGRAM.buffer.slice(0));
    await this.do("loadBoard", { image, initrd: null });
  }

  close(): Promise<void> {
    return this.#vm.close();
  }
}

async function move(from: PractisingVm, to: PractisingVm): Promise<void> {
  await from.build();
  await from.do("boardAction", { action: "start" });
  await from.do("trackDirty", { consumer: WHY, on: true, method: null });
  await from.do("harvestDirty", { consumer: WHY });
  await from.do("holdVm", { hold: true, why: WHY });
  const { parts } = await from.do("saveState", { pack: true });
  await from.do("harvestDirty", { consumer: WHY, last: true });
  await to.build();
  await to.do("holdVm", { hold: true, why: WHY });
  await to.do("describeMemory", {});
  await to.do("loadState", { parts });
  await to.do("holdVm", { hold: false, why: WHY });
}

/** @throws KvmError, ServiceError: what would go wrong with a VM, too */
export async function practise(createInstance: InstanceFactory): Promise<void> {
  const eventfds = EventfdCounters.create();
  const all = MemoryBudget.create(BUDGET_BYTES);
  for (let time = 0; time < TIMES; time++) {
    const [one, other] = [all.account(), all.account()];
    assert(one !== null && other !== null, "a budget of its own has room for two");
    const from = new PractisingVm(createInstance, one, eventfds);
    const to = new PractisingVm(createInstance, other, eventfds);
    try {
      await move(from, to);
    } finally {
      await Promise.all([from.close(), to.close()]);
    }
  }
}
