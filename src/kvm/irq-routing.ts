// Owns: which interrupt a GSI raises: the routing table, its default, and the way back from a pin
// to its GSI. VM thread.
// @source virt/kvm/irqchip.c, arch/arm64/kvm/vgic/vgic-irqfd.c by behaviour; interrupts.md 2.1-2.3
import { KvmError } from "../base/errors.js";
import type { Saved } from "../base/saved.js";
import {
  KVM_IRQ_ROUTING,
  KVM_IRQCHIP_NUM_PINS,
  KVM_MAX_IRQ_ROUTES,
  KVM_MSI_VALID_DEVID,
  KVM_NR_IRQCHIPS,
} from "./uapi/flags.js";
import type { Msi } from "./vgic/msi-port.js";

export interface Route extends Msi {
  readonly gsi: number;
  readonly type: number;
  readonly irqchip: number;
  readonly pin: number;
}

export class IrqRouting {
  #routes: readonly Route[] = [];
  readonly #byGsi = new Map<number, Route[]>();
  readonly #gsiByPin = new Map<number, number>();
  /** Told of every new table: snapshots of it are stale. */
  onChange: (() => void) | null = null;

  list(): readonly Route[] {
    return this.#routes;
  }

  /** Every route of a GSI. */
  of(gsi: number): readonly Route[] {
    return this.#byGsi.get(gsi) ?? [];
  }

  /** @returns the GSI of an irqchip's pin, or -1; of several, the one that was listed last */
  gsiOf(irqchip: number, pin: number): number {
    return irqchip < KVM_NR_IRQCHIPS ? (this.#gsiByPin.get(pin) ?? -1) : -1;
  }

  /** kvm_vgic_setup_default_irq_routing: GSI n is pin n, for each SPI. */
  setDefaults(nrSpis: number): void {
    const pins = Math.min(nrSpis, KVM_IRQCHIP_NUM_PINS);
    const none = { flags: 0, irqchip: 0, addressLo: 0, addressHi: 0, data: 0, devid: 0 };
    this.#install(
      Array.from({ length: pins }, (_, n) => ({
        ...none,
        gsi: n,
        pin: n,
        type: KVM_IRQ_ROUTING.IRQCHIP,
      })),
    );
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
    this.#install(routes.map((route) => ({ ...route })));
  }

  #install(routes: readonly Route[]): void {
    this.#routes = routes;
    this.#byGsi.clear();
    this.#gsiByPin.clear();
    for (const route of routes) {
      const others = this.#byGsi.get(route.gsi);
      if (others === undefined) this.#byGsi.set(route.gsi, [route]);
      else others.push(route);
      if (route.type === KVM_IRQ_ROUTING.IRQCHIP) this.#gsiByPin.set(route.pin, route.gsi);
    }
    this.onChange?.();
  }

  save(): Saved {
    return { kind: "irq-routing", version: 1, data: { routes: this.#routes } };
  }

  load(saved: Saved): void {
    this.#install((saved.data as { routes: Route[] }).routes);
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
