// Owns: a session's page stream at the source: its channels, its rounds, its limit. Data-plane
// thread, or inline.
import { assert } from "../../base/assert.js";
import type { Clock } from "../../base/clock.js";
import type { DirtyPages } from "../../runtime/index.js";
import {
  type Outgoing,
  type OutgoingSpec,
  PeerError,
  type Pushing,
  type PushTraffic,
  type SentRound,
} from "../ports.js";
import type { Traffic } from "../types.js";
import { ChannelSender, type Patience } from "./channel-sender.js";
import { encodeStreamHeader, FRAME } from "./frame.js";
import { BareBuilder, type Built, bareFrame } from "./frame-builder.js";
import { FramePool } from "./frame-pool.js";
import { memoryDigest } from "./memory-digest.js";
import type { PageCounts } from "./page-counts.js";
import { PageEncoder } from "./page-encoder.js";
import { nextRun, type Run } from "./page-runs.js";
import { PostCopy, type PushChannel, pushTraffic } from "./post-copy.js";
import { RoundEnd } from "./round-end.js";
import { SentPages } from "./sent-pages.js";
import { TokenBucket } from "./token-bucket.js";
import type { ChannelTransport, DemandTransport } from "./transport.js";

/** Bytes of all channels that are kept for being sent again. */
const WINDOW_BYTES = 16 * 2 ** 20;
/** The same of one channel: twice what the target confirms at once. */
const CHANNEL_WINDOW_BYTES = 8 * 2 ** 20;
const PROGRESS_MS = 50;

/** One call of send(): what it has moved. */
interface Sending extends PageCounts {
  bytes: number;
}

/** The ways to the target of one session. */
export interface StreamTransports {
  channel(number: number): ChannelTransport;
  readonly demands: DemandTransport;
}

export class OutgoingStream implements Outgoing, Pushing {
  readonly #spec: OutgoingSpec;
  readonly #transports: StreamTransports;
  readonly #clock: Clock;
  readonly #patience: Patience;
  readonly #bucket: TokenBucket;
  readonly #pool = new FramePool();
  readonly #channels: readonly PushChannel[];
  readonly #sentPages: SentPages;
  readonly #sentBefore: ReadonlyMap<number, Uint8Array>;
  #asked: PushChannel | null = null;
  #postCopy: PostCopy | null = null;
  #round = 0;
  #roundEnd: RoundEnd | null = null;
  #failure: unknown = null;
  #now: Sending = nothing();
  #progress: () => void = () => {};
  #progressMs = 0;

  constructor(
    spec: OutgoingSpec,
    transports: StreamTransports,
    clock: Clock,
    patience: Omit<Patience, "windowBytes"> & Partial<Patience>,
  ) {
    this.#spec = spec;
    this.#transports = transports;
    this.#clock = clock;
    this.#bucket = new TokenBucket(clock, spec.bandwidthBytesPerSecond);
    const windowBytes = Math.max(CHANNEL_WINDOW_BYTES, WINDOW_BYTES / spec.channels);
    this.#patience = { windowBytes, ...patience };
    this.#sentBefore = sentBitmaps(spec);
    const isDelta = spec.compression === "delta";
    this.#sentPages = new SentPages(spec.memory, isDelta ? spec.deltaCacheBytes : 0);
    this.#channels = Array.from({ length: spec.channels }, (_, number) => this.#channel(number));
  }

