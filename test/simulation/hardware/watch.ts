// Rules 3 to 5 looked at during one simulated run: KVM's own counters and buffers against the
// silicon's. Test process.
import { VCPU_REQUEST } from "../../../src/kvm/dirty/hdbss-buffer.js";
import type { Machine } from "../../../src/vmm/machine.js";
import {
  mistake,
  type ParkedBuffer,
  type Undrained,
  undrained,
  uneven,
} from "../oracle/entries.js";

const LOG_DIRTY_PAGES = 1;
const NOTHING: Undrained = { pages: new Set(), isAnyLost: false, entries: 0 };

export class HardwareWatch {
  readonly #machine: Machine;
  readonly #isOn: boolean;

  constructor(machine: Machine, isOn: boolean) {
    this.#machine = machine;
    this.#isOn = isOn;
  }

  /** Entries that are still to come into a log. */
  look(): Undrained {
    if (!this.#isOn) return NOTHING;
    const { host, vcpus } = this.#machine.kvm.vm;
    const buffers = vcpus.map(({ hdbss }): ParkedBuffer | null => hdbss);
    const found = undrained(host, buffers);
    // A vCPU with a ring looks for the lost pages itself, when it enters the guest next.
    const isRescan = vcpus.some(({ requests }) => (requests & VCPU_REQUEST.RESCAN) !== 0);
    return isRescan ? { ...found, isAnyLost: true } : found;
  }

  /** Between any two steps. @returns what is wrong, or null */
  between(): string | null {
    const { vm, hacdbs } = this.#machine.kvm;
    if (hacdbs.inFlight === 0 || vm.mmuLock.writeHeld) return null;
    return `${hacdbs.inFlight} pages in flight while nobody holds mmu_lock`;
  }

  /** The VM is gone. @returns what is wrong, or null */
  closed(): string | null {
    const bytes = this.#machine.kvm.vm.counters.values.bytesHdbssBuffers;
    return bytes === 0 ? null : `${bytes} bytes of HDBSS buffers are lost`;
  }

  /** With every vCPU out of RUN, after the last sync. @returns what is wrong, or null */
  atRest(): string | null {
    if (!this.#isOn) return null;
    const { host, counters, slots, policies } = this.#machine.kvm.vm;
    const wrong = mistake(host);
    if (wrong !== null) return wrong;
    const left = this.look();
    const { hdbssDrainedEntries: drained, hdbssInvalidSlots: invalid } = counters.values;
    const odd = uneven(host, { drained, invalid }, left.entries);
    // A ring that leaves no room: a buffer that goes leaves its rest to a scan of descriptors.
    if (odd !== null && policies["hdbss.ring"] !== "naive") return odd;
    // Without a log to ask for nobody can ask for what was recorded before.
    const isAsked = slots.list().some(({ flags }) => (flags & LOG_DIRTY_PAGES) !== 0);
    if (isAsked && (left.entries > 0 || left.isAnyLost))
      return `${left.entries} entries left at the end`;
    const { inFlight } = this.#machine.kvm.hacdbs;
    return inFlight === 0 ? null : `${inFlight} pages left in flight`;
  }
}
