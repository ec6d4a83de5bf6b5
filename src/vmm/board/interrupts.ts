// Owns: the board's interrupt wires: each device's level, told to KVM when it changes. VM thread.
//
//   device ──IrqLine──▶ level of an SPI ──KVM_IRQ_LINE──▶ vGIC; without one the wire ends here
import type { Saved } from "../../base/saved.js";
import { irqLine, type Kvm } from "../../kvm/index.js";
import type { IrqLine } from "./device.js";

/** First INTID of an SPI. */
const SPI_BASE = 32;
/** KVM_ARM_IRQ_TYPE_SPI in the `irq` of KVM_IRQ_LINE. */
const TYPE_SPI = 1 << 24;

export class Interrupts {
  readonly #kvm: Kvm;
  readonly #hasGic: boolean;
  readonly #levels = new Map<number, boolean>();

  constructor(kvm: Kvm, hasGic: boolean) {
    this.#kvm = kvm;
    this.#hasGic = hasGic;
  }

  /** The wire to an SPI, counted from 0. */
  spi(spi: number): IrqLine {
    this.#levels.set(spi, false);
    return (level) => {
      if (this.#levels.get(spi) === level) return;
      this.#levels.set(spi, level);
      this.#drive(spi, level);
    };
  }

  /** After the controller forgot everything: tells it of each wire that is high. */
  driveAll(): void {
    for (const [spi, level] of this.#levels) if (level) this.#drive(spi, level);
  }

  #drive(spi: number, level: boolean): void {
    if (this.#hasGic) irqLine(this.#kvm.vm, TYPE_SPI | (SPI_BASE + spi), level);
  }

  save(): Saved {
    return { kind: "interrupts", version: 1, data: { levels: [...this.#levels] } };
  }

  /** The controller's own saved state has the levels already. */
  load(saved: Saved): void {
    for (const [spi, level] of (saved.data as { levels: [number, boolean][] }).levels) {
      this.#levels.set(spi, level);
    }
  }
}
