// Owns: MSIs on their way to an LPI: doorbells, translation and its cache, KVM_SIGNAL_MSI.
// VM thread.
//
//   KVM_SIGNAL_MSI, irqfd ─▶ doorbell ─▶ cache ───────────────────────────────▶ LPI pending
//                                          └─ miss ─▶ device ─▶ event ─▶ vCPU ───▲
// @source arch/arm64/kvm/vgic/vgic-its.c, vgic-irqfd.c by behaviour; interrupts.md 2.6, 4.6
import { ERRNO, type ErrnoName } from "../../base/errno.table.js";
import { KvmError } from "../../base/errors.js";
import { KVM_MSI_VALID_DEVID } from "../uapi/flags.js";
import type { Vm } from "../vm.js";
import { ITS_ID_BITS, type Its } from "./its.js";
import { makePending } from "./lpi.js";
import type { Msi } from "./msi-port.js";

const GITS_TRANSLATER = 0x1_0040;
const IDS = 2 ** ITS_ID_BITS;

/** Why an MSI doesn't get through: the ITS's state, or the guest's mapping. */
type Refusal = "EBUSY" | "unmapped";

/** vgic_its_trigger_msi. @returns null: the LPI is pending */
export function trigger(its: Its, deviceId: number, eventId: number): Refusal | null {
  const { gic } = its;
  if (!its.enabled || gic === null) return "EBUSY";
  const event = its.event(deviceId, eventId);
  const cpu = event === null ? null : its.targetOf(event.collection);
  if (event === null || cpu === null) return "unmapped";
  if (!cpu.lpisEnabled) return "EBUSY";
  its.cache.set(deviceId * IDS + eventId, event.irq);
  makePending(gic, event.irq);
  return null;
}

/** By its doorbell. */
function itsOf(itses: readonly Its[], { addressHi, addressLo }: Msi): Its | undefined {
  const address = addressHi * 2 ** 32 + addressLo;
  return itses.find(({ base }) => base >= 0 && base + GITS_TRANSLATER === address);
}

/** vgic_its_inject_cached_translation. @returns false: the long way may know it */
export function injectCached(itses: readonly Its[], msi: Msi): boolean {
  if ((msi.flags & KVM_MSI_VALID_DEVID) === 0 || msi.data >= IDS) return false;
  const its = itsOf(itses, msi);
  const irq = its?.cache.get(msi.devid * IDS + msi.data);
  if (irq === undefined || !its?.gic) return false;
  makePending(its.gic, irq);
  return true;
}

/** vgic_its_inject_msi. @returns 1 delivered, 0 the guest has not mapped it, or -errno */
export function inject(itses: readonly Its[], msi: Msi): number {
  if (injectCached(itses, msi)) return 1;
  const its = (msi.flags & KVM_MSI_VALID_DEVID) === 0 ? undefined : itsOf(itses, msi);
  if (its === undefined) return -ERRNO.EINVAL;
  const refusal = trigger(its, msi.devid, msi.data);
  if (refusal === null) return 1;
  return refusal === "unmapped" ? 0 : -ERRNO.EBUSY;
}

const WHY: ReadonlyMap<ErrnoName, string> = new Map<ErrnoName, string>([
  ["EINVAL", "it needs VALID_DEVID and the address of an ITS's GITS_TRANSLATER"],
  ["EBUSY", "the ITS, or LPIs at the vCPU that the event goes to, are disabled"],
]);

/**
 * KVM_SIGNAL_MSI.
 * @returns 1 delivered, 0 the guest has not mapped it
 * @throws KvmError EINVAL, ENODEV, EBUSY
 */
export function signalMsi(vm: Vm, msi: Msi): number {
  const refuse = (errno: ErrnoName, why: string): never => {
    throw new KvmError(errno, "KVM_SIGNAL_MSI", why);
  };
  if (!vm.irqchipInKernel) refuse("EINVAL", "the VM has no in-kernel interrupt controller");
  if ((msi.flags & ~KVM_MSI_VALID_DEVID) !== 0) refuse("EINVAL", "flags may hold VALID_DEVID (1)");
  if (vm.msi === null) return refuse("ENODEV", "the VM has no ITS");
  const done = vm.msi.deliver(msi);
  if (done >= 0) return done;
  const errno: ErrnoName = done === -ERRNO.EBUSY ? "EBUSY" : "EINVAL";
  return refuse(errno, WHY.get(errno) ?? errno);
}