  #channel(channel: number): PushChannel {
    const { session, stream, memory, sequences, compression, channels } = this.#spec;
    const header = { version: stream, channel, pageSize: memory.pageSize, session };
    return {
      encoder: new PageEncoder({
        version: stream,
        map: memory,
        sequences,
        compression,
        channel,
        channels,
        pool: this.#pool,
        sentPages: this.#sentPages,
        sentBefore: this.#sentBefore,
      }),
      sender: new ChannelSender(encodeStreamHeader(header), {
        transport: this.#transports.channel(channel),
        patience: this.#patience,
        clock: this.#clock,
        pool: this.#pool,
        onWritten: (bytes) => this.#written(bytes),
      }),
    };
  }

  async send(
    pages: DirtyPages | null,
    progress: (sent: Traffic) => void,
    leave = 0,
  ): Promise<SentRound> {
    this.#round += 1;
    this.#sentPages.beginRound();
    this.#begin(() => progress(trafficOf(this.#now)));
    const round = new RoundEnd(this.#spec.memory, pages, leave, this.#now);
    this.#roundEnd = round;
    await Promise.all(this.#channels.map((one) => this.#sendOn(one, pages, round)));
    this.#roundEnd = null;
    this.#progress = () => {};
    if (this.#failure !== null) {
      // What the target has of these pages isn't known any more.
      this.#sentPages.clear();
      throw this.#failure;
    }
    return { ...trafficOf(this.#now), unsent: round.unsent };
  }

  endRound(): void {
    this.#roundEnd?.end();
  }

  async discard(pages: DirtyPages): Promise<void> {
    this.#begin(() => {});
    const sender = this.#channels[0]?.sender;
    assert(sender !== undefined, "a stream has a channel");
    for (const frame of discardFrames(pages)) await sender.write(frame);
    await sender.write(bareFrame(FRAME.barrier, this.#round));
    await sender.flushed();
  }

  async push(
    pages: DirtyPages | null,
    progress: (sent: PushTraffic) => void,
  ): Promise<PushTraffic> {
    this.#asked ??= this.#channel(this.#spec.channels);
    const { memory: map } = this.#spec;
    this.#postCopy ??= new PostCopy({
      map,
      channels: [...this.#channels, this.#asked],
      demands: this.#transports.demands,
      bucket: this.#bucket,
      clock: this.#clock,
      giveUpMs: this.#patience.giveUpMs,
      counts: () => this.#now,
    });
    const postCopy = this.#postCopy;
    this.#begin(() => progress(pushTraffic(this.#now, postCopy)));
    try {
      await postCopy.push(pages);
    } finally {
      this.#progress = () => {};
    }
    return pushTraffic(this.#now, postCopy);
  }

  limit(bytesPerSecond: number): void {
    this.#bucket.limit(bytesPerSecond);
  }

  digest(): Promise<string> {
    return memoryDigest(this.#spec.memory, this.#spec.sequences, this.#clock);
  }

  async close(): Promise<void> {
    this.#failure ??= new PeerError("stream-closed", "The page stream is closed.", false);
    this.#postCopy?.stop(this.#failure);
    // Who waits for the limit finds the channels closed.
    this.#bucket.limit(0);
    const all = this.#asked === null ? this.#channels : [...this.#channels, this.#asked];
    await Promise.all(all.map(({ sender }) => sender.close()));
  }

  #begin(progress: () => void): void {
    this.#now = nothing();
    this.#failure = null;
    this.#progress = progress;
    for (const { sender } of this.#channels) sender.revive();
  }

  /** A round without one of its channels is lost: the first failure ends all of them. */
  async #sendOn(
    { encoder, sender }: PushChannel,
    pages: DirtyPages | null,
    round: RoundEnd,
  ): Promise<void> {
    try {
      for await (const frame of encoder.frames(pages, 0, this.#now, round)) {
        await this.#bucket.take(frame.bytes.length);
        if (this.#failure !== null) return sender.forget(frame);
        await sender.write(frame);
      }
      await sender.write(bareFrame(FRAME.barrier, this.#round));
      await sender.flushed();
    } catch (error) {
      this.#failure ??= error;
    }
  }

  #written(bytes: number): void {
    this.#now.bytes += bytes;
    const now = this.#clock.monotonicMs();
    if (now - this.#progressMs < PROGRESS_MS) return;
    this.#progressMs = now;
    this.#progress();
  }
}

function* discardFrames(pages: DirtyPages): Generator<Built> {
  const builder = new BareBuilder(FRAME.discard);
  const run: Run = { first: 0, count: 0 };
  for (const { object, bitmap } of pages.blocks) {
    const end = bitmap.length * 8;
    builder.begin(object, 0);
    for (let page = 0; nextRun(bitmap, page, end, run); page = run.first + run.count) {
      if (!builder.takes(run.first)) {
        const full = builder.build();
        if (full !== null) yield full;
      }
      builder.add(run.first, run.count);
    }
    const last = builder.build();
    if (last !== null) yield last;
  }
}

function nothing(): Sending {
  return { pagesSent: 0, pagesZero: 0, pagesDuplicate: 0, bytes: 0 };
}

export function trafficOf(counts: PageCounts & { readonly bytes: number }): Traffic {
  const { pagesSent, pagesZero, pagesDuplicate, bytes } = counts;
  return { pagesSent, pagesZero, pagesDuplicate, bytes };
}

function sentBitmaps(spec: OutgoingSpec): ReadonlyMap<number, Uint8Array> {
  const { blocks, pageSize } = spec.memory;
  return new Map(
    blocks
      .filter(({ backing }) => backing !== "device")
      .map(({ object, bytes }) => [object, new Uint8Array(Math.ceil(bytes / pageSize / 8))]),
  );
}
