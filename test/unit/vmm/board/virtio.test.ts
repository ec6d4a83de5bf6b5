// Goal: the virtio devices are what a driver of either register version expects, and a driver that
// breaks the rules breaks its device alone.
// Method: a driver of the test's own works on registers and rings in the RAM of a board inline.
import { describe, expect, it } from "vitest";
import * as a64 from "../../../support/a64.js";
import { InlineBoard } from "../../../support/board.js";
import { MIB, pagesOf } from "../../../support/inline.js";

const RAM = 0x4000_0000;
const SPIN = a64.bytesOf([a64.WFI, a64.b(-1)]);
const DISK = 0;
const CONSOLE = 1;
const RNG = 2;
const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;
const QUEUE = 8;

type Version = "modern" | "legacy";
interface Buffer {
  readonly at: number;
  readonly bytes: number;
  readonly flags?: number;
}

/** Bytes of little-endian numbers: [value, size]. */
function le(...numbers: readonly (readonly [number, number])[]): Uint8Array {
  return Uint8Array.from(
    numbers.flatMap(([value, size]) =>
      Array.from({ length: size }, (_, i) => Math.floor(value / 256 ** i) % 256),
    ),
  );
}

class Driver {
  readonly vm: InlineBoard;
  readonly base: number;
  readonly at: number;
  readonly version: Version;
  #available: number[] = [0, 0];

  constructor(vm: InlineBoard, at: number, version: Version) {
    this.vm = vm;
    this.at = at;
    this.base = 0xa00_0000 + at * 0x200;
    this.version = version;
  }

  reg(offset: number, bytes = 4): number {
    return this.vm.fromDevice(this.base + offset, bytes);
  }

  set(offset: number, value: number): void {
    this.vm.toDevice(this.base + offset, value);
  }

  poke(address: number, bytes: Uint8Array): void {
    this.vm.call("writePhysicalMemory", { gpa: BigInt(address), bytes });
  }

  peek(address: number, length: number): Uint8Array {
    return this.vm.call("readPhysicalMemory", { gpa: BigInt(address), length });
  }

  area(queue: number) {
    const desc = RAM + 0x20_0000 + queue * 0x1_0000;
    return { desc, avail: desc + 16 * QUEUE, used: desc + 0x1000 };
  }

  /** Negotiates, and sets the queues up. */
  start(queues: number, features = 0): void {
    const isModern = this.version === "modern";
    this.set(0x70, 0);
    this.set(0x70, 3);
    this.set(0x24, 0);
    this.set(0x20, features);
    if (isModern) {
      this.set(0x24, 1);
      this.set(0x20, 1);
      this.set(0x70, 11);
      expect(this.reg(0x70)).toBe(11);
    } else {
      this.set(0x28, 4096);
    }
    for (let queue = 0; queue < queues; queue++) {
      const { desc, avail, used } = this.area(queue);
      this.poke(desc, new Uint8Array(0x2000));
      this.#available[queue] = 0;
      this.set(0x30, queue);
      expect(this.reg(0x34)).toBe(256);
      this.set(0x38, QUEUE);
      if (isModern) {
        for (const [at, area] of [
          [0x80, desc],
          [0x90, avail],
          [0xa0, used],
        ] as const) {
          this.set(at, area);
          this.set(at + 4, 0);
        }
        this.set(0x44, 1);
        expect(this.reg(0x44)).toBe(1);
      } else {
        this.set(0x3c, 4096);
        this.set(0x40, desc / 4096);
        expect(this.reg(0x40)).toBe(desc / 4096);
      }
    }
    this.set(0x70, isModern ? 15 : 7);
  }

  descriptors(table: number, chain: readonly Buffer[], first = 0): void {
    for (const [i, { at, bytes, flags = 0 }] of chain.entries()) {
      const more = i < chain.length - 1 ? NEXT : 0;
      const row = le([at, 8], [bytes, 4], [flags | more, 2], [first + i + 1, 2]);
      this.poke(table + 16 * (first + i), row);
    }
  }

  offer(queue: number, head: number): void {
    const { avail } = this.area(queue);
    const index = this.#available[queue] ?? 0;
    this.poke(avail + 4 + 2 * (index % QUEUE), le([head, 2]));
    this.#available[queue] = index + 1;
    this.poke(avail + 2, le([index + 1, 2]));
  }

  /** Makes a chain available and notifies. @returns bytes that the device says it wrote */
  send(queue: number, chain: readonly Buffer[]): number | null {
    const before = this.used(queue).length;
    this.descriptors(this.area(queue).desc, chain);
    this.offer(queue, 0);
    this.set(0x50, queue);
    return this.used(queue)[before]?.[1] ?? null;
  }

