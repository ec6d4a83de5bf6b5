// Owns: what each command of holding, describing, saving and loading a VM does: one row per name of
// StateCommands. VM thread.
import type { Row } from "../command-row.js";
import { allPagesHere, awaitPages, pagesArrived } from "./absent-pages.js";
import type { StateCommands } from "./commands.js";
import { describeMemory, readSequences, writeSequences } from "./memory-map.js";
import { loadState, requireMovable, saveState } from "./state.js";
import { packed, unpacked } from "./state-packed.js";

export const STATE_COMMANDS: { readonly [K in keyof StateCommands]: Row<K> } = {
  describeMemory: {
    now: (m) => {
      requireMovable(m);
      return describeMemory(m);
    },
  },
  holdVm: { op: (m, { hold, why }) => (hold ? m.held.hold(why) : m.held.letGo(why)) },
  saveState: {
    now: (m, { pack = false }) => {
      const { parts, eventfds } = saveState(m);
      return { parts: pack ? packed(parts) : parts, eventfds };
    },
  },
  loadState: {
    op: (m, { parts, eventfds = [] }) => {
      return loadState(m, unpacked(parts), eventfds);
    },
  },
  awaitPages: { now: (m, args) => awaitPages(m, args) },
  pagesArrived: { now: (m) => pagesArrived(m) },
  allPagesHere: { now: (m) => allPagesHere(m) },
  readSequences: { now: (m, { object, first, count }) => readSequences(m, object, first, count) },
  writeSequences: {
    now: (m, { object, pages, sequences }) => {
      writeSequences(m, object, pages, sequences);
      return null;
    },
  },
};
