// What a simulated host needs of a VM: the engine's commands, time that passes, and what to check.
import type { MovingVm } from "../../../src/migration/index.js";
import type { MemoryMap } from "../../../src/runtime/index.js";
import type { Copy, Oracle } from "./oracle.js";
import type { Life, World } from "./world.js";

export interface SimVm extends MovingVm, Copy {
  readonly isHeld: boolean;
  readonly map: MemoryMap;
  /** A guest begins. */
  boot(seed: bigint): Promise<void>;
  /** Built like a source's, held, without a guest. */
  receive(): Promise<void>;
  /** Milliseconds pass. */
  run(ms: number): void;
  /** Every stamp of the guest, and what a migration may have left behind. */
  check(): Promise<void>;
  /** Nothing of it is left but its bytes. */
  end(): void;
}

export interface VmParts {
  readonly world: World;
  readonly oracle: Oracle;
  readonly life: Life;
}

/** A kind of VM, and the link that goes with its size. */
export interface VmKind {
  create(name: string, parts: VmParts): SimVm;
  readonly framePages: number;
  /** Of a link without limit. */
  readonly bytesPerMs: number;
}
