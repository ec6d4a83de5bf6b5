// Owns: a session's page stream at the target: its channels, and what of the memory is there.
// Data-plane thread, or inline.
import { assert } from "../../base/assert.js";
import type { Clock } from "../../base/clock.js";
import { PageRequests } from "../../base/page-requests.js";
import type { MemoryMap } from "../../runtime/index.js";
import type { IncomingSpec } from "../ports.js";
import type { Traffic } from "../types.js";
import { Demands } from "./demands.js";
import { memoryDigest } from "./memory-digest.js";
import { trafficOf } from "./outgoing-stream.js";
import { PageApplier } from "./page-applier.js";
import { Presence, type PresentWords } from "./presence.js";
import { ReceivingChannel } from "./receiving-channel.js";
import { StreamError } from "./stream-error.js";

export class IncomingStream {
  readonly #spec: IncomingSpec;
  readonly #clock: Clock;
  readonly #presence: Presence;
  readonly #applier: PageApplier;
  readonly #channels: readonly ReceivingChannel[];
  readonly demands: Demands;
  readonly requests = new PageRequests();

  constructor(spec: IncomingSpec, clock: Clock) {
    const { session, stream, memory, sequences } = spec;
    this.#spec = spec;
    this.#clock = clock;
    this.#presence = new Presence(memory);
    this.demands = new Demands(this.#presence, spec.wake ?? null);
    this.#applier = new PageApplier(memory, sequences, this.#presence, (object, first, count) =>
      this.demands.arrived(object, first, count),
    );
    void this.requests.read((object, page) => this.demands.request(object, page));
    // The last one is for pages that were asked for.
    this.#channels = Array.from({ length: spec.channels + 1 }, (_, channel) => {
      const expected = { version: stream, channel, pageSize: memory.pageSize, session };
      return new ReceivingChannel(expected, this.#applier, clock);
    });
  }

  get present(): PresentWords {
    return this.#presence.words;
  }

  /** @throws StreamError "stream-channel" */
  channel(number: number): ReceivingChannel {
    const found = this.#channels[number];
    if (found !== undefined) return found;
    const why = `This session has channels 0 to ${this.#channels.length - 1}.`;
    throw new StreamError("stream-channel", why, true);
  }

  /** A page of the same memory elsewhere in this thread comes at once, unless it is here. */
  take(from: MemoryMap, object: number, page: number): void {
    const { memory } = this.#spec;
    if (this.#presence.has(object, page)) return;
    const [there, here] = [from, memory].map(({ blocks }) =>
      blocks.find((block) => block.object === object),
    );
    assert(there?.backing === "ram" && here !== undefined, "only bytes can be taken");
    const { pageSize } = memory;
    const at = page * pageSize;
    const bytes = new Uint8Array(from.memory.buffer, there.pa + at, pageSize);
    new Uint8Array(memory.memory.buffer, here.pa + at, pageSize).set(bytes);
    this.#presence.set(object, page, 1);
    this.demands.arrived(object, page, 1);
  }

  received(): Traffic {
    const bytes = this.#channels.reduce((sum, { applied }) => sum + applied.offset, 0);
    return trafficOf({ ...this.#applier.counts, bytes });
  }

  close(): void {
    this.requests.end();
  }

  digest(): Promise<string> {
    return memoryDigest(this.#spec.memory, this.#spec.sequences, this.#clock);
  }
}
