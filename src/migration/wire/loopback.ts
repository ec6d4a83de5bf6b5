// Owns: page streams between hosts in one thread, for the simulation: the same frames, windows and
// refusals, and a hook that decides what becomes of each frame. Inline.
import type { Clock } from "../../base/clock.js";
import {
  type DataPlane,
  type Demanding,
  type Incoming,
  type IncomingSpec,
  type Outgoing,
  type OutgoingSpec,
  PeerError,
  type Pushing,
} from "../ports.js";
import { Arrivals } from "./arrivals.js";
import type { DemandListener } from "./demands.js";
import { IncomingStream } from "./incoming-stream.js";
import { OutgoingStream } from "./outgoing-stream.js";
import type { Feed } from "./receiving-channel.js";
import { StreamError } from "./stream-error.js";
import type {
  Applied,
  ChannelConnection,
  ChannelListener,
  ChannelTransport,
  DemandTransport,
} from "./transport.js";

/**
 * What the network does to a frame. "cut": the connection ends before it; "cut-after": it is
 * applied, but nobody hears of it; "truncate": half of it, then the end; "corrupt": one bit flips;
 * "twice": it comes a second time.
 */
export type FrameAction = "pass" | "cut" | "cut-after" | "truncate" | "corrupt" | "twice";

export interface FrameEvent {
  readonly session: string;
  readonly channel: number;
  /** The stream header is frame -1. */
  readonly frame: number;
  /** A frame type's number; -1 for the stream header. */
  readonly type: number;
  readonly bytes: number;
}

/** Each may wait as long as it wants: that is a slow network. */
export interface LoopbackFaults {
  frame?(event: FrameEvent): FrameAction | Promise<FrameAction>;
  /**
   * Whether the target can be reached at all, for a connection or for asking how far it is.
   * @param channel -1: for hearing which pages it asks for
   */
  reach?(session: string, channel: number): boolean | Promise<boolean>;
}

/** What lies between the hosts: planes by their address. */
export class LoopbackNetwork {
  readonly planes = new Map<string, LoopbackDataPlane>();
  faults: LoopbackFaults = {};
}

interface LoopbackOptions {
  readonly network: LoopbackNetwork;
  /** "loopback://b" */
  readonly url: string;
  readonly clock: Clock;
  readonly giveUpMs?: number;
  readonly stallMs?: number;
  /** Of a channel; absent: as between hosts. */
  readonly windowBytes?: number;
}

const GIVE_UP_MS = 30_000;
const STALL_MS = 10_000;
const DEMANDS = -1;

export class LoopbackDataPlane implements DataPlane {
  readonly #options: LoopbackOptions;
  readonly #sessions = new Map<
    string,
    { readonly stream: IncomingStream; readonly secret: string }
  >();
  readonly #outgoing = new Map<OutgoingStream, OutgoingSpec>();
  #secrets = 0;

  constructor(options: LoopbackOptions) {
    this.#options = options;
    options.network.planes.set(options.url, this);
  }

  async open(spec: OutgoingSpec): Promise<Outgoing & Pushing> {
    const { network, clock, giveUpMs = GIVE_UP_MS, stallMs = STALL_MS } = this.#options;
    const { windowBytes } = this.#options;
    const window = windowBytes === undefined ? {} : { windowBytes };
    const transports = {
      channel: (channel: number) => new LoopbackTransport(network, spec, channel),
      demands: new LoopbackDemands(network, spec),
    };
    const stream = new OutgoingStream(spec, transports, clock, { giveUpMs, stallMs, ...window });
    this.#outgoing.set(stream, spec);
    return stream;
  }

  async accept(spec: IncomingSpec): Promise<Incoming & Demanding> {
    const { url, clock } = this.#options;
    if (this.#sessions.has(spec.session)) {
      throw new PeerError("session-exists", `Session ${spec.session} exists.`, false);
    }
    this.#secrets += 1;
    const secret = `secret-${this.#secrets}`;
    const arrivals = new Arrivals(spec.wake);
    const stream = new IncomingStream({ ...spec, wake: arrivals.word }, clock);
    this.#sessions.set(spec.session, { stream, secret });
    return {
      url,
      secret,
      received: () => stream.received(),
      digest: () => stream.digest(),
      present: stream.present,
      requests: stream.requests.shared,
      request: (object, page) => stream.demands.request(object, page),
      arrival: () => arrivals.next(),
      fetch: (object, page) => this.#fetch(spec.session, object, page),
      close: async () => {
        stream.close();
        arrivals.end();
        this.#sessions.delete(spec.session);
      },
    };
  }

