// Owns: as much of GDB's remote protocol as stepping needs. Test process.
// @source GDB manual, appendix E: packets, g, G, m, s, vCont
import { connect, type Socket } from "node:net";

function checksum(body: string): string {
  let sum = 0;
  for (const character of body) sum += character.charCodeAt(0);
  return (sum & 0xff).toString(16).padStart(2, "0");
}

export class Gdb {
  readonly #socket: Socket;
  #received = "";
  #waiting: { resolve: (body: string) => void; reject: (error: Error) => void } | null = null;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (bytes) => this.#take(bytes.toString("latin1")));
    const failed = (): void => this.#waiting?.reject(new Error("the stub is gone"));
    socket.on("close", failed);
    socket.on("error", failed);
  }

  /** @returns null while nobody listens there yet */
  static open(path: string): Promise<Gdb | null> {
    return new Promise((resolve) => {
      const socket = connect(path, () => resolve(new Gdb(socket)));
      socket.once("error", () => resolve(null));
    });
  }

  #take(text: string): void {
    this.#received += text;
    const packet = /\$([^#]*)#[0-9a-f]{2}/.exec(this.#received);
    if (packet === null) return;
    this.#received = this.#received.slice(packet.index + packet[0].length);
    this.#socket.write("+");
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting?.resolve(packet[1]!);
  }

  ask(body: string): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#socket.write(`$${body}#${checksum(body)}`);
    });
  }

  /** One instruction, or the entry of an exception. @returns whether the guest goes on */
  async step(): Promise<boolean> {
    return /^[ST]/.test(await this.ask("vCont;s:1"));
  }

  /** X0…X30, SP, PC, and CPSR. */
  async registers(): Promise<readonly bigint[]> {
    const bytes = Buffer.from(await this.ask("g"), "hex");
    const wide = Array.from({ length: 33 }, (_, n) => bytes.readBigUInt64LE(8 * n));
    return [...wide, BigInt(bytes.readUInt32LE(8 * 33))];
  }

  async memory(at: number, bytes: number): Promise<Uint8Array> {
    const answer = await this.ask(`m${at.toString(16)},${bytes.toString(16)}`);
    return Uint8Array.from(Buffer.from(answer, "hex"));
  }

  close(): void {
    this.#socket.destroy();
  }
}
