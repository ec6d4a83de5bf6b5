// Owns: one channel at the source: numbers frames, keeps what the target hasn't confirmed, and
// goes on there when a connection is lost. Data-plane thread, or inline.
//
//   offset 0 ── confirmed ── base ── window: sent, kept ── end
//                              └ a new connection begins here
import type { Clock } from "../../base/clock.js";
import { PeerError } from "../ports.js";
import { FRAME } from "./frame.js";
import { type Built, bareFrame, seal } from "./frame-builder.js";
import type { FrameBuffer, FramePool } from "./frame-pool.js";
import { Signal } from "./signal.js";
import { finalOf, StreamError } from "./stream-error.js";
import type { Applied, ChannelConnection, ChannelTransport } from "./transport.js";

const PAUSE_FIRST_MS = 5;
const PAUSE_MAX_MS = 1_000;
/** A target that hasn't heard of the end by then finds out by itself. */
const END_MS_MAX = 1_000;

/** How patient a channel is. */
export interface Patience {
  /** Bytes that are kept for being sent again; a frame always fits. */
  readonly windowBytes: number;
  /** Reconnecting is given up after this long without any progress. */
  readonly giveUpMs: number;
  /** A connection without progress for this long is a dead one. */
  readonly stallMs: number;
}

interface Kept {
  readonly bytes: Uint8Array;
  readonly buffer: FrameBuffer | null;
  readonly end: number;
}

export interface SenderParts {
  readonly transport: ChannelTransport;
  readonly patience: Patience;
  readonly clock: Clock;
  readonly pool: FramePool;
  /** Called with bytes as they are handed to the network, also a second time. */
  readonly onWritten: (bytes: number) => void;
}

export class ChannelSender {
  readonly #parts: SenderParts;
  readonly #changed = new Signal();
  readonly #window: Kept[] = [];
  #base = 0;
  #end = 0;
  #frames = 0;
  #connection: ChannelConnection | null = null;
  #lost: ((error: Error) => void) | null = null;
  #running: Promise<void> | null = null;
  #hasTried = false;
  #isEnding = false;
  #isClosed = false;
  #failure: PeerError | null = null;
  #progressMs = 0;

  constructor(streamHeader: Uint8Array, parts: SenderParts) {
    this.#parts = parts;
    this.#keep(streamHeader, null);
  }

  /**
   * Sends a frame, and waits until the window has room for it. Its buffer goes back to the pool,
   * also when it can't be sent.
   * @throws PeerError
   */
  async write(frame: Built): Promise<void> {
    await this.#write(frame, () => !this.#isEnding);
  }

  async #write(frame: Built, isWanted: () => boolean): Promise<void> {
    try {
      await this.#roomFor(frame, isWanted);
    } catch (error) {
      this.forget(frame);
      throw error;
    }
    seal(frame, this.#frames);
    this.#frames += 1;
    this.#keep(frame.bytes, frame.buffer);
    if (this.#connection !== null) this.#put(this.#connection, frame.bytes);
    else this.#start();
  }

  /** Of a frame that isn't written. */
  forget({ buffer }: Built): void {
    if (buffer !== null) this.#parts.pool.give(buffer);
  }

  /** @throws PeerError */
  async #roomFor(frame: Built, isWanted: () => boolean): Promise<void> {
    const { windowBytes } = this.#parts.patience;
    while (this.#isWorking && this.#end - this.#base + frame.bytes.length > windowBytes) {
      if (this.#window.length === 0) break;
      this.#start();
      await this.#changed.wait();
    }
    this.#check();
    if (!isWanted()) throw closed();
  }

  /** Everything written so far is in the target's memory. @throws PeerError */
  async flushed(): Promise<void> {
    const end = this.#end;
    while (this.#isWorking && this.#base < end) {
      this.#start();
      await this.#changed.wait();
    }
    this.#check();
  }

  /** After a failure that may have passed: what was kept is sent again. */
  revive(): void {
    // What the target itself has refused it will refuse again.
    if (this.#failure?.isAnswer === false) this.#failure = null;
  }

  /** Tells the target that nothing follows, if it can be told. */
  async close(): Promise<void> {
    if (this.#isEnding) return;
    this.#isEnding = true;
    if (this.#failure === null && this.#hasTried) {
      const cancel = this.#parts.clock.timer(END_MS_MAX, () => this.#stop());
      await this.#write(bareFrame(FRAME.end, 0), () => true)
        .then(() => this.flushed())
        // A target that is gone needs no goodbye.
        .catch(() => {});
      cancel();
    }
    this.#stop();
    await this.#running;
  }

  get #isWorking(): boolean {
    return this.#failure === null && !this.#isClosed;
  }

  #stop(): void {
    this.#isClosed = true;
    this.#drop(new Error("closed"));
    this.#changed.fire();
  }

  #check(): void {
    if (this.#failure !== null) throw this.#failure;
    if (this.#isClosed) throw closed();
  }

  #keep(bytes: Uint8Array, buffer: FrameBuffer | null): void {
    this.#end += bytes.length;
    this.#window.push({ bytes, buffer, end: this.#end });
  }

  #put(connection: ChannelConnection, bytes: Uint8Array): void {
    this.#parts.onWritten(bytes.length);
    connection.write(bytes);
  }

