// Owns: regions of A64 code as one WebAssembly function (window, record) → record. VM thread.
import { Code } from "../../../base/wasm/code.js";
import type { ValueType } from "../../../base/wasm/opcodes.table.js";
import type { I32 } from "../../../base/wasm/value.js";
import { splitOf, usesFp } from "../insn.js";
import { FP_TRAP } from "../window.js";
import { type Branches, Tier1Asm } from "./asm.js";
import type { FlagsState } from "./flags.js";
import type { Tier1Linker } from "./linker.js";
import type { Block, Decoded, Region } from "./region.js";
import { Structurer } from "./structure.js";

export const FUNCTION_SIGNATURE = { params: ["i32", "i32"], result: "i32" } as const;

export interface TranslatedFunction {
  readonly locals: readonly ValueType[];
  readonly code: Uint8Array;
  /** By block, over all regions: what its record says to enter it. */
  readonly labels: readonly number[];
}

const placeOf = ({ insns }: Block): number => insns[0]!.at;
const spanOf = (blocks: readonly Block[]): number => {
  return placeOf(blocks.at(-1)!) - placeOf(blocks[0]!) + 1;
};

/** Blocks are known by their place in the page; those of the next region follow on. */
function labelsOf(regions: readonly Region[]): readonly number[] {
  const labels: number[] = [];
  let base = 0;
  for (const { blocks } of regions) {
    for (const block of blocks) labels.push(base + placeOf(block) - placeOf(blocks[0]!));
    base += spanOf(blocks);
  }
  return labels;
}

/** Whether a region is left by address: then it gains by having others in its function. */
export function leavesByAddress({ blocks }: Region): boolean {
  return blocks.some(({ insns }) => {
    const last = insns.at(-1)!;
    const flow = last.row?.spec.flow;
    const isDirect = "to" in last.operands && flow !== undefined;
    return flow === "indirect" || flow === "indirect-call" || (isDirect && last.target < 0);
  });
}

/** Whether it traps as a whole where FP does. */
export function needsFp({ blocks }: Region): boolean {
  return blocks.some(({ insns }) =>
    insns.some(({ row, operands }) => row !== null && usesFp(row, operands)),
  );
}

export class RegionWriter {
  readonly #regions: readonly Region[];
  /** Of all regions, one behind the other. */
  readonly #blocks: readonly Block[];
  /** By block: its region, and the number of that one's first block. */
  readonly #regionOf: readonly Region[];
  readonly #firsts: readonly number[];
  readonly #labels: readonly number[];
  readonly #c = new Code(FUNCTION_SIGNATURE.params);
  readonly #asm: Tier1Asm;
  readonly #structurer: Structurer;
  readonly #ownSlot: number | null;
  readonly #label = this.#c.variable("i32");
  /** What is known of the flags at the end of blocks that are written. */
  readonly #flagsAfter = new Map<number, FlagsState>();
  readonly #predecessors: readonly (readonly number[])[];
  /** The block that is being written. */
  #current = 0;

  /**
   * @param regions of pages that may differ; all or none need FP
   * @param slot that records of their entries will name
   */
  constructor(linker: Tier1Linker, regions: readonly Region[], slot: number) {
    this.#regions = regions;
    this.#asm = new Tier1Asm(linker, this.#c);
    this.#regionOf = regions.flatMap((region) => region.blocks.map(() => region));
    this.#firsts = this.#regionOf.map((region) => this.#regionOf.indexOf(region));
    const all = regions.flatMap(({ blocks }) => blocks);
    const blocks = all.map((block, n) => {
      const successors = block.successors.map((to) => this.#firsts[n]! + to);
      return { ...block, successors };
    });
    this.#blocks = blocks;
    this.#labels = labelsOf(regions);
    this.#predecessors = blocks.map((_, n) =>
      blocks.flatMap(({ successors }, from) => (successors.includes(n) ? [from] : [])),
    );
    const isReentered =
      regions.some(leavesByAddress) && blocks.filter(({ isEntry }) => isEntry).length > 1;
    this.#ownSlot = isReentered ? slot : null;
    this.#structurer = new Structurer({
      c: this.#c,
      blocks,
      labels: this.#labels,
      label: this.#label,
      isReentered,
      writeBlock: (n) => this.#block(n),
      miss: () => this.#asm.missed(),
    });
  }

  write(): TranslatedFunction {
    const asm = this.#asm;
    const writer = this;
    const branches: Branches = {
      get here() {
        const { blocks } = writer.#regionOf[writer.#current]!;
        const label = writer.#labels[writer.#firsts[writer.#current]!]!;
        return { first: placeOf(blocks[0]!), count: spanOf(blocks), label };
      },
      toPlace: (place: number): boolean => {
        const block = this.#numberOf(this.#current, place);
        if (block !== undefined) this.#structurer.branch(block);
        return block !== undefined;
      },
      ownSlot: this.#ownSlot,
      byLabel: (label: I32): void => {
        this.#label.set(label);
        this.#structurer.again();
      },
    };
    asm.function(branches, this.#regions.some(needsFp) ? FP_TRAP : null, (around) => {
      this.#label.set(asm.entryLabel());
      this.#structurer.write(around);
    });
    return { locals: this.#c.locals, code: this.#c.bytes(), labels: this.#labels };
  }

  /** Number of the block at a place in the page of block `n`, if its region has one. */
  #numberOf(n: number, place: number): number | undefined {
    const first = this.#firsts[n]!;
    const block = this.#regionOf[n]!.blockAt.get(place);
    return block === undefined ? undefined : first + block;
  }

  /** Behind the only way in, what was known there; else nothing. */
  #flagsBefore(n: number, block: Block): FlagsState {
    const [from, ...others] = this.#predecessors[n]!;
    if (block.isEntry || from === undefined || others.length > 0) return { kind: "unknown" };
    return this.#flagsAfter.get(from) ?? { kind: "unknown" };
  }

  #block(n: number): void {
    const asm = this.#asm;
    const block = this.#blocks[n]!;
    const { insns } = block;
    this.#current = n;
    asm.beginBlock(insns[0]!.at, insns.length, this.#flagsBefore(n, block));
    for (const insn of insns) this.#instruction(insn);
    this.#flagsAfter.set(n, asm.flagsState);
    const last = insns.at(-1)!;
    const flow = last.row === null ? "system" : last.row.spec.flow;
    const falls = flow === undefined || flow === "branch";
    const next = last.at + 1;
    if (falls && this.#numberOf(n, next) !== n + 1) asm.leave(next);
  }

  #instruction(insn: Decoded): void {
    const { row, fields, operands } = insn;
    this.#asm.instruction(insn, () => {
      if (row === null || row.spec.flow === "system") this.#asm.system();
      else row.spec.sem(this.#asm, operands, splitOf(row, fields));
    });
  }
}
