// Owns: what the files of a GICv5 need of one another, without a circle. VM thread.
import type { Vm } from "../../vm.js";
import type { V5Spi, V5State } from "./state.js";
import type { V5Tables } from "./tables.js";
import type { SpiTracking } from "./tracking.js";

export interface V5Context {
  readonly vm: Vm;
  readonly state: V5State;
  /** Tables that the hardware works on. */
  readonly tables: V5Tables;
  readonly tracking: SpiTracking;
  /** GIC VDPEND: tells the hardware what is pending of an SPI. */
  tellPending(spi: V5Spi): void;
  /** IRSEN, or a table, has changed: every vCPU looks again before it goes on. */
  reload(): void;
}
