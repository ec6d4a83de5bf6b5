// Goal: the UART is a PL011 to the register, and the device tree one that others can read.
// Method: registers by hand; the tree read back by a reader of the test, and by dtc where it is.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { Console } from "../../../../src/vmm/board/console.js";
import { deviceTree } from "../../../../src/vmm/board/device-tree.js";
import { Pl011 } from "../../../../src/vmm/board/pl011.js";
import type { BoardDefinition } from "../../../../src/vmm/definition.js";
import { missing, program, programVersion } from "../../../../tools/debian.mjs";
import { BOARD } from "../../../support/board.js";

const DR = 0;
const RSR = 4;
const FR = 0x18;
const LCR_H = 0x2c;
const CR = 0x30;
const IFLS = 0x34;
const IMSC = 0x38;
const RIS = 0x3c;
const MIS = 0x40;
const ICR = 0x44;

function uart() {
  const sent: number[] = [];
  const line = { interrupt: false };
  const pl011 = new Pl011(
    (byte) => sent.push(byte),
    (level) => {
      line.interrupt = level;
    },
  );
  const device = {
    read: (at: number) => Number(pl011.read(at, 4)),
    write: (at: number, value: number) => pl011.write(at, 4, BigInt.asUintN(32, BigInt(value))),
    get interrupt() {
      return line.interrupt;
    },
    get backlog() {
      return pl011.backlog;
    },
  };
  const typed = (text: string) => pl011.type(new Uint8Array(Buffer.from(text)));
  return { device, sent, typed };
}

describe("PL011", () => {
  it("has the reset values and ID bytes of the part", () => {
    const { device } = uart();
    const ids = [0x11, 0x10, 0x14, 0, 0x0d, 0xf0, 0x05, 0xb1];
    expect(ids.map((_, i) => device.read(0xfe0 + 4 * i))).toEqual(ids);
    expect([FR, CR, IFLS, IMSC, RIS, MIS].map((at) => device.read(at))).toEqual([
      0x90, 0x300, 0x12, 0, 0, 0,
    ]);
    expect(device.read(0x80)).toBe(0);
  });

  it("keeps only the bits that exist", () => {
    const { device } = uart();
    for (const at of [0x20, 0x24, 0x28, LCR_H, CR, IFLS, IMSC, 0x48]) device.write(at, ~0);
    const kept = [0x20, 0x24, 0x28, LCR_H, CR, IFLS, IMSC, 0x48].map((at) => device.read(at));
    expect(kept).toEqual([0xff, 0xffff, 0x3f, 0xff, 0xff87, 0x3f, 0x7ff, 7]);
    device.write(FR, 0);
    expect(device.read(FR)).toBe(0x90);
  });

  it("sends at once and says so in TXRIS until it is cleared", () => {
    const { device, sent } = uart();
    device.write(DR, 0x141);
    expect(sent).toEqual([0x41]);
    expect(device.read(RIS)).toBe(0x20);
    expect(device.interrupt).toBe(false);
    device.write(IMSC, 0x20);
    expect([device.read(MIS), device.interrupt]).toEqual([0x20, true]);
    device.write(ICR, 0x20);
    expect([device.read(RIS), device.interrupt]).toEqual([0, false]);
  });

  it("holds one byte without FIFOs and sixteen with them; nothing typed is lost", () => {
    const { device, typed } = uart();
    const text = "abcdefghijklmnopqrst";
    typed(text);
    expect([device.read(FR) & 0x50, device.read(RIS)]).toEqual([0x40, 0x10]);
    expect(device.read(DR)).toBe(0x61);
    // Switching the FIFOs on empties them, and the line goes on.
    device.write(LCR_H, 0x10);
    expect(device.read(FR) & 0x50).toBe(0x40);
    const taken: number[] = [];
    while ((device.read(FR) & 0x10) === 0) taken.push(device.read(DR));
    expect(Buffer.from(taken).toString()).toBe(text.slice(2));
    expect([device.read(DR), device.backlog]).toEqual([0, 0]);
  });

  it("raises RX at the level of IFLS, and the time-out below it", () => {
    const { device, typed } = uart();
    device.write(LCR_H, 0x10);
    for (const [level, bytes] of [2, 4, 8, 12, 14].entries()) {
      device.write(IFLS, level << 3);
      typed("x".repeat(bytes));
      expect([level, device.read(RIS)]).toEqual([level, 0x10]);
      device.read(DR);
      expect([level, device.read(RIS)]).toEqual([level, 0x40]);
      while ((device.read(FR) & 0x10) === 0) device.read(DR);
      expect([level, device.read(RIS)]).toEqual([level, 0]);
    }
  });

  it("loops back, and then a full receiver loses bytes", () => {
    const { device, sent } = uart();
    device.write(CR, 0x380);
    device.write(DR, 0x41);
    device.write(DR, 0x42);
    expect(sent).toEqual([]);
    expect([device.read(RSR), device.read(RIS) & 0x400]).toEqual([8, 0x400]);
    expect(device.read(DR)).toBe(0x41);
    device.write(DR, 0x43);
    expect(device.read(DR)).toBe(0x843);
    expect(device.read(RSR)).toBe(8);
    device.write(RSR, 0);
    expect(device.read(RSR)).toBe(0);
  });
});