  /** The host ends, in order or not: nobody reaches it any more. */
  async close(): Promise<void> {
    const { network, url } = this.#options;
    if (network.planes.get(url) === this) network.planes.delete(url);
    for (const { stream } of this.#sessions.values()) stream.close();
    this.#sessions.clear();
    await Promise.all([...this.#outgoing.keys()].map((stream) => stream.close()));
  }

  /** Both hosts are in this thread: it can't wait for itself. @throws Error: no source is there */
  #fetch(session: string, object: number, page: number): void {
    const planes = [...this.#options.network.planes.values()];
    const specs = planes.flatMap((plane) => [...plane.#outgoing.values()]);
    const from = specs.find((spec) => spec.session === session)?.memory;
    const stream = this.#sessions.get(session)?.stream;
    if (from === undefined || stream === undefined) throw new Error("nobody has the page");
    stream.take(from, object, page);
  }

  /** @throws StreamError as over HTTP: who doesn't know the secret doesn't learn what exists */
  session(session: string, secret: string): IncomingStream {
    const found = this.#sessions.get(session);
    if (found?.secret === secret) return found.stream;
    throw new StreamError("stream-unauthorized", "No session has this secret.", true);
  }
}

class LoopbackTransport implements ChannelTransport {
  readonly #network: LoopbackNetwork;
  readonly #spec: OutgoingSpec;
  readonly #channel: number;

  constructor(network: LoopbackNetwork, spec: OutgoingSpec, channel: number) {
    this.#network = network;
    this.#spec = spec;
    this.#channel = channel;
  }

  async applied(): Promise<Applied> {
    return (await this.#target()).channel(this.#channel).applied;
  }

  async connect(offset: number, listener: ChannelListener): Promise<ChannelConnection> {
    const target = await this.#target();
    const { session } = this.#spec;
    const wire = new LoopbackConnection(this.#network, session, this.#channel, listener);
    const feed = await target.channel(this.#channel).attach(offset, {
      onApplied: (applied) => wire.applied(applied),
      onDisplaced: () => wire.end(new Error("another connection took over")),
    });
    wire.begin(feed);
    return wire;
  }

  #target(): Promise<IncomingStream> {
    return reach(this.#network, this.#spec, this.#channel);
  }
}

async function reach(
  network: LoopbackNetwork,
  { session, secret, url }: OutgoingSpec,
  channel: number,
): Promise<IncomingStream> {
  const isReached = (await network.faults.reach?.(session, channel)) ?? true;
  const plane = network.planes.get(url);
  if (!isReached || plane === undefined) throw new Error("nobody answers");
  return plane.session(session, secret);
}

class LoopbackDemands implements DemandTransport {
  readonly #network: LoopbackNetwork;
  readonly #spec: OutgoingSpec;

  constructor(network: LoopbackNetwork, spec: OutgoingSpec) {
    this.#network = network;
    this.#spec = spec;
  }

  async listen(source: {
    onRequest(object: number, page: number): void;
    onClosed(error: Error): void;
  }): Promise<{ close(): void }> {
    const { demands } = await reach(this.#network, this.#spec, DEMANDS);
    let isOpen = true;
    const listener: DemandListener = {
      onRequest: ({ object, page }) => {
        if (isOpen) source.onRequest(object, page);
      },
      onDisplaced: () => source.onClosed(new Error("another source listens")),
    };
    demands.listen(listener);
    return {
      close: () => {
        isOpen = false;
        demands.leave(listener);
      },
    };
  }
}

/** Frames in their order, one after the other, each as the hook says. */
class LoopbackConnection implements ChannelConnection {
  readonly #network: LoopbackNetwork;
  readonly #session: string;
  readonly #channel: number;
  readonly #listener: ChannelListener;
  #feed: Feed | null = null;
  #isOpen = true;
  #isDeaf = false;
  #last: Promise<void> = Promise.resolve();

  constructor(
    network: LoopbackNetwork,
    session: string,
    channel: number,
    listener: ChannelListener,
  ) {
    this.#network = network;
    this.#session = session;
    this.#channel = channel;
    this.#listener = listener;
  }

  begin(feed: Feed): void {
    this.#feed = feed;
  }

  applied(applied: Applied): void {
    if (this.#isOpen && !this.#isDeaf) this.#listener.onApplied(applied);
  }

  write(bytes: Uint8Array): void {
    this.#last = this.#last.then(() => this.#deliver(bytes)).catch((error) => this.end(error));
  }

  close(): void {
    this.#isOpen = false;
    this.#feed?.end();
  }

  end(error: Error): void {
    if (!this.#isOpen) return;
    this.close();
    this.#listener.onClosed(error);
  }

  async #deliver(bytes: Uint8Array): Promise<void> {
    if (!this.#isOpen) return;
    const isHeader = bytes[0] === STREAM_HEADER_FIRST;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const action = await this.#network.faults.frame?.({
      session: this.#session,
      channel: this.#channel,
      frame: isHeader ? -1 : view.getUint32(20, true),
      type: isHeader ? -1 : view.getUint8(0),
      bytes: bytes.length,
    });
    // A closed connection's frames are lost on the way.
    if (!this.#isOpen) return;
    if (action === "cut") throw new Error("the connection was cut");
    const copy = bytes.slice(0, action === "truncate" ? bytes.length / 2 : bytes.length);
    if (action === "corrupt") copy[copy.length - 1] = (copy[copy.length - 1] as number) ^ 1;
    this.#isDeaf = action === "cut-after";
    await this.#feed?.push(copy);
    if (action === "twice") await this.#feed?.push(bytes.slice());
    if (action === "truncate" || action === "cut-after") throw new Error("the connection was cut");
  }
}

/** "T": no frame type has this number. */
const STREAM_HEADER_FIRST = 0x54;
