// Owns: the socket that a VM's debugger connects to: one client at a time, and whatever it sends,
// nothing worse than the end of its connection. HTTP thread.
import { createServer, type Server, type Socket } from "node:net";
import type { Log } from "../../base/log.js";
import { type ListenAt, listen, send } from "../sockets.js";
import type { GuestAccess } from "./guest-access.js";
import { type SessionCounts, Stub } from "./stub.js";
import type { RunControl } from "./target.js";

export interface ServerCounts extends SessionCounts {
  connections: number;
  /** Of clients that came while another was there. */
  refused: number;
}

interface Parts {
  readonly vmId: string;
  readonly log: Log;
  /** What one client's session works with. */
  readonly session: () => { readonly access: GuestAccess; readonly control: RunControl };
}

interface Client {
  readonly socket: Socket;
  readonly ended: Promise<void>;
}

export class GdbServer {
  readonly counts: ServerCounts = { connections: 0, refused: 0, packets: 0, damaged: 0, stops: 0 };
  readonly #parts: Parts;
  readonly #server: Server;
  #client: Client | null = null;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#server = createServer((socket) => this.#connected(socket));
  }

  /** A client is there, or what it left behind is being put right. */
  get isAttached(): boolean {
    return this.#client !== null;
  }

  /** @returns the port, or null for a socket with a path. Rejects as net.Server.listen */
  listen(at: ListenAt): Promise<number | null> {
    const { log, vmId } = this.#parts;
    return listen(this.#server, at, (error) => {
      log.warn({ vmId, err: error }, "A debugger's socket failed.");
    });
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const client = this.#client;
    client?.socket.destroy();
    await client?.ended;
    await closed;
  }

  #connected(socket: Socket): void {
    // Without a listener a reset connection would be an uncaught error.
    socket.on("error", () => socket.destroy());
    if (this.#client !== null || !this.#server.listening) {
      this.counts.refused++;
      socket.destroy();
      return;
    }
    this.counts.connections++;
    socket.setNoDelay(true);
    const ended = this.#serve(socket).finally(() => {
      this.#client = null;
    });
    this.#client = { socket, ended };
  }

  async #serve(socket: Socket): Promise<void> {
    const { vmId, log, session } = this.#parts;
    const stub = new Stub({
      ...session(),
      counts: this.counts,
      send: (text) => send(socket, text, "latin1"),
      end: () => socket.destroySoon(),
    });
    const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    socket.pause();
    try {
      await stub.open();
      log.info({ vmId }, "A debugger attached.");
      socket.on("data", (bytes) => {
        socket.pause();
        void stub
          .receive(bytes.toString("latin1"))
          .catch((error: unknown) => {
            log.warn({ vmId, err: error }, "A debugger's session failed.");
            socket.destroy();
          })
          .finally(() => socket.resume());
      });
      socket.resume();
      await closed;
    } catch (error) {
      log.warn({ vmId, err: error }, "A debugger could not attach.");
      socket.destroy();
    }
    try {
      await stub.close();
    } catch (error) {
      // The VM was stopped or deleted under it: then nothing is left to put right.
      log.info({ vmId, err: error }, "A debugger's VM ended before it.");
    }
    log.info({ vmId }, "A debugger is gone.");
  }
}
