// Owns: the registers of a GICv3 distributor frame. Data, but for the functions that rows name. VM
// thread.
// @source arch/arm64/kvm/vgic/vgic-mmio-v3.c by behaviour; interrupts.md 4.3
import type { ErrnoName } from "../../base/errno.table.js";
import { DIST_V3_BYTES } from "./frame-range.js";
import { FIELD, perIrq } from "./irq-field.js";
import {
  IRQS_OF_ROW,
  type Register,
  type RegisterAt,
  RegisterFrame,
  WIDTH,
  wide,
  words,
} from "./register.js";
import {
  ITLINES_OF,
  iidrOf,
  PIDR2_V3,
  PIDRS,
  PIDRS_BYTES,
  setRevision,
  setStatus,
} from "./registers-common.js";
import { VGIC_NR_PRIVATE_IRQS } from "./state.js";

const GICD_CTLR = { ENABLE_G1: 1 << 1, ARE_NS: 1 << 4, DS: 1 << 6 } as const;
/** IDbits, less one: 10 without LPIs, 16 with them. */
const TYPER = { LPIS: 1 << 17, IDBITS_SHIFT: 19, IDBITS_SPIS: 9, IDBITS_ITS: 15 } as const;
/** Words of GICD_CTLR's row. */
const [CTLR, TYPE, IIDR, TYPER2] = [0, 4, 8, 12]; // tidy: offsets

function readMisc({ vgic, offset }: RegisterAt): number {
  const { dist } = vgic;
  switch (offset) {
    case CTLR:
      return GICD_CTLR.ARE_NS | GICD_CTLR.DS | (dist.enabled ? GICD_CTLR.ENABLE_G1 : 0);
    case TYPE: {
      const lpis = dist.hasIts ? TYPER.LPIS : 0;
      const bits = dist.hasIts ? TYPER.IDBITS_ITS : TYPER.IDBITS_SPIS;
      return ITLINES_OF(dist) | lpis | (bits << TYPER.IDBITS_SHIFT);
    }
    case IIDR:
      return iidrOf(dist);
    default:
      // GICD_TYPER2: this host injects no SGIs by hardware, so nASSGIcap is 0.
      return 0;
  }
}

function writeMisc({ vgic, offset }: RegisterAt, value: number): void {
  if (offset !== CTLR) return;
  const wasEnabled = vgic.dist.enabled;
  vgic.dist.enabled = (value & GICD_CTLR.ENABLE_G1) !== 0;
  if (!wasEnabled && vgic.dist.enabled) vgic.delivery.switchedOn();
}

function userWriteMisc(at: RegisterAt, value: number): ErrnoName | null {
  const { dist } = at.vgic;
  if (at.offset === IIDR) return setRevision(dist, value);
  if (at.offset === TYPER2) {
    if (value === readMisc(at)) return null;
    return dist.isInitialized ? "EBUSY" : "EINVAL";
  }
  writeMisc(at, value);
  return null;
}

/** Aff2 to Aff0; there is no Aff3, so the upper word is nothing. */
const AFFINITY = 0xff_ffffn;

const IROUTER = wide("GICD_IROUTER", 0x6000, {
  bytes: IRQS_OF_ROW * WIDTH.DOUBLE,
  bitsPerIrq: 64,
  read: ({ vgic, intid }) => {
    if (intid < VGIC_NR_PRIVATE_IRQS) return 0n;
    return BigInt(vgic.dist.irq(null, intid)?.mpidr ?? 0);
  },
  write: ({ vgic, intid }, value, mask) => {
    const irq = intid < VGIC_NR_PRIVATE_IRQS ? null : vgic.dist.irq(null, intid);
    if (irq === null || (mask & AFFINITY) === 0n) return;
    irq.mpidr = Number(value & AFFINITY);
    irq.target = vgic.dist.cpuByAffinity(irq.mpidr);
    vgic.delivery.queue(irq);
  },
});

const ROWS: readonly Register[] = [
  words("GICD_CTLR", 0x0000, 16, { read: readMisc, write: writeMisc, userWrite: userWriteMisc }),
  words("GICD_STATUSR", 0x0010, 4, {
    read: ({ vgic }) => vgic.dist.statusr,
    write: ({ vgic }, value) => {
      vgic.dist.statusr &= ~value;
    },
    userWrite: ({ vgic }, value) => setStatus(vgic.dist, value),
  }),
  perIrq("GICD_IGROUPR", 0x0080, "shared", FIELD.group),
  perIrq("GICD_ISENABLER", 0x0100, "shared", FIELD.enable),
  perIrq("GICD_ICENABLER", 0x0180, "shared", FIELD.disable),
  perIrq("GICD_ISPENDR", 0x0200, "shared", FIELD.pendV3),
  perIrq("GICD_ICPENDR", 0x0280, "shared", FIELD.unpendV3),
  perIrq("GICD_ISACTIVER", 0x0300, "shared", FIELD.activate),
  perIrq("GICD_ICACTIVER", 0x0380, "shared", FIELD.deactivate),
  perIrq("GICD_IPRIORITYR", 0x0400, "shared", FIELD.priority),
  // Affinity routing has it do nothing; its bytes may be accessed all the same.
  words("GICD_ITARGETSR", 0x0800, IRQS_OF_ROW, {
    bitsPerIrq: 8,
    widths: WIDTH.BYTE | WIDTH.WORD,
  }),
  perIrq("GICD_ICFGR", 0x0c00, "shared", FIELD.config),
  words("GICD_IGRPMODR", 0x0d00, IRQS_OF_ROW / 8, { bitsPerIrq: 1 }),
  IROUTER,
  words("GICD_PIDR", PIDRS, PIDRS_BYTES, { read: PIDR2_V3 }),
];

export const DIST_V3_FRAME = new RegisterFrame(DIST_V3_BYTES, ROWS);
