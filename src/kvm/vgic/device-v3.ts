// Owns: the attributes of a KVM_DEV_TYPE_ARM_VGIC_V3 device. VM thread.
// @source arch/arm64/kvm/vgic/vgic-kvm-device.c by behaviour; kvm-uapi.md 6.2; interrupts.md 3.11
import {
  ADDR,
  addressBytes,
  CTRL,
  check,
  checkStopped,
  type FrameAttr,
  GET,
  GROUP,
  getFrame,
  HAS,
  init,
  ipaOf,
  refused,
  SET,
  setFrame,
  setNrIrqs,
  u32At,
  u32Bytes,
  u64At,
  u64Bytes,
} from "./attribute.js";
import type { VgicContext } from "./context.js";
import type { KvmDevice } from "./device-port.js";
import { DIST_V3_BYTES, FRAME_ALIGN } from "./frame-range.js";
import { hasIcc, readIcc, writeIcc } from "./icc-access.js";
import { savePendingTables } from "./lpi.js";
import { addRegion } from "./redist.js";
import { type FrameTarget, hasWord, userRead, userWrite } from "./register.js";
import { DIST_V3_FRAME } from "./registers-dist-v3.table.js";
import { REDIST_FRAME } from "./registers-redist.table.js";
import { VGIC_NR_PRIVATE_IRQS, VGIC_NR_SGIS, type VgicCpu } from "./state.js";

const DIST: FrameAttr = { field: "distBase", bytes: DIST_V3_BYTES, align: FRAME_ALIGN };
const ADDRESSES: readonly bigint[] = [ADDR.V3_DIST, ADDR.V3_REDIST, ADDR.V3_REDIST_REGION];
/** KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION: count[63:52] base[51:16] flags[15:12] index[11:0]. */
const REGION = {
  COUNT_SHIFT: 52n,
  BASE: 0xf_ffff_ffff_0000n,
  FLAGS: 0xf000n,
  INDEX: 0xfffn, // tidy: bits of an attribute
} as const;
/** LEVEL_INFO: info[31:10] INTID[9:0]. */
const LEVEL = { INFO_SHIFT: 10n, INFO: 0x3f_ffffn, INTID: 0x3ffn } as const;
const LINES = 32;
/** Distributor registers that may be accessed before INIT: GICD_IIDR and GICD_TYPER2. */
const BEFORE_INIT: readonly number[] = [0x8, 0xc];

export class VgicV3Device implements KvmDevice {
  readonly type: number;
  readonly #vgic: VgicContext;

  constructor(vgic: VgicContext, type: number) {
    this.#vgic = vgic;
    this.type = type;
  }

