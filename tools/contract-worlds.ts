// Owns: what the requests of `npm run contract` find: VMs and what belongs to them, made before the
// first request, and which of it each operation is given. Its process.
import type { Answer, Caller } from "../test/bad-input/caller.js";
import { World } from "../test/bad-input/world.js";
import { guestImage } from "../test/support/board.js";

type Json = Record<string, unknown>;
type Values = Readonly<Record<string, string>>;

export interface Operation {
  readonly id: string;
  readonly method: string;
  readonly path: string;
  readonly isNotYet: boolean;
}

export interface Worlds {
  readonly legacy: World;
  readonly manual: World;
  readonly ring: World;
  readonly gic: GicVm;
  readonly gicV5: string;
  /** Id of a VM with a board, whose image has the name below. */
  readonly board: string;
  /** Id of an experiment that has ended. */
  readonly experiment: string;
  readonly moved: Moved;
  readonly kept: Kept;
  /** Ids of VMs that nothing else needs: to stop and delete, and to move. */
  readonly idle: string;
  readonly mover: string;
}

/** A VM with a GICv3 as device 0, a VFIO file, an irqfd and an assigned device. */
interface GicVm {
  readonly vm: string;
  readonly irqfd: string;
  readonly assigned: string;
  /** Eventfds that are bound to nothing: an irqfd's, and both of a device. */
  readonly eventfd: string;
  readonly trigger: string;
  readonly unmask: string;
}

/** Ids of a migration that has ended, at its source and at its target. */
interface Moved {
  readonly source: string;
  readonly target: string;
}

/** A VM with a complete snapshot whose chain tracks it, and one that nothing follows. */
interface Kept {
  readonly vm: string;
  readonly snapshot: string;
  readonly spare: string;
}

const IMAGE = "contract";
const UNUSED_IMAGE = "contract-unused";
const MIB = "0x100000";
const WAIT = { prefer: "wait=60" };
const GIC = { base: "0x8000000", redist: "0x80a0000", irs: "0x8010000", nrIrqs: 96 } as const;

/** @throws Error for a refusal: without this step the requests are about nothing */
async function step(
  caller: Caller,
  method: string,
  path: string,
  body?: unknown,
  headers?: Values,
): Promise<Answer["json"]> {
  const answer = await caller.json(method, path, body, headers);
  if (answer.status >= 300) throw new Error(`${method} ${path} was refused: ${answer.text}`);
  return answer.json;
}

const newVm = async (caller: Caller): Promise<string> =>
  (await step(caller, "POST", "/v1/vms", {})).id;

/** @returns the id of a VM whose guest waits for a line */
async function boardVm(caller: Caller): Promise<string> {
  const body = Buffer.from(guestImage("hello"));
  const headers = { "content-type": "application/octet-stream" };
  for (const image of [IMAGE, UNUSED_IMAGE]) {
    const put = await caller.send({ method: "PUT", path: `/v1/images/${image}`, headers, body });
    if (put.status !== 201) throw new Error(`the upload was refused: ${put.text}`);
  }
  const board = { image: IMAGE, memoryMiB: 16 };
  const { id } = await step(caller, "POST", "/v1/vms", { board });
  await step(caller, "POST", `/v1/vms/${id}:start`);
  return id;
}

async function gicVm(caller: Caller): Promise<GicVm> {
  const vm = await newVm(caller);
  const path = `/v1/vms/${vm}`;
  const device = `${path}/devices/0`;
  const steps = [
    ["PUT", `${path}/vcpus/0`, {}],
    ["POST", `${path}/devices`, { type: "KVM_DEV_TYPE_ARM_VGIC_V3" }],
    ["PUT", `${device}/nr-irqs`, { nrIrqs: GIC.nrIrqs }],
    ["PUT", `${device}/addresses/v3-dist`, { address: GIC.base }],
    ["PUT", `${device}/addresses/v3-redist`, { address: GIC.redist }],
    ["POST", `${device}/operations`, { op: "init" }],
    ["POST", `${path}/vfio-files`, {}],
  ] as const;
  for (const [method, url, body] of steps) await step(caller, method, url, body);
  const eventfd = async (): Promise<string> => (await step(caller, "POST", "/v1/eventfds", {})).id;
  const bound = { eventfd: await eventfd(), gsi: 40 };
  const irqfd = await step(caller, "POST", `${path}/irqfds`, bound);
  const own = { triggerEventfd: await eventfd(), unmaskEventfd: await eventfd() };
  const at = { base: "0xb000000", ...own };
  const assigned = await step(caller, "POST", `${path}/assigned-devices`, at);
  const free = {
    eventfd: await eventfd(),
    trigger: await eventfd(),
    unmask: await eventfd(),
  };
  return { vm, irqfd: irqfd.id, assigned: String(assigned.id), ...free };
}

