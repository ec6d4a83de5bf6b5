// Owns: the sessions of the data-plane thread, as the HTTP thread asks for them. Data-plane thread.
import { createHash, timingSafeEqual } from "node:crypto";
import type { Clock } from "../../base/clock.js";
import { newSecret } from "../../base/ids.js";
import { PeerError, type Sequences } from "../ports.js";
import { IncomingStream } from "../wire/incoming-stream.js";
import { OutgoingStream } from "../wire/outgoing-stream.js";
import { StreamError } from "../wire/stream-error.js";
import type { DataPlaneSettings, HostCalls, PlaneCalls } from "./calls.js";
import { HttpDemands, HttpTransport } from "./http-transport.js";
import { type Handlers, type Port, PortRpc } from "./port-rpc.js";
import { StreamListener } from "./stream-listener.js";

/** Between two messages about how much has come in. */
const RECEIVED_MS = 50;

interface Accepted {
  readonly id: number;
  readonly session: string;
  readonly stream: IncomingStream;
  readonly secretHash: Buffer;
  isTelling: boolean;
}

export class Plane {
  readonly #clock: Clock;
  readonly #host: PortRpc<HostCalls, PlaneCalls>;
  readonly #outgoing = new Map<number, OutgoingStream>();
  readonly #accepted = new Map<number, Accepted>();
  readonly #bySession = new Map<string, Accepted>();
  #settings: DataPlaneSettings | null = null;
  #listener: StreamListener | null = null;
  #url = "";

  constructor(port: Port, clock: Clock) {
    this.#clock = clock;
    this.#host = new PortRpc(port, this.#handlers());
  }

  #handlers(): Handlers<PlaneCalls> {
    return {
      listen: (settings) => this.#listen(settings),
      open: (args) => this.#open(args),
      send: ({ id, pages, leave }) => {
        const progress = (sent: HostCalls["progress"][0]["sent"]): void =>
          this.#host.tell("progress", { id, sent });
        return this.#sender(id).send(pages, progress, leave);
      },
      endRound: ({ id }) => {
        this.#outgoing.get(id)?.endRound();
        return null;
      },
      discard: async ({ id, pages }) => {
        await this.#sender(id).discard(pages);
        return null;
      },
      push: ({ id, pages }) => {
        const progress = (sent: HostCalls["pushing"][0]["sent"]): void =>
          this.#host.tell("pushing", { id, sent });
        return this.#sender(id).push(pages, progress);
      },
      request: ({ id, object, page }) => {
        this.#accepted.get(id)?.stream.demands.request(object, page);
        return null;
      },
      limit: ({ id, bytesPerSecond }) => {
        this.#sender(id).limit(bytesPerSecond);
        return null;
      },
      accept: (args) => this.#accept(args),
      digest: ({ id }) => {
        const accepted = this.#accepted.get(id);
        return accepted === undefined ? this.#sender(id).digest() : accepted.stream.digest();
      },
      close: ({ id }) => this.#close(id),
      end: async () => {
        await Promise.all([...this.#outgoing.values()].map((stream) => stream.close()));
        await this.#listener?.close();
        return null;
      },
    };
  }

  async #listen(settings: DataPlaneSettings): Promise<{ url: string }> {
    const sessions = {
      find: (session: string, secret: string) => this.#find(session, secret),
      moved: (session: string) => this.#moved(session),
    };
    this.#listener = new StreamListener(settings, sessions, this.#clock);
    this.#settings = settings;
    this.#url = await this.#listener.listen(settings);
    return { url: this.#url };
  }

  #admit(): DataPlaneSettings {
    const settings = this.#settings;
    const count = this.#outgoing.size + this.#accepted.size;
    if (settings === null || count >= settings.sessionsMax) {
      const why = `The data plane has ${count} sessions, which is all that it takes.`;
      throw new PeerError("data-plane-busy", why, true);
    }
    return settings;
  }

  #open({ id, spec }: PlaneCalls["open"][0]): null {
    const { giveUpMs, stallMs } = this.#admit();
    const transports = {
      channel: (channel: number) => new HttpTransport(spec, channel, this.#clock, stallMs),
      demands: new HttpDemands(spec, this.#clock, stallMs),
    };
    const whole = { ...spec, sequences: this.#sequences(id) };
    const stream = new OutgoingStream(whole, transports, this.#clock, { giveUpMs, stallMs });
    this.#outgoing.set(id, stream);
    return null;
  }

  #accept({ id, spec }: PlaneCalls["accept"][0]): PlaneCalls["accept"][1] {
    this.#admit();
    const { session } = spec;
    if (this.#bySession.has(session)) {
      throw new PeerError("session-exists", `Session ${session} has a stream already.`, false);
    }
    const secret = newSecret();
    const stream = new IncomingStream({ ...spec, sequences: this.#sequences(id) }, this.#clock);
    const accepted = { id, session, stream, secretHash: hashOf(secret), isTelling: false };
    this.#accepted.set(id, accepted);
    this.#bySession.set(session, accepted);
    return { url: this.#url, secret, present: stream.present, requests: stream.requests.shared };
  }

  #sequences(id: number): Sequences {
    return {
      read: (object, first, count) =>
        this.#host.call("readSequences", { id, object, first, count }),
      write: async (object, pages, sequences) => {
        await this.#host.call("writeSequences", { id, object, pages, sequences });
      },
    };
  }

  #sender(id: number): OutgoingStream {
    const found = this.#outgoing.get(id);
    if (found !== undefined) return found;
    throw new PeerError("stream-closed", "The page stream is closed.", false);
  }

  async #close(id: number): Promise<null> {
    const stream = this.#outgoing.get(id);
    const accepted = this.#accepted.get(id);
    this.#outgoing.delete(id);
    this.#accepted.delete(id);
    if (accepted !== undefined) {
      this.#host.tell("received", { id, received: accepted.stream.received() });
      this.#bySession.delete(accepted.session);
      this.#listener?.drop(accepted.session);
      accepted.stream.close();
    }
    await stream?.close();
    return null;
  }

  #find(session: string, secret: string): IncomingStream {
    const found = this.#bySession.get(session);
    // Compared also where nothing is there, so that time doesn't tell what exists.
    const isRight = timingSafeEqual(found?.secretHash ?? NO_HASH, hashOf(secret));
    if (found !== undefined && isRight) return found.stream;
    throw new StreamError("stream-unauthorized", "No session has this secret.", true);
  }

  #moved(session: string): void {
    const found = this.#bySession.get(session);
    if (found === undefined || found.isTelling) return;
    found.isTelling = true;
    this.#clock.timer(RECEIVED_MS, () => {
      found.isTelling = false;
      this.#host.tell("received", { id: found.id, received: found.stream.received() });
    });
  }
}

const NO_HASH = Buffer.alloc(32);

function hashOf(secret: string): Buffer {
  return createHash("sha256").update(secret).digest();
}
