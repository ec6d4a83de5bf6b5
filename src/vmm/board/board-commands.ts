// Owns: what each command of a board does: one row per name of BoardCommands. VM thread.
import { ServiceError } from "../../base/errors.js";
import type { Row } from "../command-row.js";
import type { BoardDebuggerCommands } from "../debugger-commands.js";
import type { Machine } from "../machine.js";
import type { Board } from "./board.js";
import type { BoardCommands } from "./commands.js";

function boardOf(m: Machine): Board {
  if (m.board !== null) return m.board;
  throw new ServiceError("no-board", "The VM has no board: whoever created it is its VMM.");
}

export const BOARD_COMMANDS: {
  readonly [K in keyof (BoardCommands & BoardDebuggerCommands)]: Row<K>;
} = {
  loadBoard: { op: (m, images) => boardOf(m).install(images) },
  describeBoard: { now: (m) => boardOf(m).view() },
  boardAction: { op: (m, { action }) => boardOf(m).act(action) },
  runBoard: { op: (m, { ns }) => boardOf(m).runFor(ns) },
  logBoard: {
    *op(m, { on }) {
      yield* m.tracking.unlessOwned(() => boardOf(m).setLogging(on));
      m.shadow?.slotsChanged();
      return null;
    },
  },
  readConsole: { now: (m, { offset, limit }) => boardOf(m).read(offset, limit) },
  resumeVcpus: {
    now: (m, { vcpus }) => {
      boardOf(m).resumeOnly(vcpus.map(Number));
      return null;
    },
  },
  describeDebugStop: { now: (m) => boardOf(m).debugStop },
  typeConsole: { now: (m, { bytes }) => boardOf(m).type(bytes) },
};