describe("console", () => {
  it("keeps the newest mebibyte by absolute offset", () => {
    const kept = new Console();
    for (let i = 0; i < 2 ** 20 + 5; i++) kept.put(i & 0xff);
    expect([kept.oldest, kept.end]).toEqual([5, 2 ** 20 + 5]);
    expect(kept.window(0, 2)).toMatchObject({ offset: 5, bytes: Uint8Array.of(5, 6) });
    expect(kept.window(2 ** 20 + 3, 9).bytes).toEqual(Uint8Array.of(3, 4));
    expect(kept.window(2 ** 30, 9)).toMatchObject({ offset: kept.end, bytes: new Uint8Array(0) });
    const copy = new Console();
    copy.load(kept.save());
    expect(copy.window(0, 2 ** 20)).toEqual(kept.window(0, 2 ** 20));
    copy.put(1);
    expect(copy.oldest).toBe(6);
  });
});

/** Paths and properties of a tree, by the specification's structure block. */
function readTree(blob: Uint8Array): ReadonlyMap<string, Uint8Array> {
  const view = new DataView(blob.buffer, blob.byteOffset);
  const [magic, total, structure, strings] = [0, 4, 8, 12].map((at) => view.getUint32(at));
  expect([magic, total]).toEqual([0xd00d_feed, blob.length]);
  const nul = (at: number) => Buffer.from(blob.slice(at, blob.indexOf(0, at))).toString();
  const found = new Map<string, Uint8Array>();
  const path: string[] = [];
  for (let at = structure ?? 0; ; ) {
    const token = view.getUint32(at);
    at += 4;
    if (token === 9) return found;
    if (token === 1) {
      const name = nul(at);
      path.push(name);
      at += (name.length + 4) & ~3;
    } else if (token === 2) path.pop();
    else {
      expect(token).toBe(3);
      const length = view.getUint32(at);
      const name = nul((strings ?? 0) + view.getUint32(at + 4));
      found.set(`${path.join("/")}/${name}`, blob.slice(at + 8, at + 8 + length));
      at += 8 + ((length + 3) & ~3);
    }
  }
}

const hexOf = (blob: Uint8Array, path: string) =>
  Buffer.from(readTree(blob).get(path) ?? []).toString("hex");

