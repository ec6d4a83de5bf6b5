// Owns: the board's interrupt wires: each device's level, told to KVM when it changes. VM thread.
//
//   device ──IrqLine──▶ level of an SPI ──KVM_IRQ_LINE──▶ vGIC; without one the wire ends here
import type { Saved } from "../../base/saved.js";
import { irqLine, type Kvm } from "../../kvm/index.js";
import type { GicVersion } from "../definition.js";
import type { IrqLine } from "./device.js";

/** What KVM_IRQ_LINE calls the first SPI: its INTID, or, as a GICv5 has types, its ID. */
const SPI_BASE: Readonly<Record<GicVersion, number>> = { 2: 32, 3: 32, 5: 0 };
/** KVM_ARM_IRQ_TYPE_SPI in the `irq` of KVM_IRQ_LINE. */
const TYPE_SPI = 1 << 24;

export class Interrupts {
  readonly #kvm: Kvm;
  readonly #gic: GicVersion | undefined;
  readonly #levels = new Map<number, boolean>();

  /** @param gic undefined: the wires end nowhere */
  constructor(kvm: Kvm, gic: GicVersion | undefined) {
    this.#kvm = kvm;
    this.#gic = gic;
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
    if (this.#gic === undefined) return;
    irqLine(this.#kvm.vm, TYPE_SPI | (SPI_BASE[this.#gic] + spi), level);
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
