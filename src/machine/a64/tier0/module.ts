// Owns: tier 0 as a WebAssembly module: one handler per row and split, and the loop. Any thread.
//
//   run(window, record, budget) ── loop: handlers[record.handler](window, record) ─▶ record
//
// The loop counts one per record; a record that was no instruction gives its count back (REFUND).
import { Code } from "../../../base/wasm/code.js";
import { ModuleBuilder } from "../../../base/wasm/module.js";
import type { ValueType } from "../../../base/wasm/opcodes.table.js";
import { const32, type I32, type I64, type Value } from "../../../base/wasm/value.js";
import { IMPORT_NAMES, IMPORTS, type ImportName } from "../imports.js";
import { type Insn, placesOf, usesFp, variantsOf } from "../insn.js";
import { FLAGS } from "../lib/flags.js";
import type { LibFunction, LibScope } from "../lib/function.js";
import { COUNT, JUMP } from "../lib/jump.js";
import type { Operand } from "../operand.js";
import {
  BUDGET,
  CODE_VA,
  EXIT,
  EXIT_REASON,
  FP_TRAP,
  RECORD,
  REFUND,
  STEP,
  TLB_PAGE_SHIFT,
} from "../window.js";
import { Tier0Asm } from "./asm.js";
import { type HandlerKey, handlerKey } from "./handlers.js";

const HANDLER_SIGNATURE = { params: ["i32", "i32"], result: "i32" } as const;
const RUN_SIGNATURE = { params: ["i32", "i32", "i32"], result: "i32" } as const;
/** Upper half of a record's first word: its slot in tier 1. */
const SLOT_SHIFT = 16;
/** What tier 1 calls whether or not an instruction's meaning does. */
const FOR_TIER1 = [COUNT, JUMP, FLAGS];
/** What any VM's memory is allowed to be, in pages of 64 KiB. */
const ANY_MEMORY = { initial: 1, maximum: 65_536 };

export interface Tier0 {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Index of the handler of a row with these split fields. */
  readonly handlers: ReadonlyMap<HandlerKey, number>;
  /** Place of tier 1's first slot in the table. */
  readonly slots: number;
}

export class Tier0Module {
  readonly #module = new ModuleBuilder(ANY_MEMORY);
  readonly #imports = new Map<ImportName, number>();
  readonly #libs = new Map<LibFunction<ValueType>, number>();
  /** Called by somebody, and not written yet. */
  readonly #pending: LibFunction<ValueType>[] = [];

  constructor() {
    for (const name of IMPORT_NAMES) {
      this.#imports.set(name, this.#module.importFunction(name, IMPORTS[name]));
    }
  }

  callImport(c: Code, name: ImportName, args: readonly Value[]): I32 {
    return c.call(this.#imports.get(name)!, "i32", args);
  }

  runImport(c: Code, name: ImportName, args: readonly Value[]): void {
    c.run(this.#imports.get(name)!, args);
  }

  /** @param args with the window first */
  callLib<K extends ValueType>(c: Code, fn: LibFunction<K>, args: readonly Value[]) {
    return c.call(this.#libIndex(fn as LibFunction<ValueType>), fn.result, args);
  }

  #libIndex(fn: LibFunction<ValueType>): number {
    const known = this.#libs.get(fn);
    if (known !== undefined) return known;
    const index = this.#module.declare({ params: ["i32", ...fn.params], result: fn.result });
    this.#libs.set(fn, index);
    this.#pending.push(fn);
    return index;
  }

  #writeLib(fn: LibFunction<ValueType>): void {
    const index = this.#libIndex(fn);
    const c = new Code(["i32", ...fn.params]);
    const cpu = c.param(0, "i32");
    const scope: LibScope = {
      c,
      cpu,
      fetch: (va: I64) => this.callImport(c, "fetch", [cpu, va.wrap(), va.shrU(32).wrap()]),
      hot: (record: I32) => this.runImport(c, "hot", [cpu, record]),
      call: (callee, ...args) => c.keep(this.callLib(c, callee, [cpu, ...args]) as never),
    };
    fn.build(
      scope,
      fn.params.map((type, i) => c.param(i + 1, type)),
    );
    c.unreachable();
    this.#module.define(index, c.locals, c.bytes());
    this.#module.exportFunction(fn.name, index);
  }

  #handler(places: ReadonlyMap<Operand, number>, write: (a: Tier0Asm) => void): number {
    const index = this.#module.declare(HANDLER_SIGNATURE);
    const c = new Code(HANDLER_SIGNATURE.params);
    const a = new Tier0Asm(this, c, places);
    write(a);
    a.next();
    this.#module.define(index, c.locals, c.bytes());
    return this.#module.addElement(index);
  }

