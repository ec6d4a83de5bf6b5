// Owns: guest accesses of a recording as programs and runs of synthetic vCPUs. Any thread.
import { type Answer, isOk, jsonOf, refusal, success } from "../client.js";
import { type Line, listArg, numberArg, type Outcome, ReplayFault, wideArg } from "../line.js";
import { expandPages } from "../page-set.js";
import { type AccessList, hex, type VcpuState, type World } from "../world.js";

/** Seconds that one request waits for a run's exit, and how many such waits until we give up. */
const WAIT_S = 20;
const WAITS_MAX = 3;
/** Accesses of one program; a longer list is handed over piece by piece, for the body's sake. */
const PIECE_ACCESSES = 8192;

interface MmioResult {
  readonly physAddr: string;
  readonly len: number;
  readonly isWrite: boolean;
  readonly data: string;
}

interface RunResult {
  readonly errno: string | null;
  readonly exitReason: string;
  readonly mmio?: MmioResult;
  readonly program: { readonly completed: number };
}

/** guest_write and guest_read: a new list, started from its first access. */
export async function guestAccess(world: World, line: Line): Promise<Outcome> {
  const vcpu = world.vcpu(line.on);
  const isRead = line.op === "guest_read";
  const length = numberArg(line, "len");
  const base = BigInt(wideArg(line, "base")) + BigInt(numberArg(line, "offset"));
  const pageSize = BigInt(world.header.pageSize);
  const pages = expandPages(listArg(line, "pages"));
  const addresses = pages.map((page) => base + BigInt(page) * pageSize);
  const store = isRead
    ? { op: "read", length }
    : {
        op: "write",
        length,
        value: hex(BigInt.asUintN(8 * length, BigInt(wideArg(line, "value")))),
      };
  const accesses = addresses.map((address) => ({ ...store, address: hex(address) }));
  const outcome = await runProgram(world, vcpu, { accesses, isRead });
  if (!isRead)
    await world.shareStores(
      vcpu.vm,
      addresses.map((gpa) => ({ gpa, len: length })),
    );
  return outcome;
}

/** A list in place of the one that the vCPU had, from its first access. */
export async function runProgram(
  world: World,
  vcpu: VcpuState,
  { accesses, isRead }: { accesses: readonly unknown[]; isRead: boolean },
): Promise<Outcome> {
  vcpu.list = { isRead, rest: accesses, loaded: 0, completed: 0, values: [] };
  const refused = await loadPiece(world, vcpu, vcpu.list);
  return refused ?? run(world, vcpu, vcpu.list);
}

/** KVM_RUN: goes on with the vCPU's list; without one it runs what the vCPU has, nothing. */
export function continueRun(world: World, line: Line): Promise<Outcome> {
  const vcpu = world.vcpu(line.on);
  vcpu.list ??= { isRead: false, rest: [], loaded: 0, completed: 0, values: [] };
  return run(world, vcpu, vcpu.list);
}

/** Hands the next piece of the list to the vCPU. @returns the refusal, if any */
async function loadPiece(world: World, vcpu: VcpuState, list: AccessList): Promise<Outcome | null> {
  const accesses = list.rest.slice(0, PIECE_ACCESSES);
  list.rest = list.rest.slice(PIECE_ACCESSES);
  list.loaded = accesses.length;
  const json = { kind: "accesses", accesses };
  const answer = await world.client.send("PUT", `${vcpu.path}/program`, { json });
  return isOk(answer) ? null : refusal(answer);
}

/** Runs until the list's end or an exit that the recorder leaves to a later op. */
async function run(world: World, vcpu: VcpuState, list: AccessList): Promise<Outcome> {
  const exits: unknown[] = [];
  let mmioData: string | null = null;
  for (;;) {
    const result = await runOnce(world, vcpu, mmioData);
    if ("refused" in result) return result.refused;
    if (result.errno !== null) return { ret: -1, errno: result.errno, out: {} };
    if (result.exitReason === "KVM_EXIT_HLT") {
      const refused = await endPiece(world, vcpu, list, result.program.completed);
      if (refused !== null) return refused;
      if (list.loaded > 0) continue;
      const values = list.isRead ? { values: list.values } : {};
      return success({ exits, finished: true, completed: list.completed, ...values });
    }
    if (result.exitReason !== "KVM_EXIT_MMIO" || result.mmio === undefined) {
      exits.push({ exit_reason: result.exitReason });
      const completed = list.completed + result.program.completed;
      return success({ exits, finished: false, completed });
    }
    const { physAddr, len, isWrite, data } = result.mmio;
    mmioData = isWrite ? null : answerBytes(len);
    exits.push({
      exit_reason: result.exitReason,
      phys_addr: physAddr,
      len,
      is_write: isWrite ? 1 : 0,
      data: mmioData ?? data,
    });
  }
}

/** After a piece: its loads are fetched and the next one is handed over; `loaded` 0 at the end. */
async function endPiece(
  world: World,
  vcpu: VcpuState,
  list: AccessList,
  completed: number,
): Promise<Outcome | null> {
  list.completed += completed;
  if (list.isRead && list.loaded > 0) {
    const query = `from=0&limit=${PIECE_ACCESSES}`;
    const answer = await world.client.send("GET", `${vcpu.path}/program?${query}`);
    if (!isOk(answer)) return refusal(answer);
    list.values.push(...(jsonOf(answer)["loads"] as readonly unknown[]));
  }
  list.loaded = 0;
  return list.rest.length > 0 ? loadPiece(world, vcpu, list) : null;
}

/** The recorder's answer to every MMIO load: a0 a1 a2 … */
function answerBytes(length: number): string {
  return Array.from({ length }, (_, at) => (0xa0 + at).toString(16)).join("");
}

async function runOnce(
  world: World,
  vcpu: VcpuState,
  mmioData: string | null,
): Promise<RunResult | { refused: Outcome }> {
  let answer: Answer = await world.client.send("POST", `${vcpu.path}/runs`, {
    json: mmioData === null ? {} : { mmioData },
    headers: { prefer: `wait=${WAIT_S}` },
  });
  for (let waits = 1; ; waits++) {
    if (!isOk(answer)) return { refused: refusal(answer) };
    const resource = jsonOf(answer);
    if (resource["state"] === "exited") return resource["result"] as RunResult;
    if (waits === WAITS_MAX) throw new ReplayFault(`no exit within ${waits * WAIT_S} s`);
    const path = `${vcpu.path}/runs/${String(resource["id"])}?wait=${WAIT_S}`;
    answer = await world.client.send("GET", path);
  }
}
