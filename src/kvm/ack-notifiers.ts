// Owns: who is told that the guest is done with a GSI. VM thread.
// @source virt/kvm/eventfd.c (kvm_notify_acked_irq and its neighbours) by behaviour;
//   interrupts.md 1.9
import type { IrqRouting } from "./irq-routing.js";

/** Called with nothing locked: it may inject, and attach or detach irqfds. */
export type AckNotifier = () => void;

export class AckNotifiers {
  readonly #routing: IrqRouting;
  /** By GSI, newest first. */
  readonly #byGsi = new Map<number, readonly AckNotifier[]>();

  constructor(routing: IrqRouting) {
    this.#routing = routing;
  }

  register(gsi: number, notifier: AckNotifier): void {
    this.#byGsi.set(gsi, [notifier, ...(this.#byGsi.get(gsi) ?? [])]);
  }

  unregister(gsi: number, notifier: AckNotifier): void {
    const left = (this.#byGsi.get(gsi) ?? []).filter((other) => other !== notifier);
    if (left.length > 0) this.#byGsi.set(gsi, left);
    else this.#byGsi.delete(gsi);
  }

  /** kvm_irq_has_notifier. @param pin of the irqchip; not a GSI */
  has(irqchip: number, pin: number): boolean {
    return this.#byGsi.has(this.#routing.gsiOf(irqchip, pin));
  }

  /** kvm_notify_acked_irq. */
  ack(irqchip: number, pin: number): void {
    const gsi = this.#routing.gsiOf(irqchip, pin);
    for (const notifier of this.#byGsi.get(gsi) ?? []) {
      // One before it may have taken it off: after that nobody is called back.
      if (this.#byGsi.get(gsi)?.includes(notifier) === true) notifier();
    }
  }
}