/** @returns the id of the smallest experiment, after its end */
async function experiment(caller: Caller): Promise<string> {
  const workload = { vcpus: 1, bytesPerVcpu: 2 ** 20, storesPerRound: 16, rounds: 1 };
  const body = { workload, strategies: [{ tracking: "write-protect" }] };
  const { id } = await step(caller, "POST", "/v1/experiments", body);
  for (let n = 0; n < 600; n++) {
    const { state } = await step(caller, "GET", `/v1/experiments/${id}`);
    if (state === "done") return id;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`the experiment ${id} did not end`);
}

/** A VM that moved within the host. */
async function moved(caller: Caller): Promise<Moved> {
  const vmId = await newVm(caller);
  const made = await step(caller, "POST", "/v1/migrations", { vmId, peer: "local" }, WAIT);
  if (made.state !== "completed") throw new Error(`the migration is ${made.state}`);
  return { source: made.id, target: made.peerSession };
}

async function kept(caller: Caller): Promise<Kept> {
  const vm = await newVm(caller);
  const path = `/v1/vms/${vm}`;
  const { userspaceAddr } = await step(caller, "POST", `${path}/memory-objects`, { size: MIB });
  const slot = { guestPhysAddr: "0x40000000", memorySize: MIB, userspaceAddr };
  await step(caller, "PUT", `${path}/memslots/0`, slot);
  await step(caller, "PUT", `${path}/vcpus/0`);
  const taken = async (track: boolean): Promise<string> => {
    const { id, state } = await step(caller, "POST", `${path}/snapshots`, { track }, WAIT);
    if (state !== "complete") throw new Error(`the snapshot is ${state}`);
    return id;
  };
  const spare = await taken(false);
  // Far apart, so that none is taken while the requests run.
  const rule = { everySeconds: 86_400, keep: 1, differential: false };
  await step(caller, "PUT", `${path}/autosnapshot`, rule);
  return { vm, snapshot: await taken(true), spare };
}

export async function buildWorlds(caller: Caller): Promise<Worlds> {
  return {
    legacy: await World.build(caller, "legacy"),
    manual: await World.build(caller, "manual"),
    ring: await World.build(caller, "ring"),
    gic: await gicVm(caller),
    gicV5: await gicV5Vm(caller),
    board: await boardVm(caller),
    experiment: await experiment(caller),
    moved: await moved(caller),
    kept: await kept(caller),
    idle: await newVm(caller),
    mover: await newVm(caller),
  };
}

/** A VM with a GICv5. */
async function gicV5Vm(caller: Caller): Promise<string> {
  const vm = await newVm(caller);
  const path = `/v1/vms/${vm}`;
  const device = `${path}/devices/0`;
  const steps = [
    ["PUT", `${path}/vcpus/0`, {}],
    ["POST", `${path}/devices`, { type: "KVM_DEV_TYPE_ARM_VGIC_V5" }],
    ["PUT", `${device}/addresses/v5-irs`, { address: GIC.irs }],
    ["POST", `${device}/operations`, { op: "init" }],
  ] as const;
  for (const [method, url, body] of steps) await step(caller, method, url, body);
  return vm;
}

const ON_BOARD = new Set(["getBoard", "readConsole", "typeConsole"]);
const IN_GIC = /\/(devices|vgic|vfio-files|irqfds|assigned-devices)(\/|$)/;
/** The host tracks dirty pages only where the client logs none. */
const OF_KEPT = /\/(dirty-pages|dirty-rate|snapshots|autosnapshot)$|\}:restore$/;

