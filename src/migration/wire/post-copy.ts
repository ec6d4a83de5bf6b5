// Owns: post-copy at the source: pages that are asked for at once, the others in between.
// Data-plane thread, or inline. The source's VM is held for good, so pages keep their content.
import type { Clock } from "../../base/clock.js";
import type { DirtyPages, MemoryMap } from "../../runtime/index.js";
import { PeerError, type PushTraffic } from "../ports.js";
import type { ChannelSender } from "./channel-sender.js";
import { FLAG_IF_ABSENT, FRAME } from "./frame.js";
import { bareFrame } from "./frame-builder.js";
import type { PageCounts } from "./page-counts.js";
import type { PageEncoder } from "./page-encoder.js";
import { PushQueue, type Turn } from "./push-queue.js";
import { Signal } from "./signal.js";
import { finalOf } from "./stream-error.js";
import type { TokenBucket } from "./token-bucket.js";
import type { DemandTransport } from "./transport.js";

const PAUSE_MS = 20;

/** A channel that pushes, with an encoder that no other has. */
export interface PushChannel {
  readonly encoder: PageEncoder;
  readonly sender: ChannelSender;
}

export interface PostCopyParts {
  readonly map: MemoryMap;
  /** In order of address; the last one is for pages that are asked for. */
  readonly channels: readonly PushChannel[];
  readonly demands: DemandTransport;
  readonly bucket: TokenBucket;
  readonly clock: Clock;
  readonly giveUpMs: number;
  /** Where pages are counted now. */
  readonly counts: () => PageCounts;
}

export class PostCopy {
  readonly #parts: PostCopyParts;
  readonly #queue: PushQueue;
  readonly #changed = new Signal();
  #demand: { close(): void } | null = null;
  #isDone = false;
  #failure: unknown = null;
  requested = 0;
  pushed = 0;

  constructor(parts: PostCopyParts) {
    this.#parts = parts;
    this.#queue = new PushQueue(parts.map);
  }

  /** @param pages added to what is left */
  async push(pages: DirtyPages | null): Promise<void> {
    if (pages !== null) this.#queue.add(pages);
    this.#isDone = false;
    this.#failure = null;
    const { channels } = this.#parts;
    for (const { sender } of channels) sender.revive();
    const background = channels.slice(0, -1).map((channel) => this.#guard(this.#pushOn(channel)));
    const asked = channels.slice(-1).map((channel) => this.#guard(this.#answerOn(channel)));
    const listening = this.#guard(this.#listen());
    await Promise.all(background);
    this.#end();
    await Promise.all([...asked, listening]);
    if (this.#failure !== null) throw this.#failure;
  }

  /** A push under way ends with this error. */
  stop(error: unknown): void {
    this.#failure ??= error;
    this.#end();
  }

  /** Whatever fails ends all of it; the first reason is the one that is told. */
  async #guard(part: Promise<void>): Promise<void> {
    try {
      await part;
    } catch (error) {
      this.#failure ??= error;
      this.#end();
    }
  }

  #end(): void {
    this.#isDone = true;
    this.#demand?.close();
    this.#changed.fire();
  }

  async #pushOn(channel: PushChannel): Promise<void> {
    const { bucket } = this.#parts;
    while (this.#queue.hasNext()) {
      // Before it has a turn: a page that waits for the limit couldn't go when a vCPU asks for it.
      await bucket.take(0);
      if (this.#failure !== null) return;
      const turn = this.#queue.next();
      if (turn === null) break;
      await this.#send(channel, turn, (bytes) => bucket.spend(bytes));
      this.pushed += pagesOf(turn);
    }
    if (this.#failure !== null) return;
    await channel.sender.write(bareFrame(FRAME.barrier, 0));
    await channel.sender.flushed();
  }

  /** Pages that are asked for wait for no limit: a vCPU waits for them. */
  async #answerOn(channel: PushChannel): Promise<void> {
    for (;;) {
      const turn = this.#queue.nextAsked();
      if (turn !== null) {
        await this.#send(channel, turn, () => {});
        this.requested += 1;
      } else if (this.#isDone) break;
      else await this.#changed.wait();
    }
    if (this.#failure !== null) return;
    await channel.sender.write(bareFrame(FRAME.barrier, 0));
    await channel.sender.flushed();
  }

  async #send(
    { encoder, sender }: PushChannel,
    turn: Turn,
    pay: (bytes: number) => void,
  ): Promise<void> {
    const { counts } = this.#parts;
    try {
      const frames = encoder.runFrames(turn.block, turn.runs, FLAG_IF_ABSENT, counts());
      for await (const frame of frames) {
        pay(frame.bytes.length);
        await sender.write(frame);
      }
    } catch (error) {
      // The target has some of it, perhaps; a page that it has already changes nothing.
      this.#queue.giveBack(turn);
      throw error;
    }
  }

  async #listen(): Promise<void> {
    const { clock, giveUpMs, demands } = this.#parts;
    let sinceMs = clock.monotonicMs();
    while (!this.#isDone) {
      let why: Error;
      try {
        why = await this.#hear(demands);
        sinceMs = clock.monotonicMs();
      } catch (error) {
        why = error as Error;
      }
      if (this.#isDone) return;
      const final = finalOf(why);
      if (final !== null) throw final;
      if (clock.monotonicMs() - sinceMs >= giveUpMs) {
        throw new PeerError("peer-lost", `Nobody can ask for pages: ${why.message}`, true);
      }
      await clock.sleep(PAUSE_MS);
    }
  }

  /** @returns why it ended */
  async #hear(demands: DemandTransport): Promise<Error> {
    let closed = (_error: Error): void => {};
    const end = new Promise<Error>((resolve) => {
      closed = resolve;
    });
    const connection = await demands.listen({
      onRequest: (object, page) => {
        if (this.#queue.ask(object, page)) this.#changed.fire();
      },
      onClosed: closed,
    });
    this.#demand = {
      close: () => {
        connection.close();
        closed(new Error("closed"));
      },
    };
    if (this.#isDone) this.#demand.close();
    const why = await end;
    this.#demand = null;
    return why;
  }
}

function pagesOf({ runs }: Turn): number {
  return runs.reduce((sum, { count }) => sum + count, 0);
}

export function pushTraffic(
  counts: PageCounts & { readonly bytes: number },
  postCopy: PostCopy,
): PushTraffic {
  const { pagesSent, pagesZero, pagesDuplicate, bytes } = counts;
  const { requested: pagesRequested, pushed: pagesPushed } = postCopy;
  return { pagesSent, pagesZero, pagesDuplicate, bytes, pagesRequested, pagesPushed };
}