  /** Elements of the used ring, [head, bytes], up to its size. */
  used(queue: number): [number, number][] {
    const { used } = this.area(queue);
    const view = (at: number, bytes: number) =>
      this.peek(at, bytes).reduceRight((s, b) => s * 256 + b, 0);
    const count = view(used + 2, 2);
    return Array.from({ length: count }, (_, i) => {
      const at = used + 4 + 8 * (i % QUEUE);
      return [view(at, 4), view(at + 4, 4)];
    });
  }

  get irq(): boolean {
    return this.vm.spi(16 + this.at);
  }

  ack(): void {
    this.set(0x64, this.reg(0x60));
  }
}

const IMAGE = Uint8Array.from({ length: 40_000 }, (_, i) => (i * 7 + (i >> 8)) & 0xff);
const DATA = RAM + 0x30_0000;

function board(virtio: Version, more: { budgetBytes?: number } = {}) {
  const options = { rng: true, console: "virtio", virtio } as const;
  return InlineBoard.with(SPIN, { disk: IMAGE, board: options, vm: more });
}

describe.each(["modern", "legacy"] as const)("virtio-mmio, %s", (version) => {
  const driver = (at: number, vm = board(version)) => new Driver(vm, at, version);

  it("names itself, and empty transports have no device", () => {
    const vm = board(version);
    const row = (at: number) => {
      const { reg } = { reg: (offset: number) => driver(at, vm).reg(offset) };
      return [reg(0), reg(4), reg(8)];
    };
    const number = version === "modern" ? 2 : 1;
    expect([DISK, CONSOLE, RNG, 3, 7].map(row)).toEqual(
      [2, 3, 4, 0, 0].map((id) => [0x7472_6976, number, id]),
    );
    expect(driver(DISK, vm).reg(0, 2)).toBe(0);
    expect(vm.hardware.devices.readAt(0xa00_1000, 4)).toBeNull();
  });

  it("reads and writes sectors, copy on write, and keeps them over a reset", () => {
    const disk = driver(DISK);
    disk.start(1);
    expect(disk.reg(0x100)).toBe(79);
    expect([disk.reg(0x100 + 20), disk.reg(0x100 + 12)]).toEqual([512, 254]);
    const header = (type: number, sector: number) =>
      disk.poke(DATA, le([type, 4], [0, 4], [sector, 8]));
    const status = { at: DATA + 0x100, bytes: 1, flags: WRITE };
    const head = { at: DATA, bytes: 16 };
    const data = { at: DATA + 0x1000, bytes: 1024, flags: WRITE };
    header(0, 3);
    expect(disk.send(0, [head, data, status])).toBe(1025);
    expect(disk.peek(DATA + 0x1000, 1024)).toEqual(IMAGE.slice(1536, 2560));
    expect([disk.peek(DATA + 0x100, 1)[0], disk.irq, disk.reg(0x60)]).toEqual([0, true, 1]);
    disk.ack();
    expect([disk.irq, disk.reg(0x60)]).toEqual([false, 0]);
    // The last sector ends in zeros: the image has 40,000 bytes.
    header(0, 78);
    disk.send(0, [head, { ...data, bytes: 512 }, status]);
    const last = disk.peek(DATA + 0x1000, 512);
    expect([...last.slice(0, 64)]).toEqual([...IMAGE.slice(39_936)]);
    expect([...last.slice(64)]).toEqual(new Array(448).fill(0));
    const charged = disk.vm.budget.usedBytes();
    header(1, 31);
    disk.poke(DATA + 0x1000, new Uint8Array(1024).fill(0xab));
    expect(disk.send(0, [head, { ...data, flags: 0 }, status])).toBe(1);
    expect(disk.vm.budget.usedBytes() - charged).toBe(2 * 16_384);
    disk.vm.act("start");
    disk.vm.act("reset");
    disk.start(1);
    header(0, 30);
    disk.send(0, [head, { ...data, bytes: 1536 }, status]);
    const read = disk.peek(DATA + 0x1000, 1536);
    expect([read[0], read[511]]).toEqual([IMAGE[15_360], IMAGE[15_871]]);
    expect(read.slice(512).every((byte) => byte === 0xab)).toBe(true);
  });

  it("answers flush and identity, and refuses what it can't do", () => {
    const disk = driver(DISK);
    disk.start(1);
    const status = { at: DATA + 0x100, bytes: 1, flags: WRITE };
    const data = { at: DATA + 0x1000, bytes: 512, flags: WRITE };
    const ask = (type: number, sector: number, ...between: Buffer[]) => {
      disk.poke(DATA, le([type, 4], [0, 4], [sector, 8]));
      disk.poke(DATA + 0x100, Uint8Array.of(0xff));
      disk.send(0, [{ at: DATA, bytes: 16 }, ...between, status]);
      return disk.peek(DATA + 0x100, 1)[0];
    };
    expect(ask(4, 0)).toBe(0);
    expect(ask(8, 0, { ...data, bytes: 20 })).toBe(0);
    expect(asText(disk.peek(DATA + 0x1000, 20))).toBe("tidemark-disk".padEnd(20, "\0"));
    expect(ask(0, 79, data)).toBe(1);
    expect(ask(0, 2 ** 40, data)).toBe(1);
    expect(ask(0, 0, { ...data, bytes: 100 })).toBe(1);
    expect(ask(1, 79, { ...data, flags: 0 })).toBe(1);
    expect(ask(11, 0, { ...data, flags: 0 })).toBe(2);
  });

  it("says I/O error when memory for what is written is used up", () => {
    const disk = driver(DISK);
    disk.start(1);
    const left = disk.vm.budget.totalBytes() - disk.vm.budget.usedBytes();
    disk.vm.kvm.vm.account.charge(left - 20_000);
    disk.poke(DATA, le([1, 4], [0, 4], [0, 8]));
    const chain = (bytes: number) => [
      { at: DATA, bytes: 16 },
      { at: DATA + 0x1000, bytes },
      { at: DATA + 0x100, bytes: 1, flags: WRITE },
    ];
    disk.send(0, chain(512));
    expect(disk.peek(DATA + 0x100, 1)[0]).toBe(0);
    disk.send(0, chain(0x6000));
    expect(disk.peek(DATA + 0x100, 1)[0]).toBe(1);
  });

  it("draws random bytes that the seed decides", () => {
    const drawn = () => {
      const rng = driver(RNG);
      rng.start(1);
      expect(rng.send(0, [{ at: DATA, bytes: 61, flags: WRITE }])).toBe(61);
      return rng.peek(DATA, 62);
    };
    const bytes = drawn();
    expect(drawn()).toEqual(bytes);
    expect(bytes[61]).toBe(0);
    expect(new Set(bytes).size).toBeGreaterThan(30);
  });

  it("is a console beside the UART, both ways", () => {
    const console = driver(CONSOLE);
    const { vm } = console;
    vm.typed("early");
    expect(vm.view().console.typed).toBe(4);
    console.start(2);
    console.poke(DATA, new Uint8Array(Buffer.from("hello\n")));
    expect(console.send(1, [{ at: DATA, bytes: 6 }])).toBe(0);
    expect(vm.console()).toBe("hello\n");
    console.ack();
    // Typed before a buffer is there: it waits.
    vm.typed("abc");
    expect(console.irq).toBe(false);
    const { desc } = console.area(0);
    console.descriptors(desc, [{ at: DATA + 0x1000, bytes: 2, flags: WRITE }], 0);
    console.descriptors(desc, [{ at: DATA + 0x2000, bytes: 9, flags: WRITE }], 1);
    console.offer(0, 0);
    console.offer(0, 1);
    console.set(0x50, 0);
    expect(console.used(0)).toEqual([
      [0, 2],
      [1, 1],
    ]);
    const got = [console.peek(DATA + 0x1000, 2), console.peek(DATA + 0x2000, 1)];
    expect(got.map(asText)).toEqual(["ab", "c"]);
    expect(console.irq).toBe(true);
    console.set(0x108, 0x21);
    expect(vm.console()).toBe("hello\n!");
  });

  it("takes indirect tables, and tells of events where the driver asks for it", () => {
    const rng = driver(RNG);
    rng.start(1, 0x3000_0000);
    const { avail, used } = rng.area(0);
    rng.descriptors(DATA + 0x100, [
      { at: DATA + 0x1000, bytes: 3, flags: WRITE },
      { at: DATA + 0x2000, bytes: 5, flags: WRITE },
    ]);
    const table = [{ at: DATA + 0x100, bytes: 32, flags: INDIRECT }];
    expect(rng.send(0, table)).toBe(8);
    expect(rng.irq).toBe(true);
    expect(rng.peek(used + 4 + 8 * QUEUE, 2)[0]).toBe(1);
    rng.ack();
    // used_event 2: told when the third one is used, and not before.
    rng.poke(avail + 4 + 2 * QUEUE, le([2, 2]));
    rng.send(0, table);
    expect(rng.irq).toBe(false);
    rng.send(0, table);
    expect(rng.irq).toBe(true);
  });

  it("keeps quiet where the driver wants no interrupts", () => {
    const rng = driver(RNG);
    rng.start(1);
    rng.poke(rng.area(0).avail, le([1, 2]));
    expect(rng.send(0, [{ at: DATA, bytes: 4, flags: WRITE }])).toBe(4);
    expect(rng.irq).toBe(false);
  });

  it("needs a reset after a broken queue, and then works again", () => {
    const far = RAM + 8 * MIB;
    const out = { at: DATA, bytes: 4 };
    const into = { ...out, flags: WRITE };
    for (const chain of [
      [{ at: far, bytes: 1, flags: WRITE }],
      [{ at: far - 2, bytes: 4, flags: WRITE }],
      [{ at: 2 ** 60, bytes: 4 }],
      [into, out],
      [{ ...out, bytes: 24, flags: INDIRECT }],
      [{ ...out, bytes: 2 ** 30 }],
    ]) {
      const rng = driver(RNG);
      rng.start(1);
      rng.send(0, chain);
      expect([rng.used(0), rng.reg(0x70) & 0x40]).toEqual([[], 0x40]);
      expect(rng.irq).toBe(version === "modern");
      expect(rng.send(0, [into])).toBeNull();
      rng.start(1);
      expect(rng.reg(0x70) & 0x40).toBe(0);
      expect(rng.send(0, [into])).toBe(4);
    }
    const loop = driver(RNG);
    loop.start(1);
    loop.poke(loop.area(0).desc, le([DATA, 8], [4, 4], [NEXT | WRITE, 2], [0, 2]));
    loop.offer(0, 0);
    loop.set(0x50, 0);
    expect(loop.reg(0x70) & 0x40).toBe(0x40);
    const jump = driver(RNG);
    jump.start(1);
    jump.poke(jump.area(0).avail + 2, le([QUEUE + 1, 2]));
    jump.set(0x50, 0);
    expect(jump.reg(0x70) & 0x40).toBe(0x40);
  });
});

