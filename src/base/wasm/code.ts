// Owns: the body of one WebAssembly function: its locals and statements. Any thread.
// Statements are written in the order of the calls; values (value.ts) where a statement uses them.
import { assert } from "../assert.js";
import { ByteWriter } from "./bytes.js";
import { LOADS, type LoadName, STORES, type StoreName, type ValueType } from "./opcodes.table.js";
import { type F32, type F64, type I32, type I64, make, type V128, type Value } from "./value.js";

/** How far out a branch goes; the depth is resolved when it is written. */
export interface Label {
  readonly depth: number;
}

export interface TypeMap {
  i32: I32;
  i64: I64;
  f32: F32;
  f64: F64;
  v128: V128;
}

/** A variable of the function. */
export interface Variable<T extends Value> {
  readonly index: number;
  /** Its value at the place where the result is used. */
  get(): T;
  set(value: T): void;
}

const BLOCK_VOID = 0x40;

export class Code {
  #w = new ByteWriter();
  readonly #params: readonly ValueType[];
  readonly #locals: ValueType[] = [];
  /** Locals that recycle() gave back, and those made within it; null outside. */
  readonly #free = new Map<ValueType, number[]>();
  #lent: { readonly type: ValueType; readonly index: number }[] | null = null;
  #depth = 0;

  constructor(params: readonly ValueType[]) {
    this.#params = params;
  }

  get locals(): readonly ValueType[] {
    return this.#locals;
  }

