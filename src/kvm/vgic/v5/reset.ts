// Owns: a GICv5 as INIT has left it, for a machine that is reset. VM thread.
// Our choice: the merged KVM has no way back. Registers and tables are taken only before the first
// run, and a valid IST_BASER stays; whoever resets a VM there makes it anew.
import type { V5Context } from "./context.js";
import { V5Spi, V5State } from "./state.js";

/** Of the IRS, interrupts and CPU interfaces. No vCPU is in the guest; lines are driven anew. */
export function resetV5({ state, tables, tracking }: V5Context): void {
  tables.freeLpis();
  const { enabled, cr1, spiSelr, peSelr, istValid, istAddress, istCfgr } = new V5State();
  Object.assign(state, { enabled, cr1, spiSelr, peSelr, istValid, istAddress, istCfgr });
  state.replay = [];
  for (const spi of state.spis) {
    Object.assign(spi, { ...new V5Spi(spi.id), keepsLevel: spi.keepsLevel });
  }
  tables.words("spi").fill(0);
  tables.domain?.rescan();
  for (const { state: registers, lines } of state.cpus) {
    registers.reset();
    lines.fill(0);
  }
  tracking.load({ list: [], untracked: [], raised: [] });
}
