// Owns: the HTTP face of the data plane: /v1/streams. Data-plane thread. Its own port, beside the
// API's: pages must not wait for requests, nor requests for pages.
import {
  createServer as createPlain,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from "node:http";
import { createServer as createTls } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Clock } from "../../base/clock.js";
import type { DemandListener } from "../wire/demands.js";
import type { IncomingStream } from "../wire/incoming-stream.js";
import type { Feed, ReceivingChannel } from "../wire/receiving-channel.js";
import { StreamError } from "../wire/stream-error.js";
import type { Applied } from "../wire/transport.js";
import type { DataPlaneSettings } from "./calls.js";
import { IDLE_MS_MAX, LINGER_MS } from "./patience.js";
import { problemOf, streamErrorOf } from "./problem.js";
import { RawAnswer } from "./raw-answer.js";
import { UPGRADE } from "./socket.js";

const HEADER_BYTES_MAX = 8_192;
const HEADERS_MS_MAX = 10_000;
/** Between two signs of life of a target that waits for no page. */
const BEAT_MS = 1_000;
const OFFSET = /^[0-9]{1,15}$/;
const PATH = /^\/v1\/streams\/([^/]{1,200})\/(?:channels\/([0-9]{1,3})|demands)$/;

export interface StreamSessions {
  /** @throws StreamError "stream-unauthorized": also for a session that doesn't exist */
  find(session: string, secret: string): IncomingStream;
  /** Some frames were applied. */
  moved(session: string): void;
}

/** What a request is about; without a channel it is about which pages are asked for. */
interface Place {
  readonly session: string;
  readonly stream: IncomingStream;
  readonly channel: ReceivingChannel | null;
  readonly offset: number;
}

export class StreamListener {
  readonly #sessions: StreamSessions;
  readonly #clock: Clock;
  readonly #server: Server;
  readonly #connectionsMax: number;
  readonly #answers = new Map<string, Set<{ destroy(): void }>>();
  /** Connections that HTTP has let go of. */
  readonly #upgraded = new Set<RawAnswer>();

  constructor(settings: DataPlaneSettings, sessions: StreamSessions, clock: Clock) {
    this.#sessions = sessions;
    this.#clock = clock;
    this.#server = serverOf(settings, (call, answer) => void this.#serve(call, answer));
    this.#connectionsMax = settings.connectionsMax;
    this.#server.maxConnections = settings.connectionsMax;
    this.#server.on("upgrade", (call, socket, head) => void this.#upgrade(call, socket, head));
    this.#server.setTimeout(IDLE_MS_MAX);
    this.#server.on("clientError", (_error, socket) => socket.destroy());
  }