  /** The bytes so far, without the final `end`. */
  bytes(): Uint8Array {
    assert(this.#depth === 0, "every block is closed");
    return this.#w.view();
  }

  // ── locals ──────────────────────────────────────────────────────────────────────────────────

  /** A parameter; it must not be assigned while a value of it is still to be written. */
  param<K extends ValueType>(index: number, type: K): TypeMap[K] {
    assert(this.#params[index] === type, `parameter ${index} is ${this.#params[index]}`);
    return this.#get(index, type) as TypeMap[K];
  }

  #get(index: number, type: ValueType): Value {
    const write = (w: ByteWriter): void => {
      w.byte(0x20);
      w.unsigned(index);
    };
    return make(type, write, true);
  }

  variable<K extends ValueType>(type: K): Variable<TypeMap[K]> {
    const free = this.#free.get(type)?.pop();
    if (free === undefined && this.#lent === null) return this.lasting(type);
    const index = free ?? this.#newLocal(type);
    this.#lent?.push({ type, index });
    return this.#variable(index, type);
  }

  /** A variable that recycle() leaves alone. */
  lasting<K extends ValueType>(type: K): Variable<TypeMap[K]> {
    return this.#variable(this.#newLocal(type), type);
  }

  #newLocal(type: ValueType): number {
    return this.#params.length + this.#locals.push(type) - 1;
  }

  #variable<K extends ValueType>(index: number, type: K): Variable<TypeMap[K]> {
    return {
      index,
      get: () => this.#get(index, type) as TypeMap[K],
      set: (value) => {
        assert(value.type === type, "a variable keeps its type");
        value.write(this.#w);
        this.#w.byte(0x21);
        this.#w.unsigned(index);
      },
    };
  }

  /** Evaluates now, so that the result can be used any number of times, and stays what it is. */
  keep<T extends Value>(value: T): T {
    if (value.repeats) return value;
    const variable = this.variable(value.type);
    variable.set(value as never);
    return variable.get() as unknown as T;
  }

  /** Runs `body`; the locals of variables that it makes serve others afterwards. */
  recycle(body: () => void): void {
    assert(this.#lent === null, "locals are recycled at one level");
    this.#lent = [];
    body();
    for (const { type, index } of this.#lent) {
      const free = this.#free.get(type);
      if (free === undefined) this.#free.set(type, [index]);
      else free.push(index);
    }
    this.#lent = null;
  }

  /** Writes statements that come before all others so far; it has no open block. */
  before(body: () => void): void {
    assert(this.#depth === 0, "the beginning is not within a block");
    const rest = this.#w;
    this.#w = new ByteWriter();
    body();
    this.#w.bytes(rest.view());
  }

  // ── memory ──────────────────────────────────────────────────────────────────────────────────

  #load(name: LoadName, address: I32, offset: number): Value {
    const row = LOADS[name];
    return make(row.type, (w) => {
      address.write(w);
      if (row.prefix !== 0) w.byte(row.prefix);
      if (row.prefix === 0) w.byte(row.code);
      else w.unsigned(row.code);
      // Alignment is a hint, and 0 is always allowed.
      w.unsigned(0);
      w.unsigned(offset);
    });
  }

  /** Reads where the result is used: keep it when a store may come in between. */
  load32(address: I32, offset = 0, name: LoadName = "i32.load"): I32 {
    return this.#load(name, address, offset) as I32;
  }

  load64(address: I32, offset = 0, name: LoadName = "i64.load"): I64 {
    return this.#load(name, address, offset) as I64;
  }

  loadV(address: I32, offset = 0, name: LoadName = "v128.load"): V128 {
    return this.#load(name, address, offset) as V128;
  }

  store(name: StoreName, address: I32, offset: number, value: Value): void {
    const row = STORES[name];
    assert(value.type === row.type, `${name} stores ${row.type}`);
    address.write(this.#w);
    value.write(this.#w);
    if (row.prefix !== 0) this.#w.byte(row.prefix);
    if (row.prefix === 0) this.#w.byte(row.code);
    else this.#w.unsigned(row.code);
    this.#w.unsigned(0);
    this.#w.unsigned(offset);
  }

  // ── calls ───────────────────────────────────────────────────────────────────────────────────

  /** A call whose result is used once, where it is used. */
  call<K extends ValueType>(index: number, result: K, args: readonly Value[]): TypeMap[K] {
    return make(result as ValueType, (w) => writeCall(w, index, args)) as TypeMap[K];
  }

  /** A call without a result. */
  run(index: number, args: readonly Value[]): void {
    writeCall(this.#w, index, args);
  }

  /** Through the module's table. */
  callIndirect<K extends ValueType>(
    slot: I32,
    type: number,
    result: K,
    args: readonly Value[],
  ): TypeMap[K] {
    const write = (w: ByteWriter): void => {
      for (const arg of args) arg.write(w);
      slot.write(w);
      w.byte(0x11);
      w.unsigned(type);
      w.unsigned(0);
    };
    return make(result as ValueType, write) as TypeMap[K];
  }

  /** Computes a value that nobody wants. */
  drop(value: Value): void {
    value.write(this.#w);
    this.#w.byte(0x1a);
  }

  // ── control ─────────────────────────────────────────────────────────────────────────────────

  if(condition: I32, then: () => void, otherwise?: () => void): void {
    if (condition.known !== undefined) {
      if (condition.known !== 0) then();
      else otherwise?.();
      return;
    }
    condition.write(this.#w);
    this.#w.byte(0x04);
    this.#w.byte(BLOCK_VOID);
    this.#depth++;
    then();
    if (otherwise !== undefined) {
      this.#w.byte(0x05);
      otherwise();
    }
    this.#close();
  }

  /** Runs `body`; a branch to the label leaves it. */
  block(body: (end: Label) => void): void {
    this.#open(0x02, body);
  }

  /** Runs `body` once; a branch to the label starts it again. */
  loop(body: (again: Label) => void): void {
    this.#open(0x03, body);
  }

  #open(opcode: number, body: (label: Label) => void): void {
    this.#w.byte(opcode);
    this.#w.byte(BLOCK_VOID);
    this.#depth++;
    body({ depth: this.#depth });
    this.#close();
  }

  #close(): void {
    this.#depth--;
    this.#w.byte(0x0b);
  }

  branch(label: Label): void {
    this.#w.byte(0x0c);
    this.#w.unsigned(this.#depth - label.depth);
  }

  branchIf(condition: I32, label: Label): void {
    condition.write(this.#w);
    this.#w.byte(0x0d);
    this.#w.unsigned(this.#depth - label.depth);
  }

  /** br_table: label i for value i, the last one beyond. */
  branchTable(index: I32, labels: readonly Label[], otherwise: Label): void {
    index.write(this.#w);
    this.#w.byte(0x0e);
    this.#w.unsigned(labels.length);
    for (const label of labels) this.#w.unsigned(this.#depth - label.depth);
    this.#w.unsigned(this.#depth - otherwise.depth);
  }

  return(value?: Value): void {
    value?.write(this.#w);
    this.#w.byte(0x0f);
  }

  /** What follows is never reached; the end of a function of which every path has returned. */
  unreachable(): void {
    this.#w.byte(0x00);
  }
}

function writeCall(w: ByteWriter, index: number, args: readonly Value[]): void {
  for (const arg of args) arg.write(w);
  w.byte(0x10);
  w.unsigned(index);
}
