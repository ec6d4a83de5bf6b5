// Owns: what guests of the scenario do to their interrupt controller and to the device, each access
// with its name. CLI process.
// @source IHI 0048B, IHI 0069: offsets of the distributor; docs/irqfd.md: the device's registers
import type { Item } from "./agent.js";
import type { Lane } from "./events.js";

export const SPI = 40;
export const GSI = SPI - 32;
export type Gic = 2 | 3;
export type AnyGic = Gic | 5;
/** Its number to the guest; a GICv5's SPIs begin at 0. */
export const spiOf = (gic: AnyGic): number => (gic === 5 ? GSI : SPI);

/** Where Linux's and QEMU's `virt` have them. */
export const FRAMES = {
  ...{ dist: 0x800_0000, cpu: 0x801_0000, redist: 0x80a_0000, irs: 0x801_0000 },
} as const;
export const DEVICE = 0xa00_0000;
const DEVICE_STATUS = DEVICE;
const DEVICE_CLEAR = DEVICE + 4;

const PRIORITY = 0xa0;
const PRIORITY_MASK = 0xf0;
const BIT = 1 << (SPI % 32);
const WORD = 4 * Math.floor(SPI / 32);

/** One access of the guest's code. */
export interface Access extends Item {
  readonly from: Lane;
  readonly to: Lane;
  readonly text: string;
  /** The register, with what is written. */
  readonly detail: string;
  readonly isSetUp?: boolean;
  /** Of the handler: it learns the INTID, or the level of the device's line. */
  readonly learns?: "intid" | "line";
  /** The device's line is low behind it. */
  readonly lowers?: boolean;
}

const hex = (value: number) => `0x${value.toString(16)}`;

/** A store to the distributor. */
function gicd(name: string, offset: number, value: number, text: string): Access {
  const detail = `GICD_${name} = ${hex(value)}`;
  const place = { x0: FRAMES.dist + offset, x1: value };
  return { routine: "store", ...place, from: "guest", to: "kvm", text, detail };
}

const ICFGR = 0xc00 + 4 * Math.floor(SPI / 16);
const IPRIORITYR = 0x400 + SPI;
const ITARGETSR = 0x800 + SPI;

const PRIORITIZE: Access = {
  ...gicd(`IPRIORITYR byte ${SPI}`, IPRIORITYR, PRIORITY, "its priority"),
  routine: "storeByte",
  isSetUp: true,
};
const AIM: Access = {
  ...gicd(`ITARGETSR byte ${SPI}`, ITARGETSR, 1, "aimed at vCPU 0"),
  routine: "storeByte",
  isSetUp: true,
};

const OPEN = "CPU interface on";
const MASK = "priority mask";

/** One of the CPU interface, before interrupts come. */
function cpuInterface(item: Item, text: string, detail: string): Access {
  return { ...item, from: "guest", to: "kvm", isSetUp: true, text, detail };
}
const TYPED = 0x6000_0000 + GSI;
const PRIORITY_V5 = 16;
const IRS = { CR0: 0x80, SPI_SELR: 0x108, SPI_CFGR: 0x114 } as const;

/** A GIC instruction of a GICv5, with its operand. */
function gic(item: Item, text: string, detail: string): Access {
  return { ...item, from: "guest", to: "guest", text, detail };
}

function irs(name: keyof typeof IRS, value: number, text: string): Access {
  const detail = `IRS_${name} = ${hex(value)}`;
  const place = { x0: FRAMES.irs + IRS[name], x1: value };
  return { routine: "store", ...place, from: "guest", to: "kvm", text, detail, isSetUp: true };
}

/** As Linux: the IRS, the SPI's priority, mode and target, the CPU interface. */
const BRING_UP_V5: readonly Access[] = [
  irs("CR0", 1, "IRS on"),
  {
    ...gic({ routine: "cdpri", x1: TYPED + PRIORITY_V5 * 2 ** 35 }, "its priority", "GIC CDPRI"),
    isSetUp: true,
  },
  irs("SPI_SELR", GSI, "selects it"),
  irs("SPI_CFGR", 1, "configures it as level"),
  { ...gic({ routine: "cdaff", x1: TYPED }, "aimed at vCPU 0", "GIC CDAFF"), isSetUp: true },
  cpuInterface({ routine: "setPcr", x1: 0x1f }, "priority mask", "ICC_PCR_EL1 = 0x1f"),
  cpuInterface({ routine: "setCr0", x1: 1 }, "CPU interface on", "ICC_CR0_EL1 = 0x1"),
];

