// Owns: finding the record of a virtual address: the jump cache, then TypeScript; and counting how
// often a record is jumped to. VM thread.
import type { Code } from "../../../base/wasm/code.js";
import type { I32, I64 } from "../../../base/wasm/value.js";
import {
  CODE_BASE,
  CODE_VA,
  COUNTERS,
  FETCH_TAG,
  HOT,
  JUMP_CACHE,
  JUMP_ENTRIES,
  LABELS,
  RECORD_SLOT,
  TLB_PAGE_SHIFT,
} from "../window.js";
import { type LibScope, lib } from "./function.js";

const ENTRY_SHIFT = 4;
const INSTRUCTION_BYTES = 4n;
/** From a record's offset to that of its counter, and of its label. */
const COUNTER_SHIFT = 4;

/**
 * Counts a jump.
 * @param base the block's first record @param past the record's offset from it
 * @param hot writes what happens when it is worth translating
 */
export function countJump(c: Code, base: I32, past: I32, hot: () => void): void {
  const counter = c.keep(base.add(past.shrU(COUNTER_SHIFT)));
  const count = c.keep(c.load32(counter, COUNTERS, "i32.load16_u").add(1));
  c.store("i32.store16", counter, COUNTERS, count);
  c.if(count.eq(HOT), hot);
}

/** Counts the jump to a record that isn't translated. */
function countUntranslated(s: LibScope, base: I32, record: I32): void {
  const { c } = s;
  c.if(c.load32(record, RECORD_SLOT, "i32.load16_u").eqz(), () => {
    countJump(c, base, record.sub(base), () => s.hot(record));
  });
}

/** (record) → record, counted; CODE_BASE is that of its page. */
export const COUNT = lib("count", ["i32"], "i32", (s, record) => {
  const { c, cpu } = s;
  const base = c.keep(c.load32(cpu, CODE_BASE));
  countUntranslated(s, base, record);
  c.return(record);
});

/** Looks an address up in the jump cache. @param hit gets the record, and the first of its page */
export function lookUp(c: Code, cpu: I32, va: I64, hit: (record: I32, base: I32) => void): void {
  const page = va.shrU(TLB_PAGE_SHIFT).wrap();
  const index = va
    .shrU(2)
    .wrap()
    .xor(page)
    .and(JUMP_ENTRIES - 1);
  const entry = c.keep(cpu.add(index.shl(ENTRY_SHIFT)));
  const tag = va.or(c.load32(cpu, FETCH_TAG).extendU());
  // The tag's low bits are the exception level's: no misaligned address may pass for one.
  const isAligned = va.and(INSTRUCTION_BYTES - 1n).eqz();
  c.if(c.load64(entry, JUMP_CACHE).eq(tag).and(isAligned), () => {
    const record = c.keep(c.load32(entry, JUMP_CACHE + 8));
    hit(record, c.keep(c.load32(entry, JUMP_CACHE + 12))); // tidy: an offset
  });
}

/** The page of a record is the one in use. */
export function usePage(c: Code, cpu: I32, va: I64, base: I32): void {
  c.store("i64.store", cpu, CODE_VA, va.shrU(TLB_PAGE_SHIFT).shl(TLB_PAGE_SHIFT));
  c.store("i32.store", cpu, CODE_BASE, base);
}

/** Of a record, where the function in its slot is entered. @param base its page's first record */
export function labelOf(c: Code, base: I32, record: I32): I32 {
  return c.load32(base.add(record.sub(base).shrU(COUNTER_SHIFT)), LABELS, "i32.load16_u");
}

/** (va) → record, with CODE_VA and CODE_BASE set; or 0 when the fetch aborted. */
export const JUMP = lib("jump", ["i64"], "i32", (s, va) => {
  const { c, cpu } = s;
  lookUp(c, cpu, va, (record, base) => {
    usePage(c, cpu, va, base);
    countUntranslated(s, base, record);
    c.return(record);
  });
  c.return(s.fetch(va));
});
