// Owns: the socket of a VM that QMP's clients connect to: several at once, each with a session of
// its own, all told of the same events. HTTP thread.
import { createServer, type Server, type Socket } from "node:net";
import type { Log } from "../../base/log.js";
import { type ListenAt, listen, send } from "../sockets.js";
import type { Face } from "./command.js";
import { type EventTeller, type QmpEvent, stamped } from "./events.js";
import { writeJson } from "./json.js";
import { CLIENTS_MAX, GOODBYE_MS, UNREAD_BYTES_MAX } from "./limits.js";
import type { VmNews } from "./ports.js";
import { Session } from "./session.js";

interface Counts {
  connections: number;
  /** Of clients that came while too many were there. */
  refused: number;
  commands: number;
  /** Commands that were answered by an error. */
  errors: number;
  events: number;
  /** Clients that didn't read what they were told. */
  cut: number;
}

interface Parts {
  readonly face: Face;
  readonly teller: EventTeller;
  readonly log: Log;
  /** The VM has ended, and with it the socket. */
  readonly onEnded: (server: QmpServer) => void;
}

interface Client {
  readonly socket: Socket;
  readonly session: Session;
  /** Resolves when the command that it is at has been answered. */
  busy: Promise<void>;
}

export class QmpServer {
  readonly counts: Counts = {
    ...{ connections: 0, refused: 0, commands: 0, errors: 0, events: 0, cut: 0 },
  };
  readonly #parts: Parts;
  readonly #server: Server;
  readonly #clients = new Set<Client>();
  readonly #endNews: () => void;
  #ending: Promise<void> | null = null;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#server = createServer((socket) => this.#connected(socket));
    this.#endNews = parts.face.vm.onNews((news) => this.#tell(news));
  }

  get clients(): number {
    return this.#clients.size;
  }

  /** @returns the port, or null for a socket with a path. Rejects as net.Server.listen */
  listen(at: ListenAt): Promise<number | null> {
    const { log, face } = this.#parts;
    return listen(this.#server, at, (error) => {
      log.warn({ vmId: face.vm.id, err: error }, "A VM's QMP socket failed.");
    });
  }

  /** The VM ends: its clients are told, and get the answers that they wait for. */
  vmEnded(): void {
    if (this.#ending !== null) return;
    this.#tell({ kind: "stopped" });
    const { clock } = this.#parts.face;
    this.#parts.onEnded(this);
    this.#ending = this.#end(async () => {
      for (const { socket, busy } of this.#clients) {
        void busy.then(() => socket.destroySoon());
        const cancel = clock.timer(GOODBYE_MS, () => socket.destroy());
        socket.once("close", cancel);
      }
    });
  }

  /** Its clients are cut off. */
  async close(): Promise<void> {
    this.#ending ??= this.#end(async () => {});
    for (const { socket } of this.#clients) socket.destroy();
    await this.#ending;
  }

  async #end(goodbye: () => Promise<void>): Promise<void> {
    this.#endNews();
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    await goodbye();
    const { dirtyRate, dirtyLimit } = this.#parts.face;
    await Promise.all([dirtyRate.close(), dirtyLimit.close()]);
    await closed;
  }

  #connected(socket: Socket): void {
    // Without a listener a reset connection would be an uncaught error.
    socket.on("error", () => socket.destroy());
    if (this.#clients.size >= CLIENTS_MAX || this.#ending !== null) {
      this.counts.refused++;
      socket.destroy();
      return;
    }
    this.counts.connections++;
    socket.setNoDelay(true);
    const { face, log } = this.#parts;
    const session = new Session({
      face,
      log,
      counts: this.counts,
      send: (line) => send(socket, line, "utf8"),
    });
    const client: Client = { socket, session, busy: session.greet() };
    this.#clients.add(client);
    socket.on("data", (bytes) => {
      // No command is read while one is under way, or while its answer waits to be taken.
      socket.pause();
      // Set before the command runs, which may end the socket.
      client.busy = Promise.resolve()
        .then(() => session.receive(bytes))
        .finally(() => socket.resume());
    });
    socket.once("close", () => {
      session.close();
      this.#clients.delete(client);
    });
  }

  #tell(news: VmNews): void {
    const { teller, face } = this.#parts;
    const events = teller.of(news, face.settings.has("events"));
    for (const event of events) this.#broadcast(event);
  }

  #broadcast(event: QmpEvent): void {
    this.counts.events++;
    const line = `${writeJson(stamped(event, this.#parts.face.clock.nowMs()))}\r\n`;
    for (const { socket, session } of this.#clients) {
      if (!session.takesEvents || socket.destroyed) continue;
      socket.write(line, "utf8");
      if (socket.writableLength <= UNREAD_BYTES_MAX) continue;
      this.counts.cut++;
      socket.destroy();
    }
  }
}