  /** @returns the URL that peers use */
  listen({ host, port, tls, url }: DataPlaneSettings): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen({ host, port }, () => {
        this.#server.off("error", reject);
        const { port: taken } = this.#server.address() as AddressInfo;
        const name = host.includes(":") ? `[${host}]` : host;
        resolve(url ?? `${tls === null ? "http" : "https"}://${name}:${taken}`);
      });
    });
  }

  /** Nobody feeds this session any more. */
  drop(session: string): void {
    for (const answer of this.#answers.get(session) ?? []) answer.destroy();
    this.#answers.delete(session);
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
      for (const one of this.#upgraded) one.destroy();
    });
  }

  async #serve(call: IncomingMessage, answer: ServerResponse): Promise<void> {
    call.on("error", () => {});
    answer.on("error", () => {});
    try {
      const { session, stream, channel, offset } = this.#find(call);
      if (channel === null) return this.#tellDemands(session, stream, call, answer);
      if (call.method === "GET") return tell(answer, channel.applied);
      if (call.method !== "POST") answer.setHeader("allow", "GET, POST");
      checkFeeding(call);
      const feed = await channel.attach(offset, {
        onApplied: (applied) => {
          this.#sessions.moved(session);
          if (!answer.writableEnded) answer.write(`${JSON.stringify(applied)}\n`);
        },
        onDisplaced: () => answer.destroy(),
      });
      this.#feed(session, feed, call, answer);
    } catch (error) {
      this.#refuse(call, answer, error);
    }
  }

  /** What a request is about, if it may know. @throws StreamError */
  #find(call: IncomingMessage): Place {
    const url = new URL(call.url ?? "/", "http://plane");
    const place = PATH.exec(url.pathname);
    if (place === null) throw refused("stream-not-found", "There is nothing here.");
    const session = decodeURIComponent(place[1] ?? "");
    const stream = this.#sessions.find(session, bearerOf(call));
    const channel = place[2] === undefined ? null : stream.channel(Number(place[2]));
    const offset = url.searchParams.get("offset") ?? "0";
    if (!OFFSET.test(offset)) throw refused("stream-request", "offset is a number of bytes.");
    return { session, stream, channel, offset: Number(offset) };
  }

  /** A channel whose connection carries frames and nothing else. */
  async #upgrade(call: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const answer = new RawAnswer(socket as Socket, this.#clock);
    try {
      const { session, channel, offset } = this.#find(call);
      if (call.headers.upgrade !== UPGRADE || channel === null) {
        throw refused("stream-request", `Only a channel becomes ${UPGRADE}.`);
      }
      if (head.length > 0) throw refused("stream-request", "Frames come after the answer.");
      checkFeeding(call);
      const feed = await channel.attach(offset, {
        onApplied: (applied) => {
          this.#sessions.moved(session);
          answer.line(applied);
        },
        onDisplaced: () => answer.destroy(),
      });
      const forget = this.#keep(session, answer);
      this.#upgraded.add(answer);
      const ended = (): void => {
        forget();
        this.#upgraded.delete(answer);
        this.#count();
        feed.end();
      };
      answer.begin((chunk) => feed.push(chunk), ended);
      this.#count();
    } catch (error) {
      answer.refuse(error);
    }
  }

  /** The server counts a connection for as long as the socket that it was made with reads it. */
  #count(): void {
    const uncounted = [...this.#upgraded].filter(({ isTaken }) => isTaken).length;
    // 0 would be no limit.
    this.#server.maxConnections = Math.max(1, this.#connectionsMax - uncounted);
  }

  /** To be dropped with its session. @returns forgets it */
  #keep(session: string, answer: { destroy(): void }): () => void {
    const open = this.#answers.get(session) ?? new Set();
    this.#answers.set(session, open.add(answer));
    return () => open.delete(answer);
  }

  #tellDemands(
    session: string,
    { demands }: IncomingStream,
    call: IncomingMessage,
    answer: ServerResponse,
  ): void {
    if (call.method !== "POST") {
      answer.setHeader("allow", "POST");
      throw refused("stream-method", "Pages are asked for in the answer to a POST.");
    }
    const listener: DemandListener = {
      onRequest: (request) => answer.write(`${JSON.stringify(request)}\n`),
      onDisplaced: () => answer.destroy(),
    };
    let cancel = (): void => {};
    const beat = (): void => {
      answer.write("\n");
      cancel = this.#clock.timer(BEAT_MS, beat);
    };
    this.#open(session, answer, () => {
      cancel();
      demands.leave(listener);
    });
    call.resume();
    beat();
    demands.listen(listener);
  }

  /** An answer that goes on until its connection ends, or the session does. */
  #open(session: string, answer: ServerResponse, ended: () => void): void {
    const forget = this.#keep(session, answer);
    answer.once("close", () => {
      forget();
      ended();
    });
    answer.writeHead(200, { "content-type": "application/x-ndjson", "cache-control": "no-store" });
    answer.flushHeaders();
  }

  #feed(session: string, feed: Feed, call: IncomingMessage, answer: ServerResponse): void {
    this.#open(session, answer, () => feed.end());
    const refuse = (error: unknown): void => {
      feed.end();
      this.#refuse(call, answer, error);
    };
    call.on("data", (chunk: Buffer) => {
      try {
        const wait = feed.push(chunk);
        if (wait === null) return;
        call.pause();
        wait.then(() => call.resume(), refuse);
      } catch (error) {
        refuse(error);
      }
    });
    call.once("end", () => answer.end());
  }

  /** In the answer's head if that is still to come, else as its last line. */
  #refuse(call: IncomingMessage, answer: ServerResponse, error: unknown): void {
    if (answer.destroyed || answer.writableEnded) return;
    const problem = problemOf(streamErrorOf(error));
    if (answer.headersSent) {
      answer.end(`${JSON.stringify(problem)}\n`);
    } else {
      answer.statusCode = problem.status;
      answer.setHeader("content-type", "application/problem+json");
      answer.setHeader("connection", "close");
      if (problem.status === 401) answer.setHeader("www-authenticate", "Bearer");
      answer.end(JSON.stringify(problem));
    }
    // Closing with bytes unread would reset the connection, and the refusal would be lost.
    call.removeAllListeners("data");
    call.resume();
    const cancel = this.#clock.timer(LINGER_MS, () => call.destroy());
    call.once("close", cancel);
  }
}

/** @throws StreamError unless frames may follow */
function checkFeeding(call: IncomingMessage): void {
  if (call.method !== "POST") {
    throw refused("stream-method", "A channel is fed by POST and asked by GET.");
  }
  if (call.headers["content-type"] !== "application/octet-stream") {
    throw refused("stream-media-type", "A channel takes application/octet-stream.");
  }
}

function serverOf(settings: DataPlaneSettings, serve: RequestListener): Server {
  const options: ServerOptions = {
    maxHeaderSize: HEADER_BYTES_MAX,
    headersTimeout: HEADERS_MS_MAX,
    // A channel is one request for as long as the migration takes.
    requestTimeout: 0,
    noDelay: true,
  };
  const { tls } = settings;
  if (tls === null) return createPlain(options, serve);
  return createTls({ ...options, cert: tls.certificate, key: tls.key }, serve);
}

function bearerOf(call: IncomingMessage): string {
  return /^Bearer ([^\s]{1,200})$/i.exec(call.headers.authorization ?? "")?.[1] ?? "";
}

function tell(answer: ServerResponse, applied: Applied): void {
  answer.setHeader("content-type", "application/json");
  answer.setHeader("cache-control", "no-store");
  answer.end(JSON.stringify(applied));
}

function refused(code: string, detail: string): StreamError {
  return new StreamError(code, detail, true);
}
