// Goal: firmware runs from flash as on QEMU's board, finds fw_cfg, and can write its flash.
// Method: registers by hand on a board inline, and code of the test's own in the first bank.
import { beforeAll, describe, expect, it } from "vitest";
import * as a64 from "../../../support/a64.js";
import { guestImage, InlineBoard } from "../../../support/board.js";

const RAM = 0x4000_0000;
const BANK1 = 0x400_0000;
const BLOCK = 0x4_0000;
const FW_CFG = 0x902_0000;
const KERNEL = guestImage("hello");
const INITRD = Uint8Array.of(1, 2, 3);
const MEMORY = { budgetBytes: 512 * 2 ** 20 };

function board(firmware: Uint8Array, image: Uint8Array | null = KERNEL): InlineBoard {
  const options = { vcpus: 2, cmdline: "quiet", ...(image === null ? { image: null } : {}) };
  const initrd = image === null ? {} : { initrd: INITRD };
  return InlineBoard.with(image, { firmware, ...initrd, board: options, vm: MEMORY });
}

describe("flash", () => {
  let vm: InlineBoard;
  const read = (at: number, bytes = 4) => vm.fromDevice(at, bytes);
  const write = (at: number, value: number, bytes = 4) => vm.toDevice(at, value, bytes);
  const slots = () => vm.call("listMemslots", {}).map(({ slot }) => slot);

  beforeAll(() => {
    vm = board(a64.bytesOf([a64.WFI, a64.b(-1)]));
  });

  it("is erased behind the firmware, and mapped read-only", () => {
    expect([read(0), read(8), read(BANK1)]).toEqual([a64.WFI, 0xffff_ffff, 0xffff_ffff]);
    expect(slots()).toEqual([1, 2, 0]);
    expect(vm.refused("setUserMemoryRegion", region(1))).toBe("owned-by-board");
    const [, flash] = vm.hardware.memoryObjects;
    expect(vm.refused("deleteMemoryObject", { id: flash ?? 0 })).toBe("owned-by-board");
  });

  it("answers CFI and identifiers on both chips", () => {
    write(BANK1 + 0x154, 0x98_0098);
    const query = (at: number) => read(BANK1 + 4 * at);
    expect([0x10, 0x11, 0x12].map(query)).toEqual([0x51_0051, 0x52_0052, 0x59_0059]);
    const u16 = (at: number) => (query(at) & 0xff) | ((query(at + 1) & 0xff) << 8);
    // Command set, table, size, blocks, bytes of a block / 256.
    expect([u16(0x13), u16(0x15), query(0x27) & 0xff]).toEqual([1, 0x31, 25]);
    expect([query(0x2c) & 0xff, u16(0x2d) + 1, u16(0x2f) * 256]).toEqual([1, 256, BLOCK / 2]);
    expect([0x31, 0x32, 0x33].map((at) => String.fromCharCode(query(at) & 0xff)).join("")).toBe(
      "PRI",
    );
    write(BANK1, 0x90_0090);
    expect([read(BANK1), read(BANK1 + 4), read(BANK1 + 4, 2)]).toEqual([
      0x89_0089, 0x18_0018, 0x18,
    ]);
    write(BANK1, 0xff_00ff);
    expect(read(BANK1)).toBe(0xffff_ffff);
  });

  it("programs by clearing bits, by word and by buffer, and erases a block", () => {
    const at = BANK1 + BLOCK + 0x40;
    for (const value of [0xf0f0_1234, 0xff00_ffff]) {
      write(at, 0x40_0040);
      write(at, value);
      expect(read(at)).toBe(0x80_0080);
    }
    write(at, 0xe8_00e8);
    write(at, 0x1_0001);
    write(at + 4, 0x0102_0304);
    write(at + 8, 0x0506_0708);
    write(at, 0xd0_00d0);
    write(at, 0x70_0070);
    expect(read(at)).toBe(0x80_0080);
    write(at, 0xff_00ff);
    expect([read(at), read(at + 4), read(at + 8)]).toEqual([0xf000_1234, 0x0102_0304, 0x0506_0708]);
    write(BANK1 + BLOCK, 0x60_0060);
    write(BANK1 + BLOCK, 0xd0_00d0);
    write(BANK1 + BLOCK, 0x20_0020);
    write(BANK1 + BLOCK + 0x10, 0xd0_00d0);
    write(BANK1, 0x50_0050);
    expect([read(at), read(at + 4)]).toEqual([0xffff_ffff, 0xffff_ffff]);
    // A command that is not confirmed does nothing, and says so.
    write(BANK1, 0x20_0020);
    write(BANK1, 0x11_0011);
    expect(read(BANK1)).toBe(0xb0_00b0);
    write(BANK1, 0x50_0050);
    expect(read(0)).toBe(a64.WFI);
  });

  it("leaves its slot to the guest only in array mode", () => {
    const guest = board(
      a64.bytesOf([
        ...a64.mov(0, BigInt(BANK1)),
        ...a64.mov(1, 0x98n),
        a64.str(1, 0, 0x550 / 4),
        a64.ldrw(2, 0, 0x40),
        ...a64.mov(1, 0xffn),
        a64.str(1, 0),
        a64.ldrw(3, 0, 0x40),
        ...a64.powerOff(),
      ]),
      null,
    );
    expect(guest.view()).toMatchObject({ format: "firmware", entry: 0n, dtb: BigInt(RAM) });
    guest.act("start");
    guest.pumpUntil(() => guest.view().state === "shutdown");
    const x = (reg: number) =>
      guest.call("getOneReg", { vcpu: 0, reg: 0x6030_0000_0010_0000n + 2n * BigInt(reg) }).value;
    expect([x(2), x(3)]).toEqual([0x51_0051n, 0xffff_ffffn]);
    expect(guest.call("listMemslots", {}).map(({ slot }) => slot)).toEqual([1, 2, 0]);
    expect(guest.call("readPhysicalMemory", { gpa: BigInt(RAM), length: 4 })).toEqual(
      Uint8Array.of(0xd0, 0x0d, 0xfe, 0xed),
    );
    expect(guest.view().unassigned.count).toBe(0);
  });

  it("comes back after a reset in the middle of a command", () => {
    write(0, 0x98_0098);
    vm.act("start");
    vm.pump(50);
    expect(slots()).toEqual([2, 0]);
    vm.act("reset");
    vm.pump(50);
    expect([read(0), slots()]).toEqual([a64.WFI, [1, 2, 0]]);
    vm.act("power-off");
  });
});