  has(group: number, attr: bigint): void {
    if (!this.#has(group, attr)) throw refused("ENXIO", HAS);
  }

  #has(group: number, attr: bigint): boolean {
    switch (group) {
      case GROUP.ADDR:
        return ADDRESSES.includes(attr);
      case GROUP.DIST_REGS:
      case GROUP.REDIST_REGS: {
        const offset = offsetOf(attr);
        return offset % 4 === 0 && hasWord(this.#frame(group, attr, HAS), offset);
      }
      case GROUP.CPU_SYSREGS:
        this.#cpu(attr, HAS);
        return hasIcc(encodingOf(attr));
      case GROUP.LEVEL_INFO:
        return infoOf(attr) === 0n;
      case GROUP.CTRL:
        return attr === CTRL.INIT || attr === CTRL.SAVE_PENDING_TABLES;
      default:
        return group === GROUP.NR_IRQS || group === GROUP.MAINT_IRQ;
    }
  }

  get(group: number, attr: bigint, value: Uint8Array): Uint8Array {
    const vgic = this.#vgic;
    switch (group) {
      case GROUP.ADDR:
        return this.#getAddress(attr, value);
      case GROUP.NR_IRQS:
        return u32Bytes(vgic.dist.nrIrqs);
      case GROUP.DIST_REGS:
      case GROUP.REDIST_REGS: {
        const target = this.#frame(group, attr, GET);
        this.#checkAccess(group, attr, GET);
        return u32Bytes(userRead(target, offsetOf(attr)));
      }
      case GROUP.CPU_SYSREGS: {
        const cpu = this.#cpu(attr, GET);
        this.#checkAccess(group, attr, GET);
        return u64Bytes(readIcc(cpu, encodingOf(attr)));
      }
      case GROUP.LEVEL_INFO: {
        const cpu = this.#cpu(attr, GET);
        this.#checkAccess(group, attr, GET);
        return u32Bytes(readLines(vgic, cpu, linesOf(attr, GET)));
      }
      case GROUP.MAINT_IRQ:
        return u32Bytes(vgic.dist.maintenanceIrq);
      default:
        throw refused("ENXIO", GET);
    }
  }

  set(group: number, attr: bigint, value: Uint8Array): void {
    const vgic = this.#vgic;
    switch (group) {
      case GROUP.ADDR:
        this.#setAddress(attr, value);
        break;
      case GROUP.NR_IRQS:
        setNrIrqs(vgic, value);
        break;
      case GROUP.CTRL:
        this.#control(attr);
        break;
      case GROUP.DIST_REGS:
      case GROUP.REDIST_REGS: {
        const target = this.#frame(group, attr, SET);
        const word = u32At(value, SET);
        this.#checkAccess(group, attr, SET);
        check(userWrite(target, offsetOf(attr), word), SET);
        break;
      }
      case GROUP.CPU_SYSREGS: {
        const cpu = this.#cpu(attr, SET);
        this.#checkAccess(group, attr, SET);
        writeIcc(cpu, encodingOf(attr), () => u64At(value, SET));
        break;
      }
      case GROUP.LEVEL_INFO: {
        const cpu = this.#cpu(attr, SET);
        const word = u32At(value, SET);
        this.#checkAccess(group, attr, SET);
        writeLines(vgic, cpu, linesOf(attr, SET), word);
        break;
      }
      case GROUP.MAINT_IRQ:
        setMaintenanceIrq(vgic, u32At(value, SET));
        break;
      default:
        throw refused("ENXIO", SET);
    }
  }

  // ── whom an attribute names ─────────────────────────────────────────────────────────────────

  /** By affinity; the distributor's registers are seen from the first vCPU. */
  #cpu(attr: bigint, ioctl: string): VgicCpu {
    const cpu = this.#vgic.dist.cpuByAffinity(Number((attr >> 32n) & 0xffff_ffffn));
    if (cpu === null) throw refused("EINVAL", ioctl, "no vCPU has this affinity");
    return cpu;
  }

  #frame(group: number, attr: bigint, ioctl: string): FrameTarget {
    const vgic = this.#vgic;
    if (group === GROUP.REDIST_REGS)
      return { frame: REDIST_FRAME, vgic, cpu: this.#cpu(attr, ioctl) };
    const [cpu] = vgic.dist.cpus;
    if (cpu === undefined) throw refused("EINVAL", ioctl, "the VM has no vCPU");
    return { frame: DIST_V3_FRAME, vgic, cpu };
  }

  #checkAccess(group: number, attr: bigint, ioctl: string): void {
    checkStopped(this.#vgic, ioctl);
    const isEarly = group === GROUP.DIST_REGS && BEFORE_INIT.includes(offsetOf(attr));
    if (!this.#vgic.dist.isInitialized && !isEarly) {
      throw refused("EBUSY", ioctl, "the vGIC is not initialised");
    }
  }

  // ── addresses ───────────────────────────────────────────────────────────────────────────────

