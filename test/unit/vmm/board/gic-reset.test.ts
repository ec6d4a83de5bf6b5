// Goal: a board's reset leaves nothing of what its guest did to the interrupt controller.
// Method: a guest uses it, asks for SYSTEM_RESET, and powers off the second time; the controller is
// then the one of a board whose guest did only the latter.
import { describe, expect, it } from "vitest";
import * as a64 from "../../../support/a64.js";
import { InlineBoard } from "../../../support/board.js";
import * as v5 from "../../../support/gicv5-board.js";
import { gicr } from "../../../support/gicv5-code.js";
import { type Model, mrsIcc, msrIcc } from "../../../support/irq-code.js";

const GICD = 0x800_0000n;
const GICC = 0x801_0000n;
const GICR = 0x80a_0000n;
const ITS = 0x808_0000n;
const FLAG = 0x4010_0000n;
const SYSTEM_RESET = 0x8400_0009n;

const store = (address: bigint, value: bigint): number[] => [
  ...a64.mov(1, address),
  ...a64.mov(2, value),
  a64.strw(2, 1),
];
const icc = (name: Parameters<typeof msrIcc>[0], value: bigint): number[] => [
  ...a64.mov(2, value),
  msrIcc(name, 2),
];

/** An SPI pending and active, SGIs and PPIs pending, all with state of their own. */
function use(model: Model): number[] {
  const banked = model === "v2" ? GICD : GICR + 0x1_0000n;
  const face =
    model === "v2"
      ? [
          ...store(GICC + 4n, 0xf0n),
          ...store(GICC, 0x203n),
          ...store(GICD + 0x820n, 0x0101_0101n),
          ...store(GICD + 0xf00n, 0x201_0003n), // SGI 3 to itself
          ...a64.mov(1, GICC),
          a64.ldrw(3, 1, 0xc),
        ]
      : [
          ...icc("ICC_PMR_EL1", 0xf0n),
          ...icc("ICC_CTLR_EL1", 2n),
          ...icc("ICC_BPR1_EL1", 5n),
          ...icc("ICC_IGRPEN0_EL1", 1n),
          ...icc("ICC_IGRPEN1_EL1", 1n),
          ...store(GICD + 0x6000n + 8n * 40n, 1n), // IROUTER: another vCPU
          ...icc("ICC_SGI1R_EL1", 0x300_0002n), // SGI 3 to the second vCPU
          mrsIcc(3, "ICC_IAR1_EL1"),
        ];
  return [
    ...store(GICD, 0x13n),
    ...[0x80n, 0x100n].flatMap((row) => store(banked + row, 0xffff_ffffn)),
    ...[0x84n, 0x104n].flatMap((row) => store(GICD + row, 0xffff_ffffn)),
    ...store(banked + 0x414n, 0x2020_2020n),
    ...store(GICD + 0x420n, 0x4040_4040n),
    ...store(GICD + 0xc08n, 0xaaaa_aaaan),
    ...store(banked + 0x200n, 0x10_0000n), // PPI 20
    ...store(GICD + 0x204n, 6n), // SPIs 33 and 34
    ...store(GICD + 0x304n, 8n),
    ...face,
  ];
}

/** As `use` has it, once. */
function guest(once: readonly number[]): Uint8Array {
  const first = [...a64.mov(3, 1n), a64.strb(3, 1), ...once, ...a64.mov(0, SYSTEM_RESET), a64.HVC];
  return a64.bytesOf([
    ...a64.mov(1, FLAG),
    a64.ldrw(2, 1),
    a64.subs(2, 2, 0),
    a64.bne(first.length + 1),
    ...first,
    ...a64.powerOff(),
  ]);
}

function ended(image: Uint8Array, gic: 2 | 3 | 5, its: boolean, flag: number): InlineBoard {
  const vm = InlineBoard.with(image, { board: { gic, vcpus: 2, ...(its ? { its } : {}) } });
  vm.call("writePhysicalMemory", { gpa: FLAG, bytes: Uint8Array.of(flag) });
  vm.act("start");
  vm.pumpUntil(() => vm.view().state === "shutdown");
  expect(vm.view()).toMatchObject({ resets: 1 - flag, unassigned: { count: 0 } });
  return vm;
}

