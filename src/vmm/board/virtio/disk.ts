// Owns: the content of a virtual disk: the image's bytes, and what the guest wrote over them.
// VM thread.
import type { Saved } from "../../../base/saved.js";

export const SECTOR_BYTES = 512; // tidy: bytes of a sector
/** What a first write copies. */
const CLUSTER_BYTES = 16_384; // tidy: bytes of a cluster

export class Disk {
  readonly sectors: number;
  readonly #image: Uint8Array;
  readonly #charge: (bytes: number) => boolean;
  readonly #written = new Map<number, Uint8Array>();

  /** @param charge books memory for what is written; false when there is no more */
  constructor(image: Uint8Array, charge: (bytes: number) => boolean) {
    this.#image = image;
    this.#charge = charge;
    this.sectors = Math.ceil(image.length / SECTOR_BYTES);
  }

  /** Zeros where the image ends within its last sector. */
  read(offset: number, length: number): Uint8Array {
    const out = new Uint8Array(length);
    forClusters(offset, length, (cluster, within, at, bytes) => {
      const own = this.#written.get(cluster);
      const from = own === undefined ? cluster * CLUSTER_BYTES + within : within;
      out.set((own ?? this.#image).subarray(from, from + bytes), at);
    });
    return out;
  }

  /** @returns false when memory was used up on the way */
  write(offset: number, bytes: Uint8Array): boolean {
    let isWritten = true;
    forClusters(offset, bytes.length, (cluster, within, at, count) => {
      const own = this.#written.get(cluster) ?? this.#copy(cluster);
      if (own === null) isWritten = false;
      else own.set(bytes.subarray(at, at + count), within);
    });
    return isWritten;
  }

  #copy(cluster: number): Uint8Array | null {
    if (!this.#charge(CLUSTER_BYTES)) return null;
    const own = new Uint8Array(CLUSTER_BYTES);
    const from = cluster * CLUSTER_BYTES;
    own.set(this.#image.subarray(from, from + CLUSTER_BYTES));
    this.#written.set(cluster, own);
    return own;
  }

  save(): Saved {
    const written = [...this.#written].sort(([a], [b]) => a - b);
    const data = { written: written.map(([cluster, bytes]) => [cluster, bytes.slice()]) };
    return { kind: "disk", version: 1, data };
  }

  /** Into a disk of the same image; the account's own state has the charge. */
  load(saved: Saved): void {
    this.#written.clear();
    for (const [cluster, bytes] of (saved.data as { written: [number, Uint8Array][] }).written) {
      this.#written.set(cluster, bytes.slice());
    }
  }
}

function forClusters(
  offset: number,
  length: number,
  use: (cluster: number, within: number, at: number, bytes: number) => void,
): void {
  for (let at = 0; at < length; ) {
    const cluster = Math.floor((offset + at) / CLUSTER_BYTES);
    const within = (offset + at) % CLUSTER_BYTES;
    const bytes = Math.min(length - at, CLUSTER_BYTES - within);
    use(cluster, within, at, bytes);
    at += bytes;
  }
}