function asText(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("latin1");
}

describe("virtio-mmio", () => {
  it("refuses features that were not offered, or without VERSION_1", () => {
    const rng = new Driver(board("modern"), RNG, "modern");
    rng.set(0x14, 1);
    expect(rng.reg(0x10)).toBe(1);
    rng.set(0x14, 0);
    expect(rng.reg(0x10)).toBe(0x3000_0000);
    rng.set(0x70, 3);
    rng.set(0x70, 11);
    expect(rng.reg(0x70)).toBe(3);
    rng.set(0x24, 1);
    rng.set(0x20, 1);
    rng.set(0x24, 0);
    rng.set(0x20, 1);
    rng.set(0x70, 11);
    expect(rng.reg(0x70)).toBe(3);
    rng.set(0x20, 0);
    rng.set(0x70, 11);
    expect(rng.reg(0x70)).toBe(11);
  });

  it("serves a legacy driver that never writes a status, and its testdev ends the guest", () => {
    const vm = InlineBoard.with(SPIN, { board: { console: "testdev", virtio: "legacy" } });
    const chr = new Driver(vm, CONSOLE, "legacy");
    vm.act("start");
    chr.set(0x28, 4096);
    chr.set(0x30, 1);
    chr.set(0x38, QUEUE);
    chr.set(0x3c, 4096);
    chr.set(0x40, chr.area(1).desc / 4096);
    chr.poke(DATA, new Uint8Array(Buffer.from("1q")));
    chr.send(1, [{ at: DATA, bytes: 2 }]);
    vm.pumpUntil(() => vm.kvm.vm.sched.contexts.length === 0);
    expect(vm.view()).toMatchObject({
      state: "shutdown",
      reason: expect.stringContaining("status 3"),
    });
    expect(vm.console()).toBe("");
  });

  it("writes are in the dirty log of RAM, once or until they are cleared", () => {
    for (const isManual of [false, true]) {
      const vm = board("modern");
      if (isManual) vm.enable(168, 1n);
      const rng = new Driver(vm, RNG, "modern");
      rng.start(1);
      vm.call("logBoard", { on: true });
      rng.send(0, [{ at: DATA + 0xffe, bytes: 4, flags: WRITE }]);
      // The buffer's two pages; the used ring's own.
      const page = (at: number) => (at - RAM) / 4096;
      const expected = [page(rng.area(0).used), page(DATA), page(DATA) + 1];
      let after: string | null = null;
      const log = (key: string) => {
        if (isManual) return vm.call("getDirtyLog", { slot: 0 });
        const harvest = vm.call("harvestDirtyLog", { slot: 0, key, after });
        after = harvest.id;
        return harvest;
      };
      const first = log("a");
      expect(pagesOf(first.bitmap)).toEqual(expected);
      if (!isManual) {
        expect(pagesOf(log("b").bitmap)).toEqual([]);
        continue;
      }
      expect(pagesOf(log("b").bitmap)).toEqual(expected);
      vm.call("clearDirtyLog", {
        slot: 0,
        firstPage: 0n,
        numPages: 768,
        bitmap: new Uint8Array(96).fill(0xff),
      });
      expect(pagesOf(log("b").bitmap)).toEqual(expected.slice(1));
      vm.call("logBoard", { on: false });
      vm.call("logBoard", { on: true });
      expect(pagesOf(log("b").bitmap)).toEqual([]);
    }
  });
});
