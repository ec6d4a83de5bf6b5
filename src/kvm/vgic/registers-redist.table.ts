// Owns: the registers of a redistributor's two frames. Data, but for the functions that rows name.
// VM thread.
// @source arch/arm64/kvm/vgic/vgic-mmio-v3.c by behaviour; interrupts.md 4.4
import { PENDBASER_PTZ, sanitisePendbaser, sanitisePropbaser } from "./baser.js";
import { FIELD, perIrq } from "./irq-field.js";
import { invalidate, lpisEnabledChanged } from "./lpi.js";
import { isLastRedist } from "./redist.js";
import { type Register, type RegisterAt, RegisterFrame, wide, words } from "./register.js";
import { iidrOf, PIDR2_V3, PIDRS, PIDRS_BYTES, setStatus } from "./registers-common.js";
import { REDIST_BYTES, VGIC_MIN_LPI } from "./state.js";

const GICR_CTLR = { ENABLE_LPIS: 1 << 0, CES: 1 << 1, IR: 1 << 2 } as const;
const GICR_TYPER = { PLPIS: 1n << 0n, LAST: 1n << 4n, ID_SHIFT: 8n, AFFINITY_SHIFT: 32n } as const;
/** Revision that added CES, IR and the direct invalidations. */
const REV_DIRECT_LPI = 3;
const LOW_WORD = 0xffff_ffffn;

function readCtlr({ vgic, cpu }: RegisterAt): number {
  const direct = vgic.dist.implementationRev >= REV_DIRECT_LPI;
  return (
    (cpu.lpisEnabled ? GICR_CTLR.ENABLE_LPIS : 0) | (direct ? GICR_CTLR.CES | GICR_CTLR.IR : 0)
  );
}

function writeCtlr({ vgic, cpu }: RegisterAt, value: number): void {
  const isOn = (value & GICR_CTLR.ENABLE_LPIS) !== 0;
  if (!vgic.dist.hasIts || isOn === cpu.lpisEnabled) return;
  cpu.lpisEnabled = isOn;
  lpisEnabledChanged(vgic, cpu);
}

function readTyper({ vgic, cpu }: RegisterAt): bigint {
  return (
    (BigInt(cpu.affinity) << GICR_TYPER.AFFINITY_SHIFT) |
    (BigInt(cpu.vcpuId & 0xffff) << GICR_TYPER.ID_SHIFT) |
    (isLastRedist(vgic.dist, cpu) ? GICR_TYPER.LAST : 0n) |
    (vgic.dist.hasIts ? GICR_TYPER.PLPIS : 0n)
  );
}

// ── tables in guest memory ────────────────────────────────────────────────────────────────────

const PROPBASER = wide("GICR_PROPBASER", 0x0070, {
  read: ({ vgic }) => vgic.dist.propbaser,
  write: ({ vgic, cpu }, value, mask) => {
    if (cpu.lpisEnabled) return;
    vgic.dist.propbaser = sanitisePropbaser((vgic.dist.propbaser & ~mask) | value);
  },
});

const PENDBASER = wide("GICR_PENDBASER", 0x0078, {
  read: ({ cpu }) => cpu.pendbaser & ~PENDBASER_PTZ,
  write: ({ cpu }, value, mask) => {
    if (cpu.lpisEnabled) return;
    cpu.pendbaser = sanitisePendbaser((cpu.pendbaser & ~mask) | value);
  },
});

/** Upper words would name vPEs of a nested guest, which there are none of. */
function invalidates({ vgic, cpu }: RegisterAt, mask: bigint): boolean {
  const direct = vgic.dist.implementationRev >= REV_DIRECT_LPI;
  return direct && cpu.lpisEnabled && (mask & LOW_WORD) !== 0n;
}

const INVLPIR = wide("GICR_INVLPIR", 0x00a0, {
  write: (at, value, mask) => {
    const intid = Number(value & LOW_WORD);
    if (!invalidates(at, mask) || intid < VGIC_MIN_LPI) return;
    invalidate(at.vgic, at.cpu, intid);
  },
});

const INVALLR = wide("GICR_INVALLR", 0x00b0, {
  write: (at, _value, mask) => {
    if (invalidates(at, mask)) invalidate(at.vgic, at.cpu, null);
  },
});

/** The second 64 KiB: banked registers of SGIs and PPIs. */
const SGI = 0x1_0000;

const ROWS: readonly Register[] = [
  words("GICR_CTLR", 0x0000, 4, { read: readCtlr, write: writeCtlr }),
  words("GICR_IIDR", 0x0004, 4, { read: ({ vgic }) => iidrOf(vgic.dist) }),
  wide("GICR_TYPER", 0x0008, { read: readTyper }),
  words("GICR_STATUSR", 0x0010, 4, {
    read: ({ cpu }) => cpu.statusr,
    write: ({ cpu }, value) => {
      cpu.statusr &= ~value;
    },
    userWrite: ({ cpu }, value) => setStatus(cpu, value),
  }),
  // Awake at once, always.
  words("GICR_WAKER", 0x0014, 4),
  PROPBASER,
  PENDBASER,
  INVLPIR,
  INVALLR,
  words("GICR_SYNCR", 0x00c0, 4),
  words("GICR_PIDR", PIDRS, PIDRS_BYTES, { read: PIDR2_V3 }),
  perIrq("GICR_IGROUPR0", SGI + 0x080, "private", FIELD.group),
  perIrq("GICR_ISENABLER0", SGI + 0x100, "private", FIELD.enable),
  perIrq("GICR_ICENABLER0", SGI + 0x180, "private", FIELD.disable),
  perIrq("GICR_ISPENDR0", SGI + 0x200, "private", FIELD.pendV3),
  perIrq("GICR_ICPENDR0", SGI + 0x280, "private", FIELD.unpendV3),
  perIrq("GICR_ISACTIVER0", SGI + 0x300, "private", FIELD.activate),
  perIrq("GICR_ICACTIVER0", SGI + 0x380, "private", FIELD.deactivate),
  perIrq("GICR_IPRIORITYR", SGI + 0x400, "private", FIELD.priority),
  perIrq("GICR_ICFGR", SGI + 0xc00, "private", FIELD.config),
  words("GICR_IGRPMODR0", SGI + 0xd00, 4),
  words("GICR_NSACR", SGI + 0xe00, 4),
];

export const REDIST_FRAME = new RegisterFrame(REDIST_BYTES, ROWS);