describe("device tree", () => {
  const treeOf = (board: Partial<BoardDefinition>) =>
    deviceTree({
      board: { ...BOARD, memoryMiB: 3584, cmdline: "console=ttyAMA0", ...board },
      initrd: { start: 0x4800_0000, end: 0x4800_0123 },
      cpus: [0n, 1n, 0x100n],
      seed: 7n,
    });
  const tree = treeOf({});
  const ref = BOARD.image ?? undefined;
  const whole = {
    rtc: true,
    pci: true,
    rng: true,
    console: "virtio",
    disk: ref,
    firmware: ref,
  } as const;
  const full = treeOf({ ...(whole as Partial<BoardDefinition>), gic: 3, its: true });

  it("tells RAM, CPUs, PSCI, the UART and how to start", () => {
    const found = readTree(tree);
    const hex = (path: string) => Buffer.from(found.get(path) ?? []).toString("hex");
    const text = (path: string) => Buffer.from(found.get(path) ?? []).toString();
    expect(hex("/memory@40000000/reg")).toBe("000000004000000000000000e0000000");
    expect(hex("/cpus/cpu@100/reg")).toBe("00000100");
    expect(text("/psci/compatible")).toBe("arm,psci-1.0\0arm,psci-0.2\0");
    expect(text("/psci/method")).toBe("hvc\0");
    expect(hex("/pl011@9000000/reg")).toBe("00000000090000000000000000001000");
    expect(text("/chosen/stdout-path")).toBe("/pl011@9000000\0");
    expect(text("/chosen/bootargs")).toBe("console=ttyAMA0\0");
    expect(hex("/chosen/linux,initrd-end")).toBe("0000000048000123");
    expect(found.get("/chosen/rng-seed")).toHaveLength(32);
    expect([...found.keys()].filter((path) => path.includes("interrupt"))).toEqual([]);
  });

  it("is small", () => {
    expect(tree.length).toBeLessThan(1400);
  });

  it("stays what it was, to the byte, where nothing was asked for", () => {
    expect(createHash("sha256").update(tree).digest("hex")).toBe(
      "a2ec656bbab009123245906e75e057971efcfdba85334963bcefa780c21b566f",
    );
  });

  it("has a node with its interrupt for each device that is there, and none for others", () => {
    const found = readTree(full);
    const hex = (path: string) => Buffer.from(found.get(path) ?? []).toString("hex");
    const text = (path: string) => Buffer.from(found.get(path) ?? []).toString();
    expect(text("/compatible")).toBe("linux,dummy-virt\0");
    expect([hex("/interrupt-parent"), hex("/intc@8000000/phandle")]).toEqual([
      "00000002",
      "00000002",
    ]);
    expect(hex("/pl011@9000000/interrupts")).toBe("000000000000000100000004");
    expect(hex("/pl031@9010000/interrupts")).toBe("000000000000000200000004");
    expect(text("/pcie@3f000000/compatible")).toBe("pci-host-ecam-generic\0");
    expect(hex("/pcie@3f000000/ranges")).toBe(
      "01000000" +
        "0000000000000000" +
        "000000003eff0000" +
        "0000000000010000" +
        "02000000" +
        "0000000010000000" +
        "0000000010000000" +
        "000000002eff0000",
    );
    const virtio = [0, 1, 2].map((at) => hex(`/virtio_mmio@a000${at * 2}00/interrupts`));
    const cells = ["10", "11", "12"].map((spi) => `00000000000000${spi}00000001`);
    expect(virtio).toEqual(cells);
    expect(hex("/timer/interrupts").slice(0, 24)).toBe("000000010000000d00000004");
    expect(text("/intc@8000000/its@8080000/compatible")).toBe("arm,gic-v3-its\0");
    expect(text("/fw-cfg@9020000/compatible")).toBe("qemu,fw-cfg-mmio\0");
    expect(hex("/flash@0/reg")).toBe(
      "00000000000000000000000004000000" + "00000000040000000000000004000000",
    );
    const v2 = [...readTree(treeOf({ gic: 2, rng: true })).keys()];
    expect(
      v2.filter((path) => /its@|pl031|flash|fw-cfg|virtio_mmio@a000[02]00/.test(path)),
    ).toEqual([]);
    expect(hexOf(treeOf({ gic: 2 }), "/intc@8000000/reg")).toBe(
      "00000000080000000000000000010000" + "00000000080100000000000000010000",
    );
    expect(hexOf(treeOf({ rtc: true }), "/pl031@9010000/interrupts")).toBe("");
  });

  it("describes a GICv5 by its binding: types in the cells, CPUs by their IAFFIDs", () => {
    const found = readTree(treeOf({ gic: 5, vcpus: 3, rtc: true, rng: true }));
    const hex = (path: string) => Buffer.from(found.get(path) ?? []).toString("hex");
    const text = (path: string) => Buffer.from(found.get(path) ?? []).toString();
    const irs = "/intc/irs@8010000";
    expect([text("/intc/compatible"), text(`${irs}/compatible`)]).toEqual([
      "arm,gic-v5\0",
      "arm,gic-v5-irs\0",
    ]);
    expect(text(`${irs}/reg-names`)).toBe("ns-config\0");
    expect(hex(`${irs}/reg`)).toBe("00000000080100000000000000010000");
    const cpus = ["0", "1", "100"].map((cpu) => hex(`/cpus/cpu@${cpu}/phandle`));
    expect(hex(`${irs}/cpus`)).toBe(cpus.join(""));
    expect(hex(`${irs}/arm,iaffids`)).toBe("000000010002");
    expect(hex("/interrupt-parent")).toBe(hex("/intc/phandle"));
    const phandles = [...found.keys()].filter((path) => path.endsWith("/phandle")).map(hex);
    expect(new Set(phandles).size).toBe(5);
    // PPIs by what older controllers call their INTIDs, SPIs as ever.
    const ppis = [29, 30, 27, 26].map((id) => `00000001000000${id.toString(16)}00000004`);
    expect(hex("/timer/interrupts")).toBe(ppis.join(""));
    expect(hex("/pl011@9000000/interrupts")).toBe("000000030000000100000004");
    expect(hex("/pl031@9010000/interrupts")).toBe("000000030000000200000004");
    expect(hex("/virtio_mmio@a000400/interrupts")).toBe("000000030000001200000001");
    expect([...found.keys()].filter((path) => /its@|intc@/.test(path))).toEqual([]);
  });

  it("has nothing that dtc finds wrong", (context) => {
    if (programVersion("dtc") === null) context.skip(missing("dtc"));
    const other = [2, 5].map((gic) =>
      treeOf({ ...(whole as Partial<BoardDefinition>), gic: gic as 2 | 5, vcpus: 3 }),
    );
    for (const input of [tree, full, ...other]) {
      const dtc = spawnSync(program("dtc"), ["-I", "dtb", "-O", "dts"], { input });
      expect([dtc.status, dtc.stderr.toString()]).toEqual([0, ""]);
    }
  });
});
