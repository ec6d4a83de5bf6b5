// Owns: the WebAssembly module format: types, imports, functions, table, exports. Any thread.
// @source WebAssembly core specification, section 5.5 (modules)
import { assert } from "../assert.js";
import { ByteWriter } from "./bytes.js";
import { TYPE, type ValueType } from "./opcodes.table.js";

export interface Signature {
  readonly params: readonly ValueType[];
  readonly result: ValueType | null;
}

const SECTION = { type: 1, import: 2, function: 3, table: 4, export: 7, element: 9, code: 10 };
const KIND = { function: 0, table: 1, memory: 2 };
const FUNCREF = 0x70;
/** Limits flags: a maximum is given, and the memory is shared. */
const SHARED_WITH_MAXIMUM = 3;

interface Body {
  readonly type: number;
  /** Locals beyond the parameters, and the code; null until it is defined. */
  content: { readonly locals: readonly ValueType[]; readonly code: Uint8Array } | null;
}

/** A module of functions over one imported shared memory. */
export class ModuleBuilder {
  readonly #types = new Map<string, number>();
  readonly #signatures: Signature[] = [];
  readonly #imports: { name: string; type: number }[] = [];
  readonly #bodies: Body[] = [];
  readonly #exports: { name: string; kind: number; index: number }[] = [];
  readonly #elements: number[] = [];
  readonly #memory: { initial: number; maximum: number };

  /** @param memory limits of the imported "env"."memory", in pages of 64 KiB */
  constructor(memory: { readonly initial: number; readonly maximum: number }) {
    this.#memory = memory;
  }

  type(signature: Signature): number {
    const key = `${signature.params.join()}>${signature.result}`;
    const known = this.#types.get(key);
    if (known !== undefined) return known;
    this.#types.set(key, this.#signatures.length);
    this.#signatures.push(signature);
    return this.#signatures.length - 1;
  }

  /** Imports "env".name. @returns its function index */
  importFunction(name: string, signature: Signature): number {
    assert(this.#bodies.length === 0, "imports come before the first function");
    this.#imports.push({ name, type: this.type(signature) });
    return this.#imports.length - 1;
  }

  /** A function whose body comes later. @returns its index */
  declare(signature: Signature): number {
    this.#bodies.push({ type: this.type(signature), content: null });
    return this.#imports.length + this.#bodies.length - 1;
  }

  define(index: number, locals: readonly ValueType[], code: Uint8Array): void {
    const body = this.#bodies[index - this.#imports.length];
    assert(body !== undefined && body.content === null, "a declared function is defined once");
    body.content = { locals, code: code.slice() };
  }

  exportFunction(name: string, index: number): void {
    this.#exports.push({ name, kind: KIND.function, index });
  }

  /** Exports the module's own table, which its owner may then let grow. */
  exportTable(name: string): void {
    this.#exports.push({ name, kind: KIND.table, index: 0 });
  }

  /** Adds a function to the module's own table. @returns its slot */
  addElement(index: number): number {
    this.#elements.push(index);
    return this.#elements.length - 1;
  }

  /** Functions in the table so far. */
  get elements(): number {
    return this.#elements.length;
  }

  build(): Uint8Array {
    const out = new ByteWriter();
    out.bytes([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
    section(out, SECTION.type, this.#signatures, writeSignature);
    this.#importSection(out);
    section(out, SECTION.function, this.#bodies, (w, body) => w.unsigned(body.type));
    if (this.#elements.length > 0) this.#tableSection(out);
    section(out, SECTION.export, this.#exports, (w, { name, kind, index }) => {
      w.text(name);
      w.byte(kind);
      w.unsigned(index);
    });
    if (this.#elements.length > 0) this.#elementSection(out);
    section(out, SECTION.code, this.#bodies, writeBody);
    return out.view().slice();
  }

  #importSection(out: ByteWriter): void {
    const inner = new ByteWriter();
    inner.unsigned(this.#imports.length + 1);
    inner.text("env");
    inner.text("memory");
    inner.byte(KIND.memory);
    inner.byte(SHARED_WITH_MAXIMUM);
    inner.unsigned(this.#memory.initial);
    inner.unsigned(this.#memory.maximum);
    for (const { name, type } of this.#imports) {
      inner.text("env");
      inner.text(name);
      inner.byte(KIND.function);
      inner.unsigned(type);
    }
    out.byte(SECTION.import);
    out.sized(inner);
  }

  #tableSection(out: ByteWriter): void {
    const inner = new ByteWriter();
    inner.unsigned(1);
    inner.byte(FUNCREF);
    inner.byte(0);
    inner.unsigned(this.#elements.length);
    out.byte(SECTION.table);
    out.sized(inner);
  }

  #elementSection(out: ByteWriter): void {
    const inner = new ByteWriter();
    inner.unsigned(1);
    inner.byte(0);
    // Offset: i32.const 0, end.
    inner.bytes([0x41, 0, 0x0b]);
    inner.unsigned(this.#elements.length);
    for (const index of this.#elements) inner.unsigned(index);
    out.byte(SECTION.element);
    out.sized(inner);
  }
}

function section<T>(
  out: ByteWriter,
  id: number,
  items: readonly T[],
  write: (w: ByteWriter, item: T) => void,
): void {
  if (items.length === 0) return;
  const inner = new ByteWriter();
  inner.unsigned(items.length);
  for (const item of items) write(inner, item);
  out.byte(id);
  out.sized(inner);
}

function writeSignature(w: ByteWriter, { params, result }: Signature): void {
  w.byte(0x60);
  w.unsigned(params.length);
  for (const type of params) w.byte(TYPE[type]);
  w.unsigned(result === null ? 0 : 1);
  if (result !== null) w.byte(TYPE[result]);
}

/** Locals run-length encoded, code, end. */
function writeBody(out: ByteWriter, { content }: Body): void {
  assert(content !== null, "every declared function is defined");
  const w = new ByteWriter();
  const runs: { type: ValueType; count: number }[] = [];
  for (const type of content.locals) {
    const last = runs.at(-1);
    if (last !== undefined && last.type === type) last.count++;
    else runs.push({ type, count: 1 });
  }
  w.unsigned(runs.length);
  for (const run of runs) {
    w.unsigned(run.count);
    w.byte(TYPE[run.type]);
  }
  w.bytes(content.code);
  w.byte(0x0b);
  out.sized(w);
}
