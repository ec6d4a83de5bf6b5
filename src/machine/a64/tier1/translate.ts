// Owns: a region of A64 code as a WebAssembly function (window, record) → record. VM thread.
import { Code } from "../../wasm/code.js";
import type { ValueType } from "../../wasm/opcodes.table.js";
import { splitOf, usesFp } from "../insn.js";
import { FP_TRAP } from "../window.js";
import { Tier1Asm } from "./asm.js";
import type { FlagsState } from "./flags.js";
import type { Tier1Linker } from "./linker.js";
import type { Block, Decoded, Region } from "./region.js";
import { Structurer } from "./structure.js";

export const FUNCTION_SIGNATURE = { params: ["i32", "i32"], result: "i32" } as const;

export interface TranslatedFunction {
  readonly locals: readonly ValueType[];
  readonly code: Uint8Array;
}

/** Whether indirect branches may come back into the region: it has more than one way in. */
function isReentered({ blocks }: Region): boolean {
  const isIndirect = blocks.some(({ insns }) => {
    const flow = insns.at(-1)!.row?.spec.flow;
    return flow === "indirect" || flow === "indirect-call";
  });
  return isIndirect && blocks.filter(({ isEntry }) => isEntry).length > 1;
}

function needsFp({ blocks }: Region): boolean {
  return blocks.some(({ insns }) =>
    insns.some(({ row, operands }) => row !== null && usesFp(row, operands)),
  );
}

export class RegionWriter {
  readonly #region: Region;
  readonly #c = new Code(FUNCTION_SIGNATURE.params);
  readonly #asm: Tier1Asm;
  readonly #structurer: Structurer;
  readonly #first: number;
  readonly #isReentered: boolean;
  readonly #label = this.#c.variable("i32");
  /** What is known of the flags at the end of blocks that are written. */
  readonly #flagsAfter = new Map<number, FlagsState>();
  readonly #predecessors: readonly (readonly number[])[];

  constructor(linker: Tier1Linker, region: Region) {
    this.#region = region;
    this.#asm = new Tier1Asm(linker, this.#c);
    this.#first = region.blocks[0]!.insns[0]!.at;
    this.#predecessors = region.blocks.map((_, n) =>
      region.blocks.flatMap(({ successors }, from) => (successors.includes(n) ? [from] : [])),
    );
    this.#isReentered = isReentered(region);
    this.#structurer = new Structurer({
      c: this.#c,
      blocks: region.blocks,
      label: this.#label,
      isReentered: this.#isReentered,
      writeBlock: (n) => this.#block(n),
      miss: () => this.#asm.missed(this.#label.get().add(this.#first)),
    });
  }

  write(): TranslatedFunction {
    const asm = this.#asm;
    const branches = {
      toPlace: (place: number): boolean => {
        const block = this.#region.blockAt.get(place);
        if (block !== undefined) this.#structurer.branch(block);
        return block !== undefined;
      },
      isReentered: this.#isReentered,
      byLabel: (place: Parameters<Tier1Asm["missed"]>[0]): void => {
        this.#label.set(place.sub(this.#first));
        this.#structurer.again();
      },
    };
    asm.function(branches, needsFp(this.#region) ? FP_TRAP : null, () => {
      this.#label.set(asm.entryPlace().sub(this.#first));
      this.#structurer.write();
    });
    return { locals: this.#c.locals, code: this.#c.bytes() };
  }

  /** Behind the only way in, what was known there; else nothing. */
  #flagsBefore(n: number, block: Block): FlagsState {
    const [from, ...others] = this.#predecessors[n]!;
    if (block.isEntry || from === undefined || others.length > 0) return { kind: "unknown" };
    return this.#flagsAfter.get(from) ?? { kind: "unknown" };
  }

  #block(n: number): void {
    const asm = this.#asm;
    const block = this.#region.blocks[n]!;
    const { insns } = block;
    asm.beginBlock(insns[0]!.at, insns.length, this.#flagsBefore(n, block));
    for (const insn of insns) this.#instruction(insn);
    this.#flagsAfter.set(n, asm.flagsState);
    const last = insns.at(-1)!;
    const flow = last.row === null ? "system" : last.row.spec.flow;
    const falls = flow === undefined || flow === "branch";
    const next = last.at + 1;
    if (falls && this.#region.blockAt.get(next) !== n + 1) asm.leave(next);
  }

  #instruction(insn: Decoded): void {
    const { row, fields, operands } = insn;
    this.#asm.instruction(insn, () => {
      if (row === null || row.spec.flow === "system") this.#asm.system();
      else row.spec.sem(this.#asm, operands, splitOf(row, fields));
    });
  }
}
