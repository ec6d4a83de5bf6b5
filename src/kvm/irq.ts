// Owns: interrupt ioctls on a VM without an in-kernel controller, and its routing table. VM thread.
// The emulated host has no vGIC yet; everything here answers as KVM does on such a host.
// @source virt/kvm/irqchip.c, eventfd.c, arch/arm64/kvm/vgic/vgic-irqfd.c by behaviour
import { KvmError } from "../base/errors.js";
import type { Saved } from "../base/saved.js";
import { type EventfdArg, type EventfdPort, resolveEventfd } from "./io-bus.js";
import {
  KVM_IRQ_ROUTING,
  KVM_IRQCHIP_NUM_PINS,
  KVM_IRQFD,
  KVM_MAX_IRQ_ROUTES,
  KVM_MSI_VALID_DEVID,
  KVM_NR_IRQCHIPS,
} from "./uapi/flags.js";

export interface Route {
  readonly gsi: number;
  readonly type: number;
  readonly flags: number;
  readonly irqchip: number;
  readonly pin: number;
  readonly addressLo: number;
  readonly addressHi: number;
  readonly data: number;
  readonly devid: number;
}

export class IrqRouting {
  #routes: readonly Route[] = [];

  list(): readonly Route[] {
    return this.#routes;
  }

  /** Replaces the whole table; on any error the old one stays. */
  set(flags: number, routes: readonly Route[]): void {
    const einval = (why: string) => new KvmError("EINVAL", "KVM_SET_GSI_ROUTING", why);
    if (routes.length > KVM_MAX_IRQ_ROUTES) {
      throw einval(`a table holds at most ${KVM_MAX_IRQ_ROUTES} entries`);
    }
    if (flags !== 0) throw einval("flags must be 0");
    const byGsi = new Map<number, Route[]>();
    for (const [at, route] of routes.entries()) {
      const why = refusal(route, byGsi.get(route.gsi) ?? []);
      if (why !== null) throw einval(`entry ${at}: ${why}`);
      byGsi.set(route.gsi, [...(byGsi.get(route.gsi) ?? []), route]);
    }
    this.#routes = routes.map((route) => ({ ...route }));
  }

  save(): Saved {
    return { kind: "irq-routing", version: 1, data: { routes: this.#routes } };
  }

  load(saved: Saved): void {
    this.#routes = (saved.data as { routes: Route[] }).routes;
  }
}

/** Why KVM refuses an entry, or null. */
function refusal(route: Route, sameGsi: readonly Route[]): string | null {
  if (route.gsi >= KVM_MAX_IRQ_ROUTES) return `gsi must be below ${KVM_MAX_IRQ_ROUTES}`;
  if (route.type === KVM_IRQ_ROUTING.MSI) {
    if ((route.flags & ~KVM_MSI_VALID_DEVID) !== 0) return "only VALID_DEVID may be set in flags";
  } else if (route.flags !== 0) {
    return "flags must be 0";
  }
  for (const other of sameGsi) {
    const bothChips =
      other.type === KVM_IRQ_ROUTING.IRQCHIP && route.type === KVM_IRQ_ROUTING.IRQCHIP;
    if (!bothChips || other.irqchip === route.irqchip) return "its gsi already has a route";
  }
  if (route.type === KVM_IRQ_ROUTING.IRQCHIP) {
    if (route.irqchip >= KVM_NR_IRQCHIPS) return "there is only irqchip 0";
    if (route.pin >= KVM_IRQCHIP_NUM_PINS) return `pin must be below ${KVM_IRQCHIP_NUM_PINS}`;
    return null;
  }
  return route.type === KVM_IRQ_ROUTING.MSI ? null : "type must be 1 (irqchip) or 2 (MSI)";
}

/** KVM_IRQFD on a VM whose vGIC is not initialised. */
export function irqfdWithoutVgic(port: EventfdPort, args: { fd: EventfdArg; flags: number }): void {
  const ioctl = "KVM_IRQFD";
  if ((args.flags & ~(KVM_IRQFD.DEASSIGN | KVM_IRQFD.RESAMPLE)) !== 0) {
    throw new KvmError("EINVAL", ioctl, "flags may hold only DEASSIGN (1) and RESAMPLE (2)");
  }
  if ((args.flags & KVM_IRQFD.DEASSIGN) !== 0) {
    resolveEventfd(port, args.fd, ioctl);
    return;
  }
  throw new KvmError("EAGAIN", ioctl, "the VM has no initialised vGIC", "vgic-not-initialized");
}

/** KVM_SIGNAL_MSI without an in-kernel controller. */
export function signalMsiWithoutVgic(): never {
  throw new KvmError("EINVAL", "KVM_SIGNAL_MSI", "the VM has no in-kernel interrupt controller");
}

/** KVM_CREATE_DEVICE on a host that registered no device type. */
export function createDeviceWithoutTypes(type: number): never {
  throw new KvmError("ENODEV", "KVM_CREATE_DEVICE", `this host offers no device of type ${type}`);
}
