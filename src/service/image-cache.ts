// Owns: bytes of images that VMs were built with lately, checked once and shared by all threads.
// HTTP thread.
import { sharedBytes } from "../base/lent-bytes.js";
import type { ImageFiles } from "../store/index.js";
import { IMAGE_CACHE_BYTES } from "./limits.js";

interface Kept {
  readonly bytes: Uint8Array;
  /** Of the file when it was read. */
  readonly stamp: string;
}

export class ImageCache {
  readonly #files: ImageFiles;
  readonly #hash: (bytes: Uint8Array) => Promise<string>;
  /** By hash, the one that was asked for last at the end. */
  readonly #kept = new Map<string, Kept>();
  #bytes = 0;

  constructor(files: ImageFiles, hash: (bytes: Uint8Array) => Promise<string>) {
    this.#files = files;
    this.#hash = hash;
  }

  /** @returns what all who ask get, so nobody changes it; null: there is no such file */
  async read(sha256: string): Promise<Uint8Array | "changed" | null> {
    const stamp = await this.#files.stamp(sha256);
    const kept = this.#kept.get(sha256);
    if (kept !== undefined) {
      this.#forget(sha256, kept);
      if (kept.stamp === stamp) {
        this.#keep(sha256, kept);
        return kept.bytes;
      }
    }
    const found = stamp === null ? null : await this.#files.read(sha256);
    if (found === null || stamp === null) return null;
    if ((await this.#hash(found)) !== sha256) return "changed";
    const bytes = sharedBytes(found.length);
    bytes.set(found);
    this.#keep(sha256, { bytes, stamp });
    return bytes;
  }

  #keep(sha256: string, kept: Kept): void {
    // Somebody else may have asked meanwhile.
    const other = this.#kept.get(sha256);
    if (other !== undefined) this.#forget(sha256, other);
    this.#kept.set(sha256, kept);
    this.#bytes += kept.bytes.length;
    for (const [oldest, given] of this.#kept) {
      if (this.#bytes <= IMAGE_CACHE_BYTES) break;
      this.#forget(oldest, given);
    }
  }

  #forget(sha256: string, { bytes }: Kept): void {
    this.#kept.delete(sha256);
    this.#bytes -= bytes.length;
  }
}
