// Owns: the attributes of a KVM_DEV_TYPE_ARM_VGIC_V2 device. VM thread.
// @source arch/arm64/kvm/vgic/vgic-kvm-device.c by behaviour; kvm-uapi.md 6.2; interrupts.md 3.11
import {
  ADDR,
  CTRL,
  check,
  checkStopped,
  type FrameAttr,
  GET,
  GROUP,
  getFrame,
  HAS,
  init,
  refused,
  SET,
  setFrame,
  setNrIrqs,
  u32At,
  u32Bytes,
} from "./attribute.js";
import type { VgicContext } from "./context.js";
import type { KvmDevice } from "./device-port.js";
import { CPU_V2_BYTES, DIST_V2_BYTES, FRAME_ALIGN_V2 } from "./frame-range.js";
import { type FrameTarget, hasWord, userRead, userWrite } from "./register.js";
import { CPU_V2_FRAME } from "./registers-cpu-v2.table.js";
import { DIST_V2_FRAME } from "./registers-dist-v2.table.js";

const FRAMES: ReadonlyMap<bigint, FrameAttr> = new Map([
  [ADDR.V2_DIST, { field: "distBase", bytes: DIST_V2_BYTES, align: FRAME_ALIGN_V2 }],
  [ADDR.V2_CPU, { field: "cpuBase", bytes: CPU_V2_BYTES, align: FRAME_ALIGN_V2 }],
]);
const CPUID_SHIFT = 32n;
const CPUID = 0xffn;

export class VgicV2Device implements KvmDevice {
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
        return FRAMES.has(attr);
      case GROUP.DIST_REGS:
      case GROUP.CPU_REGS: {
        const offset = offsetOf(attr);
        return offset % 4 === 0 && hasWord(this.#frame(group, attr, HAS), offset);
      }
      case GROUP.CTRL:
        return attr === CTRL.INIT;
      default:
        return group === GROUP.NR_IRQS;
    }
  }

  get(group: number, attr: bigint): Uint8Array {
    const vgic = this.#vgic;
    switch (group) {
      case GROUP.ADDR:
        return getFrame(vgic, this.#address(attr, GET));
      case GROUP.NR_IRQS:
        return u32Bytes(vgic.dist.nrIrqs);
      case GROUP.DIST_REGS:
      case GROUP.CPU_REGS: {
        const target = this.#frame(group, attr, GET);
        this.#prepare(GET);
        return u32Bytes(userRead(target, offsetOf(attr)));
      }
      default:
        throw refused("ENXIO", GET);
    }
  }

  set(group: number, attr: bigint, value: Uint8Array): void {
    const vgic = this.#vgic;
    switch (group) {
      case GROUP.ADDR:
        setFrame(vgic, this.#address(attr, SET), value);
        break;
      case GROUP.NR_IRQS:
        setNrIrqs(vgic, value);
        break;
      case GROUP.CTRL:
        if (attr !== CTRL.INIT) throw refused("ENXIO", SET);
        init(vgic);
        break;
      case GROUP.DIST_REGS:
      case GROUP.CPU_REGS: {
        const target = this.#frame(group, attr, SET);
        const word = u32At(value, SET);
        this.#prepare(SET);
        check(userWrite(target, offsetOf(attr), word), SET);
        break;
      }
      default:
        throw refused("ENXIO", SET);
    }
  }

  #address(attr: bigint, ioctl: string): FrameAttr {
    const frame = FRAMES.get(attr);
    if (frame === undefined) throw refused("ENXIO", ioctl);
    return frame;
  }

  /** By vCPU id, in bits 39:32. */
  #frame(group: number, attr: bigint, ioctl: string): FrameTarget {
    const id = Number((attr >> CPUID_SHIFT) & CPUID);
    const cpu = this.#vgic.dist.cpus.find(({ vcpuId }) => vcpuId === id);
    if (cpu === undefined) throw refused("EINVAL", ioctl, `the VM has no vCPU ${id}`);
    const frame = group === GROUP.DIST_REGS ? DIST_V2_FRAME : CPU_V2_FRAME;
    return { frame, vgic: this.#vgic, cpu };
  }

  /** The first access initialises. @throws KvmError EBUSY */
  #prepare(ioctl: string): void {
    checkStopped(this.#vgic, ioctl);
    init(this.#vgic);
  }
}

function offsetOf(attr: bigint): number {
  return Number(attr & 0xffff_ffffn);
}
