// Owns: what the VM knows of its ITSes: delivery of MSIs, their frames, their state. VM thread.
import type { Stateful } from "../../base/saved.js";

/** struct kvm_msi, or an MSI route of the same members. */
export interface Msi {
  readonly addressLo: number;
  readonly addressHi: number;
  readonly data: number;
  readonly flags: number;
  readonly devid: number;
}

/** There from the first ITS on. */
export interface MsiPort {
  /**
   * Through the tables of the ITS whose doorbell it names.
   * @returns 1 delivered, 0 the guest has not mapped it, or a negative errno
   */
  deliver(msi: Msi): number;
  /** Delivers by a translation cache. @returns false: no such entry, and nothing was done */
  cached(msi: Msi): boolean;
  /** vgic_its_invalidate_all_caches. */
  forget(): void;
  /**
   * A guest's access to a frame.
   * @param store bytes of a store; null: a load
   * @returns bytes of a load, empty for a store; null: the address is in no ITS
   */
  access(ipa: number, length: number, store: Uint8Array | null): Uint8Array | null;
  /** The ITSes, in the order of their creation. */
  parts(): readonly Stateful[];
}
