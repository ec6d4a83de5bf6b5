// Owns: the registers of a GICv2 distributor frame. Data, but for the functions that rows name. VM
// thread.
// @source arch/arm64/kvm/vgic/vgic-mmio-v2.c by behaviour; interrupts.md 4.1
import type { ErrnoName } from "../../base/errno.table.js";
import { DIST_V2_BYTES } from "./frame-range.js";
import { FIELD, perIrq } from "./irq-field.js";
import { type Register, type RegisterAt, RegisterFrame, WIDTH, words } from "./register.js";
import { ITLINES_OF, iidrOf, setRevision } from "./registers-common.js";
import { sendSgiV2 } from "./sgi.js";

const ENABLE = 1 << 0;
const CPU_NUMBER_SHIFT = 5;
/** Words of GICD_CTLR's row. */
const [CTLR, TYPER, IIDR] = [0, 4, 8]; // tidy: offsets
const ICPIDR2_GICV2 = 0x2b;

function readMisc({ vgic, offset }: RegisterAt): number {
  const { dist } = vgic;
  switch (offset) {
    case CTLR:
      return dist.enabled ? ENABLE : 0;
    case TYPER:
      return ITLINES_OF(dist) | ((dist.cpus.length - 1) << CPU_NUMBER_SHIFT);
    default:
      return iidrOf(dist);
  }
}

function writeMisc({ vgic, offset }: RegisterAt, value: number): void {
  if (offset !== CTLR) return;
  const wasEnabled = vgic.dist.enabled;
  vgic.dist.enabled = (value & ENABLE) !== 0;
  if (!wasEnabled && vgic.dist.enabled) vgic.delivery.switchedOn();
}

function userWriteMisc(at: RegisterAt, value: number): ErrnoName | null {
  const { dist } = at.vgic;
  if (at.offset !== IIDR) {
    writeMisc(at, value);
    return null;
  }
  const errno = setRevision(dist, value);
  // Who writes IIDR knows of groups: older userspace restored garbage there.
  if (errno === null) dist.v2GroupsUserWritable = true;
  return errno;
}

const ROWS: readonly Register[] = [
  words("GICD_CTLR", 0x000, 12, { read: readMisc, write: writeMisc, userWrite: userWriteMisc }), // tidy: three words
  perIrq("GICD_IGROUPR", 0x080, "all", FIELD.groupV2),
  perIrq("GICD_ISENABLER", 0x100, "all", FIELD.enable),
  perIrq("GICD_ICENABLER", 0x180, "all", FIELD.disable),
  perIrq("GICD_ISPENDR", 0x200, "all", FIELD.pendV2),
  perIrq("GICD_ICPENDR", 0x280, "all", FIELD.unpendV2),
  perIrq("GICD_ISACTIVER", 0x300, "all", FIELD.activate),
  perIrq("GICD_ICACTIVER", 0x380, "all", FIELD.deactivate),
  perIrq("GICD_IPRIORITYR", 0x400, "all", FIELD.priority),
  perIrq("GICD_ITARGETSR", 0x800, "all", FIELD.targets),
  perIrq("GICD_ICFGR", 0xc00, "all", FIELD.config),
  words("GICD_SGIR", 0xf00, 4, { write: ({ vgic, cpu }, value) => sendSgiV2(vgic, cpu, value) }),
  perIrq("GICD_CPENDSGIR", 0xf10, "sgi", FIELD.sgiSourceClear),
  perIrq("GICD_SPENDSGIR", 0xf20, "sgi", FIELD.sgiSourceSet),
  words("GICD_ICPIDR2", 0xfe8, 4, {
    widths: WIDTH.BYTE | WIDTH.WORD,
    read: () => ICPIDR2_GICV2,
  }),
];



export const DIST_V2_FRAME = new RegisterFrame(DIST_V2_BYTES, ROWS);
