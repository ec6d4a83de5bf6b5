// Owns: the states of all SPIs and LPIs as userspace saves and restores them:
// KVM_DEV_ARM_VGIC_GRP_IST. VM thread.
// @source arch/arm64/kvm/vgic/vgic-v5-tables.c by behaviour; interrupts.md 5.15, 7.4
import { KvmError } from "../../../base/errors.js";
import { INTID_TYPE, ISTE, intidOf } from "../../../machine/index.js";
import type { V5Context } from "./context.js";
import { isCfgrValid, lpiIdBitsOf } from "./irs.js";
import type { V5Spi } from "./state.js";

const SET = "KVM_SET_DEVICE_ATTR";
const ENTRY_BYTES = 4;

export interface IstImage {
  readonly spi: Uint8Array;
  /** null: the VM has no table of LPIs. */
  readonly lpi: Uint8Array | null;
}

/** What tables of this VM have in bytes. */
export function istSizes({ state }: V5Context): { spi: number; lpi: number } {
  const lpi = state.istValid ? ENTRY_BYTES * 2 ** lpiIdBitsOf(state) : 0;
  return { spi: ENTRY_BYTES * state.nrSpis, lpi };
}

/** As they are now, with what waits to be pended before the first run. */
export function saveIst(v5: V5Context): IstImage {
  const { state, tables, vm } = v5;
  vm.host.irs.gsbSys();
  const words = { spi: tables.words("spi").slice(), lpi: tables.words("lpi").slice() };
  const bases = [
    [intidOf(INTID_TYPE.SPI, 0), words.spi],
    [intidOf(INTID_TYPE.LPI, 0), words.lpi],
  ] as const;
  for (const intid of state.replay) {
    for (const [base, table] of bases) {
      const word = table[intid - base];
      if (word !== undefined) table[intid - base] = word | ISTE.PENDING;
    }
  }
  return { spi: bytesOf(words.spi), lpi: state.lpiIstBase < 0 ? null : bytesOf(words.lpi) };
}

function bytesOf(words: Uint32Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}

/** @throws KvmError EBUSY, EINVAL, ENOMEM */
export function restoreIst(v5: V5Context, image: IstImage): void {
  const { state, tables, vm } = v5;
  if (!state.isInitialized) throw new KvmError("EBUSY", SET, "the vGIC is not initialised");
  if (vm.hasRun) throw new KvmError("EBUSY", SET, "a vCPU has run");
  const { spi, lpi } = istSizes(v5);
  const einval = (why: string) => new KvmError("EINVAL", SET, why);
  if (image.spi.length !== spi) throw einval(`the table of SPIs has ${spi} bytes`);
  if ((image.lpi?.length ?? 0) !== lpi) throw einval(`the table of LPIs has ${lpi} bytes`);
  if (!state.isIrsRestored) throw einval("registers of the IRS come before its tables");
  if (lpi > 0 && state.lpiIstBase < 0) {
    if (!isCfgrValid(state)) throw einval("IRS_IST_CFGR describes no table that a VM can have");
    if (!tables.allocateLpis(lpiIdBitsOf(state))) {
      throw new KvmError("ENOMEM", SET, "no memory for the table of LPIs");
    }
  }
  state.replay = [];
  restoreTable(v5, "spi", image.spi);
  if (image.lpi !== null) restoreTable(v5, "lpi", image.lpi);
  tables.domain?.rescan();
}

/** HWU is of no use elsewhere; what is pending is told to the hardware before the first run. */
function restoreTable(
  { state, tables, tracking }: V5Context,
  type: "spi" | "lpi",
  bytes: Uint8Array,
) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const words = tables.words(type);
  for (let id = 0; id < words.length; id++) {
    const word = view.getUint32(ENTRY_BYTES * id, true);
    words[id] = word & ~(ISTE.PENDING | ISTE.HWU);
    const isPending = (word & ISTE.PENDING) !== 0;
    if (isPending) {
      state.replay.push(intidOf(type === "spi" ? INTID_TYPE.SPI : INTID_TYPE.LPI, id));
    }
    const spi = type === "spi" ? state.spi(id) : null;
    if (spi === null) continue;
    restoreSpi(spi, word);
    tracking.restored(spi, (word & ISTE.ACTIVE) !== 0);
  }
}

function restoreSpi(spi: V5Spi, word: number): void {
  spi.config = (word & ISTE.HM) === 0 ? "edge" : "level";
  spi.pendingLatch = (word & ISTE.PENDING) !== 0;
  spi.lineLevel = false;
}

/** Before the first run after a restore. */
export function replayPending({ state, tracking, vm }: V5Context, tell: (intid: number) => void) {
  if (state.replay.length === 0) return;
  for (const intid of state.replay) tell(intid);
  state.replay = [];
  vm.host.irs.gsbSys();
  tracking.notifiersChanged();
}
