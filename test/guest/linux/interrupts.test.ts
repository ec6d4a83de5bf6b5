// Goal: what a guest printed of its interrupts is read as it stands, and what is missing, still or
// other than elsewhere is named.
// Method: tables and logs in the kernel's form, of which one thing is changed at a time.
import { describe, expect, it } from "vitest";
import {
  controllerLines,
  differences,
  interruptTables,
  type Moving,
  stillOnes,
} from "../../../tools/linux/interrupts.js";

const table = (timer: string, uart: string, virtio = "0          3") =>
  [
    "           CPU0       CPU1       ",
    ` 11:  ${timer} GICv5-PPI  27 Level     arch_timer`,
    ` 14:  ${uart} GICv5-SPI   1 Level     uart-pl011`,
    ` 17:  ${virtio} GICv5-SPI  16 Edge      virtio0`,
    "IPI0:         5          6       Rescheduling interrupts",
    "IPI1:        40         50       Function call interrupts",
    "IPI6:         0          0       IRQ work interrupts",
    "Err:          0",
  ].join("\r\n");
const LOG = [
  "[    0.000000] CPU features: detected: GICv5 CPU interface",
  "[    0.000000] GICv5 IRS: irs@8010000 detected SPI range [0-255]",
  "[    0.000000] Root IRQ handler: gicv5_handle_irq",
  "[    0.050000] CPU1: Booted secondary processor 0x0000000001 [0x410fd034]",
  "[    0.101000] 16384 512-byte logical blocks",
].join("\r\n");
const FIRST = table("10   20", "7   0");
const WANTED: readonly Moving[] = [
  { chip: "GICv5-PPI", name: "arch_timer", on: "each CPU" },
  { chip: "GICv5-SPI", name: "uart-pl011", on: "some CPU" },
];

describe("tables of interrupts", () => {
  it("are read row by row, with a count for each CPU", () => {
    const tables = interruptTables(`guest# cat\r\n${FIRST}\r\nguest# cat\r\n${FIRST}\r\n`);
    expect(tables).toHaveLength(2);
    expect(tables[0]).toHaveLength(6);
    expect(tables[0]?.[1]).toEqual({
      chip: "GICv5-SPI",
      number: 1,
      trigger: "Level",
      name: "uart-pl011",
      counts: [7, 0],
    });
    expect(tables[0]?.[3]).toMatchObject({ chip: "IPI", name: "IPI0", counts: [5, 6] });
  });

  it("tell what came in between", () => {
    const still = (second: string) => stillOnes(`${FIRST}\r\n${second}`, WANTED);
    expect(still(table("11   21", "8   0"))).toEqual([]);
    expect(still(table("11   20", "8   0"))).toEqual(["arch_timer of GICv5-PPI"]);
    expect(still(table("11   21", "7   0"))).toEqual(["uart-pl011 of GICv5-SPI"]);
    expect(still("")).toEqual(["two tables"]);
    expect(still(table("11   21", "8   0").replace("uart", "other"))).toHaveLength(1);
  });
});

describe("a controller beside a reference", () => {
  const ours = `${LOG}\r\n${FIRST}`;

  it("is the same where log and interrupts are, whatever they count", () => {
    expect(controllerLines(ours)).toHaveLength(4);
    expect(controllerLines(ours).at(-1)).toBe("CPU1: Booted secondary processor 0x0000000001");
    const other = table("900   800", "3   0", "0          9").replace(" 16 ", " 47 ");
    const theirs = `${LOG}\r\n${other}`;
    expect(differences(ours, theirs)).toEqual([]);
  });

  it("is another one where a line, a trigger or a CPU is", () => {
    const other = (from: string, to: string) => differences(ours, ours.replace(from, to));
    expect(other("[0-255]", "[0-31]")).toHaveLength(1);
    expect(other("Root IRQ handler: gicv5_handle_irq", "nothing")).not.toEqual([]);
    expect(other("processor 0x0000000001", "processor 0x0000000002")).toHaveLength(1);
    expect(other("1 Level ", "1 Edge  ")).toEqual([
      "GICv5-SPI uart-pl011: Level on CPUs 1 0 and Edge on CPUs 1 0",
    ]);
    expect(other("10   20", "10   0")).toHaveLength(1);
    expect(other("arch_timer", "timer")).toEqual(["GICv5-PPI arch_timer is not there"]);
    expect(differences("", "")).toEqual(["the reference says nothing of its controller"]);
  });
});
