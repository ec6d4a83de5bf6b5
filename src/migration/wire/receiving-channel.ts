// Owns: one channel at the target: whose turn it is to feed it, and how far it has come.
// Data-plane thread, or inline.
import type { Clock } from "../../base/clock.js";
import { FRAME, type Frame } from "./frame.js";
import { type Expected, FrameReader, type Placer } from "./frame-reader.js";
import { StreamError } from "./stream-error.js";
import type { Applied } from "./transport.js";

export interface FeedListener {
  onApplied(applied: Applied): void;
  /** Somebody else feeds the channel now. */
  onDisplaced(): void;
}

/** Takes frames of all channels of a session. */
export interface FrameApplier extends Placer {
  /** @returns a promise when the next frame has to wait */
  apply(frame: Frame): Promise<void> | null;
}

export class ReceivingChannel {
  readonly #reader: FrameReader;
  readonly #applier: FrameApplier;
  readonly #clock: Clock;
  #feed: Feed | null = null;
  #applied: Applied = { offset: 0, frame: 0 };
  /** What was refused once is refused for ever. */
  #refusal: StreamError | null = null;

  constructor(expected: Expected, applier: FrameApplier, clock: Clock) {
    this.#reader = new FrameReader(expected, applier);
    this.#applier = applier;
    this.#clock = clock;
  }

  get applied(): Applied {
    const { frames, offset } = this.#reader;
    // The stream header needs no applying.
    return frames === 0 ? { offset, frame: 0 } : this.#applied;
  }

  /**
   * Begins to feed the channel at an offset, in place of whoever fed it before.
   * @throws StreamError "stream-offset" unless exactly this is missing next
   */
  async attach(offset: number, listener: FeedListener): Promise<Feed> {
    if (this.#refusal !== null) throw this.#refusal;
    // Looked at before anybody is displaced: a late, repeated request must do no harm.
    this.#checkOffset(offset);
    const before = this.#feed;
    const source: FeedSource = {
      reader: this.#reader,
      clock: this.#clock,
      take: (frame) => this.#take(frame),
      applied: () => this.applied,
    };
    // A feed that displaces one that is displaced itself waits for both.
    const feed = new Feed(source, listener, before?.idle() ?? Promise.resolve());
    this.#feed = feed;
    if (before !== null) {
      before.displace();
      await before.idle();
      if (this.#refusal !== null) throw this.#refusal;
      this.#checkOffset(offset);
    }
    if (feed.isOver) throw new StreamError("stream-displaced", "Another came.", false);
    this.#reader.restart();
    return feed;
  }

  /** A frame was read from the present feed. */
  #take(frame: Frame): Promise<void> | null {
    const done = (): void => {
      this.#applied = { offset: this.#reader.offset, frame: this.#reader.frames };
    };
    try {
      const wait = this.#applier.apply(frame);
      if (wait === null) {
        done();
        return null;
      }
      return wait.then(done, (error: unknown) => {
        throw this.#refuse(error);
      });
    } catch (error) {
      throw this.#refuse(error);
    }
  }

  #refuse(error: unknown): StreamError {
    const why = `The target can't take it: ${(error as Error).message}`;
    this.#refusal =
      error instanceof StreamError ? error : new StreamError("target-failed", why, true);
    return this.#refusal;
  }

  #checkOffset(offset: number): void {
    const { offset: here } = this.applied;
    if (offset === here) return;
    const why = `This channel goes on at offset ${here}, not at ${offset}.`;
    throw new StreamError("stream-offset", why, false);
  }
}

/** What a feed has of its channel. */
interface FeedSource {
  readonly reader: FrameReader;
  readonly clock: Clock;
  readonly take: (frame: Frame) => Promise<void> | null;
  readonly applied: () => Applied;
}

/** Between two confirmations: each costs both threads a wake-up. A barrier is confirmed at once. */
const TELL_BYTES = 2 ** 22;
const TELL_MS = 50;

/** One connection that feeds a channel. */
export class Feed {
  readonly #source: FeedSource;
  readonly #listener: FeedListener;
  #isOver = false;
  #told: number;
  #isUrgent = false;
  #cancel: (() => void) | null = null;
  #busy: Promise<void>;

  constructor(source: FeedSource, listener: FeedListener, busy: Promise<void>) {
    this.#source = source;
    this.#listener = listener;
    this.#told = source.applied().offset;
    this.#busy = busy;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** The last frame that had begun to be applied is applied. */
  idle(): Promise<void> {
    return this.#busy;
  }

  displace(): void {
    if (this.#isOver) return;
    this.end();
    this.#listener.onDisplaced();
  }

  /** The connection has ended: what is on its way from it counts no more. */
  end(): void {
    this.#isOver = true;
    this.#cancel?.();
  }

  /**
   * Takes bytes in; none after the connection's end.
   * @returns a promise when the next bytes have to wait
   * @throws StreamError, also by the promise
   */
  push(chunk: Uint8Array): Promise<void> | null {
    const wait = this.#from(chunk, 0);
    if (wait !== null) this.#busy = wait.catch(() => {});
    return wait;
  }

  #from(chunk: Uint8Array, from: number): Promise<void> | null {
    let at = from;
    while (at < chunk.length && !this.#isOver) {
      const { next, wait } = this.#step(chunk, at);
      at = next;
      if (wait !== null) return wait.then(() => this.#from(chunk, next) ?? undefined);
    }
    this.#tell();
    return null;
  }

  #step(chunk: Uint8Array, at: number): { next: number; wait: Promise<void> | null } {
    try {
      const { next, frame } = this.#source.reader.take(chunk, at);
      if (frame !== null && frame.type >= FRAME.barrier) this.#isUrgent = true;
      return { next, wait: frame === null ? null : this.#source.take(frame) };
    } catch (error) {
      this.end();
      throw error;
    }
  }

  #tell(): void {
    const more = this.#source.applied().offset - this.#told;
    if (more === 0) return;
    if (this.#isUrgent || more >= TELL_BYTES) this.#tellNow();
    else this.#cancel ??= this.#source.clock.timer(TELL_MS, () => this.#tellNow());
  }

  #tellNow(): void {
    this.#cancel?.();
    this.#cancel = null;
    if (this.#isOver) return;
    const applied = this.#source.applied();
    this.#isUrgent = false;
    this.#told = applied.offset;
    this.#listener.onApplied(applied);
  }
}
