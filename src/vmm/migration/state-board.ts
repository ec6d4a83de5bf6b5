// Owns: the part of a state that holds a board: its devices, its console, whether it runs.
// VM thread.
import { KvmError } from "../../base/errors.js";
import type { Saved } from "../../base/saved.js";
import type { Op } from "../../kvm/index.js";
import type { Machine } from "../machine.js";
import type { StatePart } from "./state-part.js";
import { STATE_VERSIONS } from "./state-versions.table.js";

interface BoardState {
  /** It goes on by itself when it is let go. */
  readonly runs: boolean;
  /** null: the VM has none. */
  readonly board: Saved | null;
}

interface BoardData {
  readonly hardware: Saved;
}
interface HardwareData {
  readonly memory: Saved;
}

/** Which pages devices wrote to is for whoever reads the log at the source. */
function save(m: Machine): BoardState {
  const { board, held } = m;
  if (board === null) return { runs: held.wasRunning, board: null };
  const saved = board.save();
  const data = saved.data as BoardData;
  const hardware = data.hardware.data as HardwareData;
  const memory = { ...hardware.memory, data: { written: null } };
  const parts = { ...data.hardware, data: { ...hardware, memory } };
  return { runs: held.wasRunning, board: { ...saved, data: { ...data, hardware: parts } } };
}

/** Bytes that the guest wrote to disks; a host charges them like the guest's own writes. */
function diskBytes(saved: unknown): number {
  if (typeof saved !== "object" || saved === null || ArrayBuffer.isView(saved)) return 0;
  if ("kind" in saved && saved.kind === "disk") {
    const { written } = (saved as Saved).data as { written: readonly [number, Uint8Array][] };
    return written.reduce((sum, [, bytes]) => sum + bytes.length, 0);
  }
  return Object.values(saved).reduce((sum: number, member) => sum + diskBytes(member), 0);
}

function* load(m: Machine, { runs, board: saved }: BoardState): Op<void> {
  const { board, held } = m;
  held.wasRunning = runs;
  if (board === null || saved === null) return;
  const bytes = diskBytes(saved);
  if (!m.kvm.vm.account.charge(bytes)) {
    throw new KvmError("ENOMEM", "mmap", `no room for ${bytes} bytes that the guest wrote to disk`);
  }
  board.load(saved);
  // A flash's slot follows its mode.
  yield* board.hardware.settle();
}

export const BOARD_PART: StatePart<BoardState> = {
  kind: "board",
  version: STATE_VERSIONS.board,
  save,
  check: (m, { board }) => {
    if (m.board === null || m.board.hardware.isBuilt) return null;
    return board === null ? null : "its image is not loaded yet";
  },
  load: ({ m }, data) => load(m, data),
};
