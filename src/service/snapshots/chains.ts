// Owns: which snapshots a differential may follow: the newest of each chain whose VM still tracks
// stores since. HTTP thread. It ends with the VM's thread, as the dirty log does.
import type { VmHandle } from "../../runtime/index.js";
import type { SnapshotVm } from "./capture.js";

export class Chains {
  /** Of each life of a VM: its chains with their newest snapshots, by the full one's id. */
  readonly #tips = new WeakMap<VmHandle, Map<string, string>>();

  of(handle: VmHandle): Map<string, string> {
    let tips = this.#tips.get(handle);
    if (tips === undefined) {
      tips = new Map();
      this.#tips.set(handle, tips);
    }
    return tips;
  }

  isTip(handle: VmHandle | null, chain: string, id: string): boolean {
    return handle !== null && this.#tips.get(handle)?.get(chain) === id;
  }

  /** No differential follows any more. */
  async end(handle: VmHandle, chain: string): Promise<void> {
    this.of(handle).delete(chain);
    await untrack(handle, chain);
  }
}

/** Name of a chain among those who are told of dirty pages: its resource. */
export function consumerOf(chain: string): string {
  return `snapshots/${chain}`;
}

export function movingVm(handle: VmHandle): SnapshotVm {
  return handle;
}

/** @throws ServiceError "dirty-log-owned", "tracking-unavailable" */
export async function track(handle: VmHandle, chain: string): Promise<void> {
  const consumer = consumerOf(chain);
  await movingVm(handle).call("trackDirty", { consumer, on: true, method: null });
}

/** A VM that is gone tracks nothing. */
export async function untrack(handle: VmHandle, chain: string): Promise<void> {
  const off = { consumer: consumerOf(chain), on: false, method: null };
  await movingVm(handle)
    .call("trackDirty", off)
    .catch(() => {});
}
