// Owns: a TCP proxy that ends connections after so many bytes or leads them elsewhere, for what
// networks do. Test process.
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

export class CuttingProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Bytes towards the target that a connection lives for; called for each one. */
  budget: () => number = () => Number.POSITIVE_INFINITY;
  connections = 0;
  /** Where connections go that begin from now on. */
  target: URL;

  private constructor(target: URL) {
    this.target = target;
    this.#server = createServer((from) => {
      this.connections += 1;
      let left = this.budget();
      const to = connect(Number(this.target.port), this.target.hostname);
      for (const socket of [from, to]) {
        this.#sockets.add(socket);
        socket.on("error", () => {});
        socket.on("close", () => {
          this.#sockets.delete(socket);
          from.destroy();
          to.destroy();
        });
      }
      from.on("data", (chunk: Buffer) => {
        const part = chunk.subarray(0, Math.max(0, left));
        left -= chunk.length;
        if (!to.write(part)) {
          from.pause();
          to.once("drain", () => from.resume());
        }
        // The part may still arrive, or not: both happen.
        if (left <= 0) to.end(() => from.destroy());
      });
      to.pipe(from);
    });
  }

  /** @param port 0: a free one */
  static async start(target: string, port = 0): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(new URL(target));
    await new Promise<void>((resolve) => proxy.#server.listen(port, "127.0.0.1", resolve));
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Every connection that is open now. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