function region(slot: number) {
  return { slot, flags: 0, guestPhysAddr: 0n, memorySize: 0n, userspaceAddr: 0n };
}

describe("fw_cfg", () => {
  let vm: InlineBoard;
  const select = (key: number) => vm.toDevice(FW_CFG + 8, ((key & 0xff) << 8) | (key >> 8), 2);
  const take = (bytes: number) =>
    Uint8Array.from({ length: bytes }, () => vm.fromDevice(FW_CFG, 1));
  const item = (key: number, bytes: number) => {
    select(key);
    return take(bytes);
  };
  const word = (key: number) => new DataView(item(key, 4).buffer).getUint32(0, true);
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");

  beforeAll(() => {
    vm = board(a64.bytesOf([a64.WFI, a64.b(-1)]));
  });

  it("has what firmware asks for, byte by byte", () => {
    expect(text(item(0, 4))).toBe("QEMU");
    expect([word(1), word(5) & 0xffff, word(0x19)]).toEqual([3, 2, 0]);
    expect([word(8), word(0xb), word(0x14)]).toEqual([KERNEL.length, 3, 6]);
    expect(item(0x11, KERNEL.length)).toEqual(KERNEL);
    expect(item(0x12, 5)).toEqual(Uint8Array.of(1, 2, 3, 0, 0));
    expect(text(item(0x15, 6))).toBe("quiet\0");
    expect(item(0x7777, 2)).toEqual(new Uint8Array(2));
    // Wide loads take as many bytes of the stream.
    select(0);
    expect(vm.fromDevice(FW_CFG, 4)).toBe(0x554d_4551);
  });

  it("moves by DMA, and says where it can't", () => {
    const big = (value: number) => {
      const out = new Uint8Array(4);
      new DataView(out.buffer).setUint32(0, value);
      return out;
    };
    const at = RAM + 0x10_0000;
    const ask = (control: number, length: number, to: number, isWide = false) => {
      const request = Uint8Array.of(...big(control), ...big(length), ...big(0), ...big(to));
      vm.call("writePhysicalMemory", { gpa: BigInt(at), bytes: request });
      const swapped = new DataView(big(at).buffer).getUint32(0, true);
      if (isWide) vm.toDevice(FW_CFG + 16, swapped * 2 ** 32, 8);
      else {
        vm.toDevice(FW_CFG + 16, 0);
        vm.toDevice(FW_CFG + 20, swapped);
      }
      const answer = vm.call("readPhysicalMemory", { gpa: BigInt(at), length: 4 });
      return new DataView(answer.buffer, answer.byteOffset).getUint32(0);
    };
    const there = (length: number) =>
      vm.call("readPhysicalMemory", { gpa: BigInt(at + 0x100), length });
    expect(text(Uint8Array.from({ length: 8 }, (_, i) => vm.fromDevice(FW_CFG + 16 + i, 1)))).toBe(
      "QEMU CFG",
    );
    expect(ask((0x11 << 16) | 8 | 2, KERNEL.length, at + 0x100)).toBe(0);
    expect(there(KERNEL.length)).toEqual(KERNEL);
    expect(ask((0x15 << 16) | 8 | 4, 2, 0, true)).toBe(0);
    expect(ask(2, 3, at + 0x100, true)).toBe(0);
    expect(text(there(3))).toBe("iet");
    expect(ask(2, 4, 0x1000)).toBe(1);
    expect(ask((0x15 << 16) | 8 | 16, 1, at)).toBe(1);
    // A request where no RAM is: nobody can be told.
    vm.toDevice(FW_CFG + 20, 0);
  });
});
