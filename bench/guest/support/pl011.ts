// Owns: as much of a PL011 as the guest image touches: data out, data in, flags. Inline.

const DR = 0;
const FR = 0x18;
const RXFE = 1 << 4;
const TXFE = 1 << 7;

export const PL011_BASE = 0x900_0000n;

export class Pl011 {
  readonly #out: (character: string) => void;
  readonly #input: number[] = [];

  constructor(out: (character: string) => void) {
    this.#out = out;
  }

  /** A byte arrives for the guest. */
  receive(byte: number): void {
    this.#input.push(byte);
  }

  write(offset: number, value: number): void {
    if (offset === DR) this.#out(String.fromCharCode(value & 0xff));
  }

  read(offset: number): number {
    if (offset === DR) return this.#input.shift() ?? 0;
    if (offset === FR) return TXFE | (this.#input.length === 0 ? RXFE : 0);
    return 0;
  }
}
