// Owns: what tier 1 translates as one function: the code of a page that is reached from a record,
// as basic blocks in the order of their addresses. VM thread.
//
// Followed are branches and calls within the page, as far as tier 0 has been there: what was never
// executed is left out. Entered from outside is where it was asked for, and where calls and system
// instructions come back.
import type { Insn } from "../insn.js";
import type { Operands } from "../operand.js";
import type { Decoder, Fields } from "../pattern.js";
import { RECORDS_PER_PAGE } from "../window.js";

/** Instructions of one function at most: V8's optimiser takes more than linear time. */
export const REGION_MAX = 160;

/** An instruction, decoded; places in the page count instructions. */
export interface Decoded {
  readonly at: number;
  /** null: UNDEFINED. */
  readonly row: Insn | null;
  readonly fields: Fields;
  readonly operands: Operands;
  /** Target within the page of a direct branch, or -1. */
  readonly target: number;
}

export interface Block {
  readonly insns: readonly Decoded[];
  /** Entered from outside the region. */
  readonly isEntry: boolean;
  /** Blocks that follow within the region. */
  readonly successors: readonly number[];
}

export interface Region {
  readonly blocks: readonly Block[];
  /** Number of the block that begins at a place in the page. */
  readonly blockAt: ReadonlyMap<number, number>;
  readonly instructions: number;
}

/** What may follow an instruction without leaving for good, and what comes back. */
function flowOf({ row }: Decoded): {
  readonly falls: boolean;
  readonly branches: boolean;
  readonly returns: boolean;
} {
  switch (row === null ? "undefined" : row.spec.flow) {
    case undefined:
      return { falls: true, branches: false, returns: false };
    case "jump":
      return { falls: false, branches: true, returns: false };
    case "branch":
      return { falls: true, branches: true, returns: false };
    case "call":
      return { falls: false, branches: true, returns: true };
    case "indirect-call":
    case "system":
      return { falls: false, branches: false, returns: true };
    default:
      return { falls: false, branches: false, returns: false };
  }
}

function decode(decoder: Decoder<Insn>, words: Uint32Array, at: number): Decoded {
  const found = decoder.find(words[at]!);
  if (found === null) return { at, row: null, fields: {}, operands: {}, target: -1 };
  const { row, fields } = found;
  const operands = row.spec.ops(fields);
  const { to } = operands as { to?: { value: bigint } };
  const place = to === undefined ? -1 : at + Number(to.value / 4n);
  const target = place >= 0 && place < RECORDS_PER_PAGE ? place : -1;
  return { at, row, fields, operands, target };
}

/**
 * @param words the page's instructions
 * @param wasExecuted whether the instruction at a place was, at least once
 * @param from the place in the page that it is entered at first
 */
export function findRegion(
  decoder: Decoder<Insn>,
  words: Uint32Array,
  wasExecuted: (at: number) => boolean,
  from: number,
  most = REGION_MAX,
): Region {
  const insns = new Map<number, Decoded>();
  const leaders = new Set<number>([from]);
  const entries = new Set<number>([from]);
  const waiting = [from];
  for (let start = waiting.shift(); start !== undefined; start = waiting.shift()) {
    for (let at = start; at < RECORDS_PER_PAGE; at++) {
      if (insns.has(at) || insns.size === most || !wasExecuted(at)) break;
      const insn = decode(decoder, words, at);
      insns.set(at, insn);
      const { falls, branches, returns } = flowOf(insn);
      const lead = (place: number): void => {
        leaders.add(place);
        waiting.push(place);
      };
      if (branches && insn.target >= 0) lead(insn.target);
      if (falls && branches) leaders.add(at + 1);
      if (returns && at + 1 < RECORDS_PER_PAGE) {
        entries.add(at + 1);
        lead(at + 1);
      }
      if (!falls) break;
    }
  }
  return blocksOf(insns, leaders, entries);
}

function blocksOf(
  insns: ReadonlyMap<number, Decoded>,
  leaders: ReadonlySet<number>,
  entries: ReadonlySet<number>,
): Region {
  const places = [...insns.keys()].sort((a, b) => a - b);
  const groups: Decoded[][] = [];
  for (const [i, at] of places.entries()) {
    const joins = i > 0 && places[i - 1] === at - 1 && !leaders.has(at);
    const insn = insns.get(at)!;
    const last = groups.at(-1);
    // Behind an instruction that doesn't fall through, only a leader can come.
    if (joins && last !== undefined) last.push(insn);
    else groups.push([insn]);
  }
  const blockAt = new Map(groups.map((group, n) => [group[0]!.at, n]));
  const blocks = groups.map((group): Block => {
    const last = group.at(-1)!;
    const { falls, branches } = flowOf(last);
    const successors: number[] = [];
    const next = blockAt.get(last.at + 1);
    const target = blockAt.get(last.target);
    if (falls && next !== undefined) successors.push(next);
    if (branches && target !== undefined) successors.push(target);
    return { insns: group, isEntry: entries.has(group[0]!.at), successors };
  });
  return { blocks, blockAt, instructions: insns.size };
}