/** Of the operations that are not about a VM of a World. */
function ownValues(worlds: Worlds, { id, path }: Operation): Values {
  const { gic, kept, moved } = worlds;
  if (ON_BOARD.has(id)) return { vm: worlds.board };
  if (id === "stopVm" || id === "deleteVm") return { vm: worlds.idle };
  if (id === "deleteImage") return { image: UNUSED_IMAGE };
  if (id === "deleteSnapshot") return { snapshot: kept.spare };
  if (path.startsWith("/v1/incoming-migrations/")) return { migration: moved.target };
  if (OF_KEPT.test(path)) return { vm: kept.vm, snapshot: kept.snapshot };
  if (path.includes("/vgic/v5")) return { vm: worlds.gicV5 };
  if (!IN_GIC.test(path.replace(/:\w+$/, ""))) return {};
  if (path.includes("/irqfds/")) return { vm: gic.vm, id: gic.irqfd };
  if (path.includes("/assigned-devices/")) return { vm: gic.vm, id: gic.assigned };
  return { vm: gic.vm, device: "0", group: "3", attr: "0", kind: "v3-dist", fd: "1048576" };
}

function worldOf(worlds: Worlds, { id }: Operation): World {
  // The eventfd of another world: in its own an ioeventfd needs it.
  if (/DirtyRing|deleteEventfd/.test(id)) return worlds.ring;
  return /^(getDirtyLog|clearDirtyLog|createHarvest)$/.test(id) ? worlds.manual : worlds.legacy;
}

function worldValues(world: World, { id, path }: Operation): Values {
  const values = { vm: world.vm, n: "0", slot: "0", run: world.known("@run"), index: "0" };
  if (id === "createVcpu") return { ...values, n: "1" };
  if (id === "enableVmCapability") return { ...values, cap: "168" };
  if (id === "setMemslot") return { ...values, slot: "5" };
  if (path.startsWith("/v1/eventfds")) return { id: world.known("@eventfd") };
  if (path.includes("/ioeventfds/")) return { ...values, id: world.known("@ioeventfd") };
  if (path.includes("/harvests/")) return { ...values, harvest: world.known("@harvest") };
  return { ...values, id: "1", fault: "1", cap: "10", code: "kvm-errno" };
}

/** Values of path parameters that exist in the operation's world. */
export function pathValues(worlds: Worlds, operation: Operation): Values {
  return {
    image: IMAGE,
    experiment: worlds.experiment,
    migration: worlds.moved.source,
    snapshot: worlds.kept.snapshot,
    ...worldValues(worldOf(worlds, operation), operation),
    ...ownValues(worlds, operation),
  };
}

const given = (values: Values) =>
  Object.entries(values).map(([key, value]) => ({ key, value, overwrite: true }));

/** Members of bodies, queries and headers that depend on what is there. */
export function otherValues(worlds: Worlds, operation: Operation): Json {
  const eventfd = worldOf(worlds, operation).known("@eventfd");
  const { gic, kept, mover } = worlds;
  switch (operation.id) {
    case "setMemslot":
      return { overwriteRequestBody: given({ guestPhysAddr: "0x10000000" }) };
    case "clearDirtyLog":
      return { overwriteRequestBody: [{ key: "numPages", value: 256, overwrite: true }] };
    case "createIoeventfd":
      return { overwriteRequestBody: given({ eventfd }) };
    case "deassignIoeventfd":
      return {
        overwriteRequestQueryParams: given({ eventfd, addr: "0x9000000", datamatch: "0x1" }),
      };
    case "createIrqfd":
      return { overwriteRequestBody: given({ eventfd: gic.eventfd }) };
    case "deassignIrqfd":
      return { overwriteRequestQueryParams: given({ eventfd: gic.eventfd }) };
    case "assignDevice":
      return {
        overwriteRequestBody: given({ triggerEventfd: gic.trigger, unmaskEventfd: gic.unmask }),
      };
    case "deleteCoalescedZone":
      return { overwriteRequestQueryParams: given({ addr: "0x140000000", size: "64" }) };
    case "getVmDirtyPages":
      return { overwriteRequestQueryParams: given({ consumer: `snapshots/${kept.snapshot}` }) };
    case "createMigration":
      return { overwriteRequestBody: given({ vmId: mover }) };
    case "createSnapshot":
      // Its end is what :restore needs.
      return { overwriteRequestHeaders: given({ Prefer: "wait=60" }) };
    default:
      return {};
  }
}
