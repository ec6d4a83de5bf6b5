// Owns: which commands a VM with a board refuses: what they would change is the board's (DESIGN
// 10). Looking at it stays free, and so does what a client adds beside it. VM thread.
import { ServiceError } from "../../base/errors.js";
import type { Command, CommandArgs, CommandName } from "../commands.js";
import { type Board, RAM_SLOT } from "./board.js";

const OWNED: {
  readonly [K in CommandName]?: (args: CommandArgs<K>, board: Board) => boolean;
} = {
  run: () => true,
  runVcpus: () => true,
  createVcpu: () => true,
  vcpuInit: () => true,
  setOneReg: () => true,
  setMpState: () => true,
  setVcpuAttr: () => true,
  setCounterOffset: () => true,
  irqLine: () => true,
  setProgram: () => true,
  setUserMemoryRegion: ({ slot }) => slot === RAM_SLOT,
  setUserMemoryRegion2: ({ slot }) => slot === RAM_SLOT,
  deleteMemoryObject: ({ id }, board) => id === board.ramObject,
};

/** @throws ServiceError "owned-by-board" */
export function refuseOwned(board: Board, { name, args }: Command): void {
  const owned = OWNED[name] as ((args: unknown, board: Board) => boolean) | undefined;
  if (owned?.(args, board) !== true) return;
  throw new ServiceError(
    "owned-by-board",
    `The VM has a board, and ${name} would change what is the board's: use its actions.`,
  );
}
