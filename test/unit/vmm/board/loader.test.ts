// Goal: an ELF is loaded by its program headers, as QEMU does, and what is none is refused.
// Method: headers put together by hand, with segments out of order and with zeros to make.
import { describe, expect, it } from "vitest";
import { firmwareLayout, layout } from "../../../../src/vmm/board/loader.js";
import * as a64 from "../../../support/a64.js";
import { InlineBoard } from "../../../support/board.js";
import { refusal } from "../../../support/inline.js";

const RAM = 0x4000_0000;

interface Segment {
  readonly type?: number;
  readonly virtual: number;
  readonly physical: number;
  readonly bytes: Uint8Array;
  readonly memory?: number;
}

function elf(entry: number, segments: readonly Segment[], type = 2): Uint8Array {
  const table = 64;
  const data = table + 56 * segments.length;
  const out = new Uint8Array(data + segments.reduce((sum, { bytes }) => sum + bytes.length, 0));
  const view = new DataView(out.buffer);
  out.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, type, true);
  view.setUint16(18, 183, true);
  view.setBigUint64(24, BigInt(entry), true);
  view.setBigUint64(32, BigInt(table), true);
  view.setUint16(54, 56, true);
  view.setUint16(56, segments.length, true);
  let from = data;
  for (const [i, { type: kind, virtual, physical, bytes, memory }] of segments.entries()) {
    const at = table + 56 * i;
    view.setUint32(at, kind ?? 1, true);
    for (const [word, value] of [
      [8, from],
      [16, virtual],
      [24, physical],
      [32, bytes.length],
      [40, memory ?? bytes.length],
    ] as const) {
      view.setBigUint64(at + word, BigInt(value), true);
    }
    out.set(bytes, from);
    from += bytes.length;
  }
  return out;
}

const OFF = a64.bytesOf([...a64.powerOff()]);

describe("an ELF", () => {
  it("goes to its physical addresses, bss zeroed, entry translated; again at a reset", () => {
    const data = Uint8Array.of(1, 2, 3, 4);
    const image = elf(0x1_0008, [
      { virtual: 0x100_0000, physical: RAM + 0x20_0000, bytes: data, memory: 0x18_0000 },
      {
        virtual: 0x1_0000,
        physical: RAM + 0x8_0000,
        bytes: Uint8Array.of(...new Array(8), ...OFF),
      },
      { type: 4, virtual: 0, physical: 0, bytes: data },
    ]);
    const vm = InlineBoard.with(image, { board: { memoryMiB: 16 } });
    expect(vm.view()).toMatchObject({ format: "elf", entry: BigInt(RAM + 0x8_0008) });
    const bss = BigInt(RAM + 0x20_0000);
    const read = (gpa: bigint, length: number) => vm.call("readPhysicalMemory", { gpa, length });
    vm.call("writePhysicalMemory", { gpa: bss, bytes: new Uint8Array(64).fill(9) });
    vm.call("writePhysicalMemory", { gpa: bss + 0x17_fff0n, bytes: new Uint8Array(32).fill(9) });
    vm.act("start");
    vm.pumpUntil(() => vm.view().state === "shutdown");
    expect(vm.act("start").resets).toBe(1);
    expect(read(bss, 8)).toEqual(Uint8Array.of(1, 2, 3, 4, 0, 0, 0, 0));
    const end = read(bss + 0x17_fff0n, 32);
    expect([...end]).toEqual([...new Array(16).fill(0), ...new Array(16).fill(9)]);
  });

  it("may be position independent, and puts initrd and tree behind itself", () => {
    const physical = RAM + 0x60_0000;
    const segment = { virtual: physical, physical, bytes: OFF, memory: 0x20_0000 };
    const at = layout(elf(physical, [segment], 3), 5, 32);
    expect(at).toMatchObject({ format: "elf", entry: physical, dtb: RAM + 0x120_0000 });
    expect(at.initrd).toEqual({ start: RAM + 0x100_0000, end: RAM + 0x100_0005 });
  });

  it("is refused where a board can't load it", () => {
    const good = { virtual: RAM, physical: RAM + 0x8_0000, bytes: OFF };
    const changed = (at: number, value: number) => {
      const image = elf(RAM, [good]);
      image[at] = value;
      return image;
    };
    const wrong = (image: Uint8Array) => refusal(() => layout(image, 0, 16));
    expect(wrong(elf(RAM, [good]))).toBeNull();
    for (const image of [
      changed(4, 1),
      changed(5, 2),
      changed(18, 40),
      changed(16, 1),
      changed(54, 32),
      changed(56, 40),
      elf(RAM, [good]).subarray(0, 40),
      elf(RAM, [good]).subarray(0, 130),
      elf(RAM + 0x100, [good]),
      elf(RAM, []),
    ]) {
      expect(wrong(image)).toBe("image-format");
    }
    expect(wrong(elf(0, [{ ...good, virtual: 0, physical: 0 }]))).toBe("image-does-not-fit");
    expect(wrong(elf(RAM, [{ ...good, memory: 2 ** 30 }]))).toBe("image-does-not-fit");
    expect(wrong(Uint8Array.of(0x1f, 0x8b, 8, 0))).toBe("image-format");
  });
});

describe("firmware", () => {
  it("is entered in flash and finds the tree where RAM begins", () => {
    expect(firmwareLayout(OFF)).toMatchObject({ format: "firmware", entry: 0, dtb: RAM });
    expect(refusal(() => firmwareLayout(new Uint8Array(2 ** 26 + 1)))).toBe("image-does-not-fit");
  });
});