  #start(): void {
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
    });
  }

  async #run(): Promise<void> {
    const { clock, patience } = this.#parts;
    this.#progressMs = clock.monotonicMs();
    let pause = PAUSE_FIRST_MS;
    while (this.#isWorking && this.#window.length > 0) {
      const base = this.#base;
      const error = await this.#attempt();
      const final = finalOf(error);
      if (final !== null) {
        this.#fail(final);
        return;
      }
      if (!this.#isWorking || this.#window.length === 0) return;
      if (this.#base > base) pause = PAUSE_FIRST_MS;
      if (clock.monotonicMs() - this.#progressMs >= patience.giveUpMs) {
        const why = `The target's data plane can't be reached: ${error.message}`;
        this.#fail(new PeerError("peer-lost", why, true));
        return;
      }
      await clock.sleep(pause);
      pause = Math.min(pause * 2, PAUSE_MAX_MS);
    }
  }

  /** One connection from its beginning to its end. @returns why it ended */
  async #attempt(): Promise<Error> {
    const { transport } = this.#parts;
    try {
      if (this.#hasTried) this.#confirm(await transport.applied());
      this.#hasTried = true;
      if (this.#window.length === 0) return new Error("nothing is left to send");
      const { lost, drop } = lostOnce();
      this.#lost = drop;
      const connection = await transport.connect(this.#base, {
        onApplied: (applied) => {
          try {
            this.#confirm(applied);
          } catch (error) {
            this.#drop(error as Error);
          }
        },
        onClosed: drop,
      });
      // Closed while it was being made: then nobody listens any more.
      if (!this.#isWorking) connection.close();
      else await this.#serve(connection, lost);
      return await lost;
    } catch (error) {
      return error as Error;
    }
  }

  async #serve(connection: ChannelConnection, lost: Promise<Error>): Promise<void> {
    this.#connection = connection;
    for (const { bytes } of this.#window) this.#put(connection, bytes);
    const watch = this.#watch();
    await lost;
    watch();
    this.#connection = null;
    this.#lost = null;
    connection.close();
  }

  /** Ends a connection on which nothing is confirmed any more. @returns how to stop watching */
  #watch(): () => void {
    const { clock, patience } = this.#parts;
    let cancel = (): void => {};
    const look = (base: number) => {
      cancel = clock.timer(patience.stallMs, () => {
        const isStalled = this.#window.length > 0 && this.#base === base;
        if (isStalled) this.#drop(new Error("nothing has been confirmed for too long"));
        else look(this.#base);
      });
    };
    look(this.#base);
    return () => cancel();
  }

  #drop(error: Error): void {
    this.#lost?.(error);
  }

  /** @throws StreamError the target is somewhere where this channel never was */
  #confirm({ offset }: Applied): void {
    // An older answer than one that has been seen.
    if (offset < this.#base && this.#connection !== null) return;
    let count = 0;
    let base = this.#base;
    for (const kept of this.#window) {
      if (kept.end > offset) break;
      base = kept.end;
      count += 1;
    }
    if (base !== offset) {
      const why = "The target has forgotten what it had of this stream.";
      throw new StreamError("stream-forgotten", why, true);
    }
    if (count === 0) return;
    for (const { buffer } of this.#window.splice(0, count)) {
      if (buffer !== null) this.#parts.pool.give(buffer);
    }
    this.#base = base;
    this.#progressMs = this.#parts.clock.monotonicMs();
    this.#changed.fire();
  }

  #fail(error: PeerError): void {
    this.#failure = error;
    this.#changed.fire();
  }
}

function closed(): PeerError {
  return new PeerError("stream-closed", "The page stream is closed.", false);
}

function lostOnce(): { lost: Promise<Error>; drop: (error: Error) => void } {
  let drop = (_error: Error): void => {};
  const lost = new Promise<Error>((resolve) => {
    drop = resolve;
  });
  return { lost, drop };
}