  #setAddress(attr: bigint, value: Uint8Array): void {
    const vgic = this.#vgic;
    if (!ADDRESSES.includes(attr)) throw refused("ENXIO", SET);
    const word = u64At(value, SET);
    if (attr === ADDR.V3_DIST) setFrame(vgic, DIST, value);
    else if (attr === ADDR.V3_REDIST) this.#addRegion(0, word, 0);
    else this.#addNumbered(word);
  }

  #addNumbered(word: bigint): void {
    const count = Number(word >> REGION.COUNT_SHIFT);
    if (count === 0 || (word & REGION.FLAGS) !== 0n) {
      throw refused("EINVAL", SET, "a region has at least one redistributor, and flags are 0");
    }
    this.#addRegion(Number(word & REGION.INDEX), word & REGION.BASE, count);
  }

  #addRegion(index: number, address: bigint, count: number): void {
    const { dist, vm } = this.#vgic;
    // As bits: a number would lose the low ones of a very high address.
    if (dist.redistRegions.length === 0 && address % BigInt(FRAME_ALIGN) !== 0n) {
      throw refused("EINVAL", SET, "the region is misaligned");
    }
    check(addRegion(dist, { index, base: ipaOf(address), count }, vm.ipaBits), SET);
  }

  #getAddress(attr: bigint, value: Uint8Array): Uint8Array {
    const { dist } = this.#vgic;
    if (attr === ADDR.V3_DIST) return getFrame(this.#vgic, DIST);
    if (attr === ADDR.V3_REDIST) return addressBytes(dist.redistRegions[0]?.base ?? -1);
    if (attr !== ADDR.V3_REDIST_REGION) throw refused("ENXIO", GET);
    const index = Number(u64At(value, GET) & REGION.INDEX);
    const region = dist.redistRegions.find((other) => other.index === index);
    if (region === undefined) throw refused("ENOENT", GET);
    const count = BigInt(region.count) << REGION.COUNT_SHIFT;
    return u64Bytes(count | BigInt(region.base) | BigInt(index));
  }

  #control(attr: bigint): void {
    const vgic = this.#vgic;
    if (attr === CTRL.INIT) {
      init(vgic);
      return;
    }
    if (attr !== CTRL.SAVE_PENDING_TABLES) throw refused("ENXIO", SET);
    checkStopped(vgic, SET);
    savePendingTables(vgic);
  }
}

function offsetOf(attr: bigint): number {
  return Number(attr & 0xffff_ffffn);
}

function encodingOf(attr: bigint): number {
  return Number(attr & 0xffffn);
}

function infoOf(attr: bigint): bigint {
  return (attr >> LEVEL.INFO_SHIFT) & LEVEL.INFO;
}

// ── line levels ───────────────────────────────────────────────────────────────────────────────

/** @returns first INTID @throws KvmError EINVAL */
function linesOf(attr: bigint, ioctl: string): number {
  const intid = Number(attr & LEVEL.INTID);
  if (infoOf(attr) !== 0n || intid % LINES !== 0) {
    throw refused("EINVAL", ioctl, "lines are told for 32 INTIDs, and the only information is 0");
  }
  return intid;
}

function readLines({ dist }: VgicContext, cpu: VgicCpu, first: number): number {
  let value = 0;
  for (let n = first < VGIC_NR_PRIVATE_IRQS ? VGIC_NR_SGIS : 0; n < LINES; n++) {
    const irq = dist.irq(cpu, first + n);
    if (irq?.config === "level" && irq.lineLevel) value |= 1 << n;
  }
  return value >>> 0;
}

function writeLines(
  { dist, delivery }: VgicContext,
  cpu: VgicCpu,
  first: number,
  value: number,
): void {
  for (let n = first < VGIC_NR_PRIVATE_IRQS ? VGIC_NR_SGIS : 0; n < LINES; n++) {
    const irq = dist.irq(cpu, first + n);
    if (irq === null) continue;
    // Whatever the configuration: a restore may set that later.
    irq.lineLevel = (value & (1 << n)) !== 0;
    if (irq.lineLevel) delivery.queue(irq);
  }
}

function setMaintenanceIrq({ dist }: VgicContext, intid: number): void {
  if (intid < VGIC_NR_SGIS || intid >= VGIC_NR_PRIVATE_IRQS) {
    throw refused("EINVAL", SET, "the maintenance interrupt is a PPI, 16 to 31");
  }
  if (dist.isInitialized) throw refused("EBUSY", SET, "the vGIC is initialised");
  dist.maintenanceIrq = intid;
}