  /** The handlers of HANDLER, in its order. */
  #fixed(): void {
    const refund = (a: Tier0Asm): void => a.setWindow32(REFUND, a.window32(REFUND).add(1));
    this.#handler(new Map(), (a) => {
      const record = a.c.param(1, "i32");
      this.runImport(a.c, "decode", [a.c.param(0, "i32"), record]);
      refund(a);
      a.c.return(record);
    });
    this.#handler(new Map(), (a) => {
      refund(a);
      a.jumpTo(a.window64(CODE_VA).add(1n << BigInt(TLB_PAGE_SHIFT)));
    });
    this.#handler(new Map(), (a) => a.undefined());
  }

  #row(row: Insn, handlers: Map<HandlerKey, number>): void {
    for (const fields of variantsOf(row)) {
      const sample = Object.fromEntries(row.pattern.fields.map(({ name }) => [name, 0]));
      const operands = row.spec.ops({ ...sample, ...fields });
      const index = this.#handler(placesOf(operands), (a) => {
        if (usesFp(row, operands)) a.checkFp(FP_TRAP);
        row.spec.sem(a, operands, fields);
      });
      handlers.set(handlerKey(row, fields), index);
    }
  }

  /**
   * Tier 1's functions live in the same table behind the handlers. What one returns has bit 0 set
   * when the next block doesn't fit the budget or needs tier 0: that record is stepped here.
   */
  #loop(slots: number): void {
    const index = this.#module.declare(RUN_SIGNATURE);
    const c = new Code(RUN_SIGNATURE.params);
    const cpu = c.param(0, "i32");
    const record = c.variable("i32");
    record.set(c.param(1, "i32"));
    const budget = c.variable("i32");
    budget.set(c.param(2, "i32"));
    c.store("i32.store", cpu, BUDGET, budget.get());
    const type = this.#module.type(HANDLER_SIGNATURE);
    const entry = c.variable("i32");
    c.loop((again) => {
      c.if(budget.get().eqz(), () => this.#slice(c, cpu, record.get()));
      entry.set(c.load32(record.get()));
      c.if(entry.get().shrU(SLOT_SHIFT), () => {
        // From one translated function to the next; each looks at the budget by itself.
        c.loop((next) => {
          const slot = entry
            .get()
            .shrU(SLOT_SHIFT)
            .add(slots - 1);
          record.set(c.callIndirect(slot, type, "i32", [cpu, record.get()]));
          c.if(record.get().and(STEP).eqz(), () => {
            c.if(record.get().eqz(), () => {
              c.store("i32.store", cpu, EXIT, const32(EXIT_REASON.left));
              c.return(c.load32(cpu, BUDGET));
            });
            entry.set(c.load32(record.get()));
            c.branchIf(entry.get().shrU(SLOT_SHIFT), next);
          });
        });
        record.set(record.get().and(~STEP));
        c.drop(this.callLib(c, FLAGS, [cpu]));
        budget.set(c.load32(cpu, BUDGET));
        c.if(budget.get().eqz(), () => this.#slice(c, cpu, record.get()));
        entry.set(c.load32(record.get(), 0, "i32.load16_u"));
      });
      budget.set(budget.get().sub(1));
      // For whoever asks in between how many have retired: counters.
      c.store("i32.store", cpu, BUDGET, budget.get());
      record.set(c.callIndirect(entry.get(), type, "i32", [cpu, record.get()]));
      c.branchIf(record.get(), again);
    });
    c.store("i32.store", cpu, EXIT, const32(EXIT_REASON.left));
    c.return(budget.get());
    c.unreachable();
    this.#module.define(index, c.locals, c.bytes());
    this.#module.exportFunction("run", index);
  }

  #slice(c: Code, cpu: I32, record: I32): void {
    c.store("i32.store", cpu, RECORD, record);
    c.store("i32.store", cpu, EXIT, const32(EXIT_REASON.slice));
    c.return(const32(0));
  }

  build(rows: readonly Insn[]): Tier0 {
    const handlers = new Map<HandlerKey, number>();
    this.#fixed();
    for (const row of rows) this.#row(row, handlers);
    const slots = this.#module.elements;
    this.#loop(slots);
    this.#module.exportTable("table");
    for (const fn of FOR_TIER1) this.#libIndex(fn as LibFunction<ValueType>);
    for (let fn = this.#pending.pop(); fn !== undefined; fn = this.#pending.pop()) {
      this.#writeLib(fn);
    }
    return { bytes: this.#module.build() as Uint8Array<ArrayBuffer>, handlers, slots };
  }
}
