// Owns: virtio-console with its port 0, and what a testdev behind it makes of its bytes. VM thread.
// @source VIRTIO 1.2, 5.3
import type { Saved } from "../../../base/saved.js";
import type { VirtioDevice } from "./device.js";
import type { Virtqueue } from "./queue.js";

const RECEIVE = 0;
const F_EMERG_WRITE = 1n << 2n;
/** cols, rows, max_nr_ports; then emerg_wr. */
const EMERG_WRITE_AT = 8;
const CONFIG_BYTES = 12; // tidy: struct virtio_console_config
/** Bytes typed that the guest has not taken yet. */
const BACKLOG_MAX = 65_536; // tidy: bytes

export class VirtioConsole implements VirtioDevice {
  readonly id = 3;
  readonly queues = 2;
  readonly features = F_EMERG_WRITE;
  readonly #transmit: (byte: number) => void;
  readonly #testdev: Testdev | null;
  #backlog: number[] = [];

  /** @param testdev takes what the guest sends in place of `transmit` */
  constructor(transmit: (byte: number) => void, testdev: Testdev | null) {
    this.#testdev = testdev;
    this.#transmit = testdev === null ? transmit : (byte) => testdev.put(byte);
  }

  get backlog(): number {
    return this.#backlog.length;
  }

  /** Keeps bytes for the guest; the transport has to be notified. @returns false: no room */
  type(bytes: Uint8Array): boolean {
    if (this.#backlog.length + bytes.length > BACKLOG_MAX) return false;
    for (const byte of bytes) this.#backlog.push(byte);
    return true;
  }

  config(): Uint8Array {
    return new Uint8Array(CONFIG_BYTES);
  }

  writeConfig(offset: number, value: bigint): void {
    if (offset === EMERG_WRITE_AT) this.#transmit(Number(value & 0xffn));
  }

  handle(index: number, queue: Virtqueue): void {
    if (index === RECEIVE) this.#receive(queue);
    else this.#send(queue);
  }

  #receive(queue: Virtqueue): void {
    while (this.#backlog.length > 0) {
      const chain = queue.pop();
      if (chain === null) return;
      const bytes = Uint8Array.from(this.#backlog.slice(0, chain.writableBytes));
      queue.push(chain, queue.fill(chain, bytes));
      this.#backlog.splice(0, bytes.length);
    }
  }

  #send(queue: Virtqueue): void {
    for (let chain = queue.pop(); chain !== null; chain = queue.pop()) {
      for (const byte of chain.readable) this.#transmit(byte);
      queue.push(chain, 0);
    }
  }

  /** What was typed and not taken is still to come. */
  reset(): void {}

  save(): Saved {
    const testdev = this.#testdev?.save() ?? null;
    const data = { backlog: Uint8Array.from(this.#backlog), testdev };
    return { kind: "virtio-console", version: 1, data };
  }

  load(saved: Saved): void {
    const { backlog, testdev } = saved.data as { backlog: Uint8Array; testdev: Saved | null };
    this.#backlog = [...backlog];
    if (testdev !== null) this.#testdev?.load(testdev);
  }
}

/** QEMU's testdev: a number and a `q` end the guest. */
export class Testdev {
  readonly #exit: (code: number) => void;
  #code = 0;

  constructor(exit: (code: number) => void) {
    this.#exit = exit;
  }

  put(byte: number): void {
    const character = String.fromCharCode(byte);
    if (character === "q") this.#exit(this.#code);
    const isDigit = character >= "0" && character <= "9";
    this.#code = isDigit ? (this.#code * 10 + Number(character)) % 2 ** 31 : 0;
  }

  save(): Saved {
    return { kind: "testdev", version: 1, data: { code: this.#code } };
  }

  load(saved: Saved): void {
    this.#code = (saved.data as { code: number }).code;
  }
}
