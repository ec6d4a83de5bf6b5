// Owns: virtio-rng: bytes of the VM's seed. VM thread. @source VIRTIO 1.2, 5.4
import { Prng } from "../../../base/prng.js";
import type { Saved } from "../../../base/saved.js";
import type { VirtioDevice } from "./device.js";
import type { Virtqueue } from "./queue.js";

/** Of one buffer; the driver asks again for more. */
const BYTES_MAX = 65_536; // tidy: bytes at a time
/** So that it doesn't repeat what other parts draw from the same seed. */
const OWN = 0x7669_7274_696f_726en;

export class VirtioRng implements VirtioDevice {
  readonly id = 4;
  readonly queues = 1;
  readonly features = 0n;
  readonly #prng: Prng;

  constructor(seed: bigint) {
    this.#prng = new Prng(seed ^ OWN);
  }

  config(): Uint8Array {
    return new Uint8Array(0);
  }

  writeConfig(): void {}

  handle(_index: number, queue: Virtqueue): void {
    for (let chain = queue.pop(); chain !== null; chain = queue.pop()) {
      const words = new Uint32Array(Math.ceil(Math.min(chain.writableBytes, BYTES_MAX) / 4));
      for (let i = 0; i < words.length; i++) words[i] = this.#prng.u32();
      const bytes = new Uint8Array(words.buffer, 0, Math.min(chain.writableBytes, BYTES_MAX));
      queue.push(chain, queue.fill(chain, bytes));
    }
  }

  /** Goes on: a guest that starts anew must not draw the same again. */
  reset(): void {}

  save(): Saved {
    return { kind: "virtio-rng", version: 1, data: { state: [...this.#prng.state] } };
  }

  load(saved: Saved): void {
    this.#prng.state.set((saved.data as { state: number[] }).state);
  }
}
