// Owns: a VM as the models use it: stores by a synthetic vCPU, run to their end. Test process.
import type { Answer, Caller } from "../caller.js";

export const PAGE = 4096;
export const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

export interface Store {
  readonly address: number;
  readonly length: 1 | 2 | 4 | 8;
  readonly value: number;
}

/** What became of a list of stores. */
export interface Outcome {
  /** Addresses whose store left KVM as KVM_EXIT_MMIO. */
  readonly mmio: readonly string[];
  /** Exits because a dirty ring was full. */
  readonly ringFull: number;
}

const EXITS_MAX = 500;

export class Guest {
  readonly caller: Caller;
  /** Path of the VM. */
  readonly at: string;

  private constructor(caller: Caller, at: string) {
    this.caller = caller;
    this.at = at;
  }

  static async create(caller: Caller, definition: object): Promise<Guest> {
    const answer = await caller.json("POST", "/v1/vms", definition);
    return new Guest(caller, String(answer.headers["location"]));
  }

  /** @throws Error unless it is taken */
  async must(method: string, path: string, body?: unknown): Promise<Answer> {
    const answer = await this.ask(method, path, body);
    if (answer.status >= 300) throw new Error(`${method} ${path} → ${answer.text}`);
    return answer;
  }

  ask(method: string, path: string, body?: unknown, headers = {}): Promise<Answer> {
    return this.caller.json(method, `${this.at}${path}`, body, headers);
  }

  /**
   * Does the stores one after the other, entering KVM_RUN again after every exit.
   * @param onRingFull makes room in the ring
   */
  async store(stores: readonly Store[], onRingFull = async () => {}): Promise<Outcome> {
    const accesses = stores.map(({ address, length, value }) => {
      return { op: "write", address: hex(address), length, value: hex(value) };
    });
    await this.must("PUT", "/vcpus/0/program", { kind: "accesses", accesses });
    const mmio: string[] = [];
    let ringFull = 0;
    for (let exits = 0; exits < EXITS_MAX; exits++) {
      const { json } = await this.ask("POST", "/vcpus/0/runs", undefined, { prefer: "wait=20" });
      const { result, state } = json;
      if (state !== "exited") throw new Error(`no exit: ${JSON.stringify(json)}`);
      if (result.exitReason === "KVM_EXIT_MMIO") mmio.push(result.mmio.physAddr);
      else if (result.exitReason === "KVM_EXIT_DIRTY_RING_FULL") {
        ringFull++;
        await onRingFull();
      } else if (result.program.finished) return { mmio, ringFull };
      else throw new Error(`an unexpected exit: ${JSON.stringify(json)}`);
    }
    throw new Error(`more than ${EXITS_MAX} exits`);
  }

  async remove(): Promise<void> {
    await this.caller.send({ method: "DELETE", path: this.at });
  }
}

/** Pages of `[first, count]` ranges. */
export function pagesOf(ranges: readonly (readonly [number, number])[]): number[] {
  return ranges.flatMap(([first, n]) => Array.from({ length: n }, (_x, i) => first + i));
}

export function rangesOf(pages: readonly number[]): [number, number][] {
  return [...pages].sort((a, b) => a - b).map((page) => [page, 1]);
}

/** @throws Error that names both sets */
export function expectSame(
  what: string,
  got: readonly unknown[],
  wanted: readonly unknown[],
): void {
  const one = JSON.stringify([...got].sort());
  const other = JSON.stringify([...wanted].sort());
  if (one !== other) throw new Error(`${what}: got ${one}, the model says ${other}`);
}

/** @throws Error unless the answer has this errno; null: it must not be refused */
export function expectErrno(what: string, answer: Answer, errno: string | null): void {
  const got = answer.status < 400 ? null : (answer.json.errno ?? answer.json.code);
  if (got !== errno)
    throw new Error(`${what}: got ${got}, the model says ${errno}: ${answer.text}`);
}
