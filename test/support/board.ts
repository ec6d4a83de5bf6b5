// Owns: the guests of test/guest, and a board with one of them in the test's own thread.
// Test process.
import { readFileSync } from "node:fs";
import type { BoardAction, BoardNews } from "../../src/vmm/commands.js";
import type { BoardDefinition } from "../../src/vmm/definition.js";
import { Inline, type InlineOptions, MIB } from "./inline.js";

/** @returns the bytes of test/guest/{name}.bin */
export function guestImage(name: string): Uint8Array {
  return new Uint8Array(readFileSync(new URL(`../guest/${name}.bin`, import.meta.url)));
}

export const BOARD: BoardDefinition = {
  image: { name: "guest", sha256: "0".repeat(64), size: 4 },
  initrd: null,
  cmdline: "",
  memoryMiB: 8,
  vcpus: 1,
};

export interface BoardOptions {
  readonly board?: Partial<BoardDefinition>;
  readonly vm?: InlineOptions;
  readonly initrd?: Uint8Array;
  readonly disk?: Uint8Array;
  readonly firmware?: Uint8Array;
}

export class InlineBoard extends Inline {
  readonly news: BoardNews[] = [];

  constructor(options: BoardOptions = {}) {
    const board = { ...BOARD, ...options.board };
    super({ budgetBytes: 256 * MIB, ...options.vm, board });
  }

  static with(image: Uint8Array | null, options: BoardOptions = {}): InlineBoard {
    const { disk, firmware } = options;
    const ref = { name: "bytes", sha256: "0".repeat(64), size: 4 };
    const board = {
      ...(disk === undefined ? {} : { disk: ref }),
      ...(firmware === undefined ? {} : { firmware: ref }),
      ...options.board,
    };
    const vm = new InlineBoard({ ...options, board });
    vm.call("loadBoard", {
      image,
      initrd: options.initrd ?? null,
      ...(disk === undefined ? {} : { disk }),
      ...(firmware === undefined ? {} : { firmware }),
    });
    return vm;
  }

  get hardware() {
    const { board } = this.instance.machine;
    if (board === null) throw new Error("an InlineBoard has a board");
    return board.hardware;
  }

  /** A load from a device, as the guest's would be. */
  fromDevice(address: number, bytes = 4): number {
    const data = this.hardware.devices.readAt(address, bytes);
    if (data === null) throw new Error(`no device at 0x${address.toString(16)}`);
    return data.reduceRight((sum, byte) => sum * 256 + byte, 0);
  }

  toDevice(address: number, value: number, bytes = 4): void {
    const data = Uint8Array.from({ length: bytes }, (_, i) => Math.floor(value / 256 ** i) % 256);
    if (!this.hardware.devices.writeAt(address, data)) throw new Error("no device there");
  }

  /** Level of an SPI's wire, counted from 0. */
  spi(spi: number): boolean {
    const { levels } = this.hardware.interrupts.save().data as { levels: [number, boolean][] };
    return new Map(levels).get(spi) === true;
  }

  act(action: BoardAction) {
    return this.call("boardAction", { action });
  }

  view() {
    return this.call("describeBoard", {});
  }

  console(): string {
    const { bytes } = this.call("readConsole", { offset: 0, limit: MIB });
    return Buffer.from(bytes).toString("latin1");
  }

  typed(text: string): void {
    this.call("typeConsole", { bytes: new Uint8Array(Buffer.from(text, "latin1")) });
  }

  /** Runs until the console shows a text. */
  until(text: string): void {
    this.pumpUntil(() => this.console().includes(text));
    if (!this.console().includes(text)) throw new Error(`no "${text}" in: ${this.console()}`);
  }

  /** Events of the board so far, by name. */
  events(): string[] {
    for (const news of this.instance.takeNews()) {
      if (news.kind !== "fault-injected") this.news.push(news);
    }
    return this.news.flatMap((news) => (news.kind === "board" ? [news.event] : []));
  }
}