/** What a guest does with an SPI of a GICv5. */
export const ASK_V5 = {
  enable: gic({ routine: "cden", x1: TYPED }, `enables SPI ${GSI}`, `GIC CDEN ${GSI}`),
  disable: gic(
    { routine: "cddis", x1: TYPED },
    `nobody cared: disables SPI ${GSI}`,
    `GIC CDDIS ${GSI}`,
  ),
  take: {
    ...gic({ routine: "cdia" }, "interrupt", "GICR CDIA"),
    learns: "intid",
  },
  drop: gic({ routine: "cdeoi" }, "drops its priority", "GIC CDEOI"),
  deactivate: gic({ routine: "cddi" }, `deactivates SPI ${GSI}`, `GIC CDDI ${GSI}`),
} as const satisfies Record<string, Access>;

/** Distributor on, CPU interface open; the SPI's priority and target. */
const BRING_UP: Readonly<Record<Gic, readonly Access[]>> = {
  2: [
    { ...gicd("CTLR", 0, 1, "distributor on"), isSetUp: true },
    cpuInterface(
      { routine: "store", x0: FRAMES.cpu + 4, x1: PRIORITY_MASK },
      MASK,
      `GICC_PMR = ${hex(PRIORITY_MASK)}`,
    ),
    cpuInterface({ routine: "store", x0: FRAMES.cpu, x1: 1 }, OPEN, "GICC_CTLR = 0x1"),
    PRIORITIZE,
    AIM,
  ],
  3: [
    { ...gicd("CTLR", 0, 0x12, "distributor on"), isSetUp: true },
    cpuInterface(
      { routine: "setPmr", x1: PRIORITY_MASK },
      MASK,
      `ICC_PMR_EL1 = ${hex(PRIORITY_MASK)}`,
    ),
    cpuInterface({ routine: "setIgrpen1", x1: 1 }, OPEN, "ICC_IGRPEN1_EL1 = 0x1"),
    PRIORITIZE,
  ],
};

export const bringUp = (gic: AnyGic): readonly Access[] =>
  gic === 5 ? BRING_UP_V5 : BRING_UP[gic];

export const ASK = {
  disable: gicd(`ICENABLER${WORD / 4}`, 0x180 + WORD, BIT, `disables SPI ${SPI}`),
  clear: gicd(`ICPENDR${WORD / 4}`, 0x280 + WORD, BIT, "clears what is pending"),
  level: gicd(`ICFGR${Math.floor(SPI / 16)}`, ICFGR, 0, "configures it as level"),
  enable: gicd(`ISENABLER${WORD / 4}`, 0x100 + WORD, BIT, `enables SPI ${SPI}`),
  letIn: {
    routine: "letIn",
    from: "guest",
    to: "guest",
    text: "lets interrupts in",
    detail: "PSTATE.I = 0",
  },
  status: {
    routine: "load",
    x0: DEVICE_STATUS,
    from: "device",
    to: "guest",
    text: "status",
    detail: "device STATUS",
    learns: "line",
  },
  reset: {
    routine: "store",
    x0: DEVICE_CLEAR,
    x1: 1,
    from: "guest",
    to: "device",
    text: "resets the device",
    detail: "device CLEAR = 0x1",
    lowers: true,
  },
} as const satisfies Record<string, Access>;

function acknowledge(gic: Gic): Access {
  return {
    routine: gic === 2 ? "giccIar" : "iar1",
    from: "kvm",
    to: "guest",
    text: "interrupt",
    detail: gic === 2 ? "GICC_IAR" : "ICC_IAR1_EL1",
    learns: "intid",
  };
}

function endOfInterrupt(gic: Gic): Access {
  return {
    routine: gic === 2 ? "giccEoir" : "eoir1",
    from: "guest",
    to: "kvm",
    text: "end of interrupt",
    detail: `${gic === 2 ? "GICC_EOIR" : "ICC_EOIR1_EL1"} = ${SPI}`,
  };
}

/** What a driver does: looks whether its device wants something, quiets it, and ends it. */
export function driver(gic: Gic, quiets = true): readonly Access[] {
  const handles = quiets ? [ASK.status, ASK.reset] : [ASK.status];
  return [acknowledge(gic), ...handles, endOfInterrupt(gic)];
}