describe("reset", () => {
  for (const gic of [2, 3] as const) {
    it(`leaves a GICv${gic} as power-on does`, () => {
      const image = guest(use(gic === 2 ? "v2" : "v3"));
      const used = ended(image, gic, false, 0);
      const fresh = ended(image, gic, false, 1);
      expect(used.kvm.vm.vgic.dist?.save()).toEqual(fresh.kvm.vm.vgic.dist?.save());
    });
  }

  it("leaves a GICv5 as power-on does, with no table of LPIs", () => {
    const [level, edge, lpi] = [v5.spi(40), v5.spi(41), v5.lpi(9)];
    const use = [
      ...v5.enableIrs(0x4020_0000n),
      ...v5.enableCpu(),
      ...v5.makeLevel(40),
      ...[level, edge, lpi].flatMap((intid) => [
        ...v5.enable(intid, 1),
        ...v5.doV5("CDPEND", intid | v5.PENDING),
      ]),
      ...v5.doV5("CDAFF", edge),
      gicr(3, "CDIA"),
      ...v5.setV5("ICC_PPI_SPENDR0_EL1", 8n),
    ];
    const image = guest(use);
    const used = ended(image, 5, false, 0);
    const fresh = ended(image, 5, false, 1);
    const state = (vm: InlineBoard) => {
      const [all, spis] = [
        vm.call("describeVgicV5", {}),
        vm.call("listVgicV5Spis", { from: 0, to: 999, state: null, after: null, limit: 999 }),
      ];
      return { ...all, counters: null, spis };
    };
    expect(state(used)).toEqual(state(fresh));
    expect(state(fresh)).toMatchObject({ irs: { enabled: false, ist: { isValid: false } } });
    // The same guest finds the same again.
    const count = (vm: InlineBoard) => vm.kvm.vm.account.chargedBytes;
    expect(count(used)).toBe(count(fresh));
  });

  it("forgets LPIs and an ITS's command queue", () => {
    const its = [
      ...store(GICR + 0x70n, 0x4020_000fn),
      ...store(GICR + 0x78n, 0x4021_0000n),
      ...store(GICR, 1n),
      ...store(ITS + 0x80n, 0x4022_0000n), // CBASER
      ...store(ITS + 0x84n, 0x8000_0000n),
      ...store(ITS, 1n),
    ];
    const [used, fresh] = [0, 1].map((flag) => ended(guest(its), 3, true, flag));
    const lpis = (vm: InlineBoard | undefined) =>
      vm?.kvm.vm.vgic.dist?.cpus.map(({ lpisEnabled, pendbaser }) => ({ lpisEnabled, pendbaser }));
    expect(lpis(used)).toEqual(lpis(fresh));
    expect(used?.kvm.vm.vgic.dist?.save()).toEqual(fresh?.kvm.vm.vgic.dist?.save());
    const itses = (vm: InlineBoard | undefined) => vm?.kvm.vm.msi?.parts().map((its) => its.save());
    expect(itses(used)).toEqual(itses(fresh));
    expect(itses(used)).toHaveLength(1);
  });
});

describe("a paused board that is reset", () => {
  it("has QEMU's power-on values", () => {
    const vm = InlineBoard.with(guest(use("v3")), { board: { gic: 3, vcpus: 2 } });
    const spi = vm.kvm.vm.vgic.dist?.irq(null, 33);
    expect(spi).toMatchObject({ config: "level", group: 0, enabled: false, priority: 0 });
    const sgi = vm.kvm.vm.vgic.dist?.cpus[1]?.privateIrqs[3];
    expect(sgi).toMatchObject({ config: "edge", group: 0, enabled: false });
    const v2 = InlineBoard.with(guest(use("v2")), { board: { gic: 2, vcpus: 1 } });
    expect(v2.kvm.vm.vgic.dist?.irq(null, 33)).toMatchObject({ targets: 1, config: "level" });
    expect(v2.kvm.vm.vgic.dist?.cpus[0]?.privateIrqs[3]).toMatchObject({ enabled: true });
  });
});
