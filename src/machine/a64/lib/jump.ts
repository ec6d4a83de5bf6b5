// Owns: finding the record of a virtual address: the jump cache, then TypeScript. VM thread.
import {
  CODE_BASE,
  CODE_VA,
  FETCH_TAG,
  JUMP_CACHE,
  JUMP_ENTRIES,
  TLB_PAGE_SHIFT,
} from "../window.js";
import { lib } from "./function.js";

const ENTRY_SHIFT = 4;

/** (va) → record, with CODE_VA and CODE_BASE set; or 0 when the fetch aborted. */
export const JUMP = lib("jump", ["i64"], "i32", (s, va) => {
  const { c, cpu } = s;
  const page = va.shrU(TLB_PAGE_SHIFT).wrap();
  const index = va
    .shrU(2)
    .wrap()
    .xor(page)
    .and(JUMP_ENTRIES - 1);
  const entry = c.keep(cpu.add(index.shl(ENTRY_SHIFT)));
  const tag = va.or(c.load32(cpu, FETCH_TAG).extendU());
  c.if(c.load64(entry, JUMP_CACHE).eq(tag), () => {
    c.store("i64.store", cpu, CODE_VA, va.shrU(TLB_PAGE_SHIFT).shl(TLB_PAGE_SHIFT));
    c.store("i32.store", cpu, CODE_BASE, c.load32(entry, JUMP_CACHE + 12)); // tidy: an offset
    c.return(c.load32(entry, JUMP_CACHE + 8));
  });
  c.return(s.fetch(va));
});
