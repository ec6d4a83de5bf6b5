// Owns: a small world of things to hit: one VM of a kind with something of everything in it, the
// ids that exist, and a look at all state that a refusal must leave alone. Test process.
import { type Answer, type Caller, type Message, told } from "./caller.js";
import type { Plan } from "./plans.js";

/** How the VM keeps its dirty log; "stopped" has no thread. */
export const KINDS = ["legacy", "manual", "ring", "stopped"] as const;
export type Kind = (typeof KINDS)[number];

const MIB = 0x10_0000;
const GIB = 0x4000_0000;
const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

const CAPABILITIES: Readonly<Record<Kind, readonly (readonly [cap: string, arg: string])[]>> = {
  legacy: [],
  manual: [["KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2", "0x3"]],
  ring: [
    ["KVM_CAP_DIRTY_LOG_RING_ACQ_REL", "0x1000"],
    ["KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP", "0x0"],
  ],
  stopped: [],
};

/** One VM, one eventfd, and what was seen of them last. */
export class World {
  readonly #caller: Caller;
  readonly #known = new Map<string, string>();
  /** Of the state after the last request; null when it has to be read again. */
  #state: string | null = null;

  private constructor(caller: Caller) {
    this.#caller = caller;
  }

  static async build(caller: Caller, kind: Kind): Promise<World> {
    const world = new World(caller);
    await world.#furnish(kind);
    return world;
  }

  get vm(): string {
    return this.known("@vm");
  }

  /** @returns the id that a name like "@eventfd" stands for */
  known(name: string): string {
    return this.#known.get(name) ?? "none";
  }

