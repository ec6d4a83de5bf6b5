// Owns: a pci-testdev: a bar of memory and one of I/O ports, each with tests that count stores.
// VM thread. @source QEMU docs/specs/pci-testdev
//
//   0 test (w)   1 width   4 offset   8 data   12 count   16 name, with its end
import type { Saved } from "../../../base/saved.js";
import type { BarDevice } from "./function.js";

// tidy: register offsets
const HEADER = { test: 0, width: 1, offset: 4, data: 8, count: 12, name: 16 } as const;
/** Where the stores of a test go: behind every name. */
const STORES = 0x80;

interface Test {
  readonly name: string;
  readonly width: 1 | 2 | 4;
  readonly data: number;
  /** Stores of other data don't count. */
  readonly isMatched: boolean;
}

const TESTS: readonly Test[] = [
  { name: "no-eventfd", width: 1, data: 0xfa, isMatched: false },
  { name: "wildcard-eventfd", width: 2, data: 0xfafa, isMatched: false },
  { name: "datamatch-eventfd", width: 4, data: 0xfafa_fafa, isMatched: true },
];
const PREFIX = ["mmio-", "portio-"] as const;
const encoder = new TextEncoder();

/** What a bar tells of its test. */
interface Chosen {
  test: number | null;
  count: number;
}

export class PciTestdev implements BarDevice {
  readonly bars = [
    { space: "memory", size: 4096 }, // tidy: what the bar decodes
    { space: "io", size: 256 },
  ] as const;
  readonly #chosen: Chosen[] = this.bars.map(() => ({ test: null, count: 0 }));

  reset(): void {
    for (const chosen of this.#chosen) Object.assign(chosen, { test: null, count: 0 });
  }

  read(bar: number, offset: number, bytes: number): bigint {
    const header = this.#header(bar);
    let value = 0n;
    for (let i = bytes - 1; i >= 0; i--) value = (value << 8n) | BigInt(header[offset + i] ?? 0);
    return value;
  }

  write(bar: number, offset: number, bytes: number, value: bigint): void {
    const chosen = this.#chosen[bar];
    if (chosen === undefined) return;
    if (offset === HEADER.test) {
      const number = Number(value & 0xffn);
      Object.assign(chosen, { test: number < TESTS.length ? number : null, count: 0 });
      return;
    }
    const test = chosen.test === null ? undefined : TESTS[chosen.test];
    if (test === undefined || offset !== STORES + 4 * (chosen.test ?? 0)) return;
    const isMeant = bytes === test.width && (!test.isMatched || value === BigInt(test.data));
    if (isMeant) chosen.count = (chosen.count + 1) >>> 0;
  }

  /** As a guest reads it: all zeros, width too, where no test is chosen. */
  #header(bar: number): Uint8Array {
    const header = new Uint8Array(STORES);
    const { test: number, count } = this.#chosen[bar] ?? { test: null, count: 0 };
    const test = number === null ? undefined : TESTS[number];
    if (number === null || test === undefined) return header;
    const view = new DataView(header.buffer);
    header[HEADER.test] = number;
    header[HEADER.width] = test.width;
    view.setUint32(HEADER.offset, STORES + 4 * number, true);
    view.setUint32(HEADER.data, test.data, true);
    view.setUint32(HEADER.count, count, true);
    header.set(encoder.encode(`${PREFIX[bar] ?? ""}${test.name}`), HEADER.name);
    return header;
  }

  save(): Saved {
    const data = { chosen: this.#chosen.map((chosen) => ({ ...chosen })) };
    return { kind: "pci-testdev", version: 1, data };
  }

  load(saved: Saved): void {
    const { chosen } = saved.data as { chosen: readonly Chosen[] };
    for (const [bar, own] of this.#chosen.entries()) Object.assign(own, chosen[bar]);
  }
}
