// Owns: what a virtio device is to its transport. Any thread.
import type { Stateful } from "../../../base/saved.js";
import type { Virtqueue } from "./queue.js";

export interface VirtioDevice extends Stateful {
  /** Device ID. */
  readonly id: number;
  readonly queues: number;
  /** Feature bits of its own. */
  readonly features: bigint;
  /** Configuration space as it is now. */
  config(): Uint8Array;
  writeConfig(offset: number, value: bigint): void;
  /** The driver made buffers of a queue available: uses what it can. */
  handle(index: number, queue: Virtqueue): void;
  /** The driver starts anew. */
  reset(): void;
}