  async #make(method: string, path: string, body?: unknown): Promise<Answer> {
    const answer = await this.#caller.json(method, path, body);
    if (answer.status >= 300) throw new Error(`${method} ${path} → ${answer.text}`);
    return answer;
  }

  async #furnish(kind: Kind): Promise<void> {
    const vm = (await this.#make("POST", "/v1/vms", { labels: { kind } })).json.id as string;
    this.#known.set("@vm", vm);
    const at = `/v1/vms/${vm}`;
    const efd = (await this.#make("POST", "/v1/eventfds", { count: "0x1" })).json.id as string;
    this.#known.set("@eventfd", efd);
    for (const [cap, arg] of CAPABILITIES[kind]) {
      await this.#make("PUT", `${at}/capabilities/${cap}`, { args: [arg] });
    }
    await this.#make("POST", `${at}/memory-objects`, { size: hex(2 * MIB) });
    const unbacked = { size: hex(GIB), backing: "unbacked" };
    await this.#make("POST", `${at}/memory-objects`, unbacked);
    await this.#make("POST", `${at}/guest-memfds`, { size: hex(MIB) });
    const flags = [1, 1, 2];
    const slots = [
      { guestPhysAddr: "0x0", memorySize: hex(MIB), memoryObjectId: 1 },
      { guestPhysAddr: hex(GIB), memorySize: hex(GIB), memoryObjectId: 2 },
      { guestPhysAddr: hex(2 * MIB), memorySize: hex(MIB), memoryObjectId: 1, offset: hex(MIB) },
    ];
    for (const [i, slot] of slots.entries()) {
      await this.#make("PUT", `${at}/memslots/${i}`, { ...slot, flags: flags[i] });
    }
    await this.#make("PUT", `${at}/vcpus/0`);
    const ioeventfd = { eventfd: efd, addr: hex(4 * GIB), len: 4 };
    const made = await this.#make("POST", `${at}/ioeventfds`, ioeventfd);
    this.#known.set("@ioeventfd", made.json.id as string);
    await this.#make("POST", `${at}/coalesced-zones`, { addr: hex(5 * GIB), size: 64 });
    await this.#store(at);
    if (kind === "legacy") {
      const json = { accept: "application/json" };
      const harvest = await this.#caller.send({
        method: "POST",
        path: `${at}/memslots/0/dirty-log/harvests`,
        headers: json,
      });
      this.#known.set("@harvest", harvest.json.id as string);
    }
    if (kind === "stopped") await this.#make("POST", `${at}:stop`);
  }

  /** Some dirty pages, an eventfd signalled, a coalesced store. */
  async #store(at: string): Promise<void> {
    const pages = [0, 1, 5, 64, 255].map((page) => page * 4096);
    const accesses = [...pages, GIB, 4 * GIB, 5 * GIB].map((address) => ({
      op: "write",
      address: hex(address),
      length: 4,
      value: "0x1",
    }));
    await this.#make("PUT", `${at}/vcpus/0/program`, { kind: "accesses", accesses });
    const run = await this.#caller.json("POST", `${at}/vcpus/0/runs`, undefined, {
      prefer: "wait=10",
    });
    if (run.json.state !== "exited") throw new Error(`the run went on: ${run.text}`);
    this.#known.set("@run", run.json.id as string);
  }

  /** Everything that can be seen of this VM and of the host, as one text. */
  async look(): Promise<string> {
    const at = `/v1/vms/${this.vm}`;
    const paths = [
      "/v1/vms?limit=1000",
      "/v1/eventfds?limit=1000",
      at,
      ...["digest", "memslots", "vcpus", "memory-objects", "guest-memfds"].map((p) => `${at}/${p}`),
      ...["coalesced-zones", "ioeventfds", "gsi-routing", "vcpus/0/runs"].map((p) => `${at}/${p}`),
      ...[168, 182, 223, 225, 228].map((cap) => `${at}/capabilities/${cap}`),
    ];
    const answers = await Promise.all(paths.map((path) => this.#caller.get(path)));
    const told = answers.map((answer, i) => `${paths[i]} ${lasting(answer)}`);
    const { newest } = (await this.#caller.get("/v1/events?after=0&limit=1")).json;
    const { allocatable } = (await this.#caller.get("/v1/host")).json;
    return [...told, `newest ${newest}`, JSON.stringify(allocatable)].join("\n");
  }

  messageOf(plan: Plan): Message {
    const { op, params, query, headers, body } = plan;
    const path = op.path.replace(/\{(\w+)\}/g, (_all, name: string) => this.#fill(params[name]));
    const search = query.map(([name, value]) => {
      return `${encode(name)}=${encode(this.#fill(value))}`;
    });
    const text = typeof body === "string" ? body.replace(/@\w+/g, (ref) => this.#fill(ref)) : body;
    return {
      method: op.method,
      path: search.length === 0 ? path : `${path}?${search.join("&")}`,
      headers,
      body: text === null ? undefined : typeof text === "string" ? text : Buffer.from(text),
    };
  }

  #fill(text: string | undefined): string {
    if (text === undefined) return "x";
    return text.startsWith("@") ? (this.#known.get(text) ?? "none") : text;
  }

  /** Sends a plan's request and holds it against the rules. */
  async hit(plan: Plan): Promise<Answer> {
    const message = this.messageOf(plan);
    const before = this.#state ?? (await this.look());
    const answer = await this.#caller.send(message);
    if (plan.isMisshapen && answer.status < 400) {
      throw new Error(`a misshapen body was taken\n${told(message, answer)}`);
    }
    const isRefusal = answer.status >= 400;
    if (!isRefusal && message.method !== "GET") await this.#settle(plan, answer);
    const after = await this.look();
    const isChange = isRefusal
      ? after !== before
      : isPureGet(plan) && uncounted(after) !== uncounted(before);
    if (isChange) {
      const why = isRefusal ? "a refusal" : "a GET";
      throw new Error(
        `${why} changed state\n${told(message, answer)}\n${difference(before, after)}`,
      );
    }
    this.#state = after;
    return answer;
  }

  /** Ends what was set going, so that the next look finds a world at rest. */
  async #settle({ op }: Plan, answer: Answer): Promise<void> {
    const id = answer.json?.id;
    if (op.id === "createRun") {
      const path = String(answer.headers["location"]);
      await this.#caller.send({ method: "DELETE", path });
      const run = await this.#caller.get(`${path}?wait=20`);
      if (run.json.state !== "exited") throw new Error(`a kicked run goes on: ${run.text}`);
      this.#known.set("@run", String(id));
    }
    // Its end is an event of its own, whenever it comes.
    for (let state = "creating"; op.id === "createSnapshot" && state === "creating"; ) {
      state = (await this.#caller.get(`/v1/snapshots/${id}`)).json.state as string;
    }
    if (op.id === "createHarvest") {
      this.#known.set("@harvest", String(answer.headers["tidemark-harvest-id"]));
    }
    if (op.id === "createEventfd") this.#known.set("@eventfd", String(id));
    if (op.id === "createIoeventfd") this.#known.set("@ioeventfd", String(id));
  }

  /** Removes every VM and every eventfd of the service. */
  async clear(): Promise<void> {
    const vms = (await this.#caller.get("/v1/vms?limit=1000")).json.items as { id: string }[];
    const efds = (await this.#caller.get("/v1/eventfds?limit=1000")).json.items as { id: string }[];
    const paths = [
      ...vms.map(({ id }) => `/v1/vms/${id}`),
      ...efds.map(({ id }) => `/v1/eventfds/${id}`),
    ];
    await Promise.all(paths.map((path) => this.#caller.send({ method: "DELETE", path })));
  }
}

/** The part of an answer that time alone does not change. */
function lasting({ status, json }: Answer): string {
  // A problem carries its own trace.
  if (status >= 400) return `${status} ${json.code}`;
  // A refused command is a step of the VM's scheduler too, and of nothing else.
  const { digest: _whole, ...rest } = json;
  return JSON.stringify(rest, (name, value) => {
    return name === "steps" || name === "scheduler" || name === "links" ? undefined : value;
  });
}

/** Reading a ring marks its entries as served: no more than those can be harvested. */
function isPureGet({ op }: Plan): boolean {
  return op.method === "GET" && op.id !== "getDirtyRing";
}

/** KVM counts what it is asked. */
function uncounted(state: string): string {
  return state.replace(/"counters":"\w+"/g, "");
}

function encode(text: string): string {
  return encodeURIComponent(text.replace(/[\ud800-\udfff]/g, "?"));
}

function difference(before: string, after: string): string {
  const old = before.split("\n");
  return after
    .split("\n")
    .flatMap((line, i) => (line === old[i] ? [] : [`- ${old[i]}`, `+ ${line}`]))
    .join("\n");
}
