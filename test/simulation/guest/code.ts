// The code of simulated guests: endless ways to store, in one slot of their own. Test process.
//
//   begin: jump to the routine in x20 ─ x3 rounds of it ─▶ done: MMIO store, then begin again
//   x0 window   x1 its pages   x2 LCG (state, x5 and x6 its constants)   x7 shared words
//   x8, x9 own additions to them   x19 doorbell   x21 own code   x22 code of the host, x23 its
//   newest constant   x24 descriptors of the window, x25 and x18 what to set and clear in one
//   x26 stride
import * as a64 from "../../support/a64.js";

/** Byte offsets in the slot of code. */
export const PLACE = {
  vectors: 0,
  routines: 0x1000,
  /** Words that all vCPUs add to. */
  shared: 0x2000,
  /** A function whose constant the host changes. */
  patched: 0x3000,
  /** A function per vCPU that it rewrites itself. */
  own: 0x4000,
  ownBytes: 0x1000,
  /** Stage-1 tables, from here on. */
  tables: 0x1_0000,
} as const;

export const DOORBELL = 0x900_0000;
/** Stored to by vectors and by routines that found something wrong. */
export const FAIL = DOORBELL + 8;
export const SHARED_STRIDE = 64;

export const ROUTINES = [
  "stores",
  "mixed",
  "pairs",
  "unaligned",
  "simd",
  "zva",
  "atomics",
  "rewrite",
  "rewriteHere",
  "calls",
  "patched",
  "descriptors",
  "stride",
] as const;
export type Routine = (typeof ROUTINES)[number];
/** Stands in the vCPU's own page. */
type Shared = Exclude<Routine, "rewriteHere">;

const MOV_X12 = a64.mov(12, 0n)[0]!;

/** MOVZ X12, #value; RET. */
export const constant = (value: number): number[] => [(MOV_X12 | (value << 5)) >>> 0, a64.RET];

/** What a routine does once: x10 is a page's address, x11 a multiple of 8 in it. */
function bodies(shift: number): Readonly<Record<Shared, readonly number[]>> {
  const { addReg, subsReg } = a64;
  const at = addReg(12, 10, 11);
  const lastWord = [...a64.mov(14, BigInt(2 ** shift - 8)), addReg(12, 10, 14)];
  return {
    stores: [at, a64.str(2, 12)],
    mixed: [at, a64.ldr(13, 12), addReg(13, 13, 2), a64.strw(13, 12), a64.strb(2, 10)],
    // Two words, one on each side of a page's end.
    pairs: [...lastWord, a64.stp(2, 2, 12)],
    unaligned: [...lastWord, a64.stur(2, 12, 5), a64.stur(2, 10, 3)],
    simd: [
      a64.ubfx(13, 11, 4, shift - 4),
      addReg(12, 10, 13, 4),
      a64.dup(0, 2),
      a64.strq(0, 12),
      a64.stpq(0, 0, 12, 0),
    ],
    zva: [at, a64.dcZva(12), a64.ubfx(13, 2, 36, shift - 3), addReg(13, 10, 13, 3), a64.str(2, 13)],
    atomics: [
      a64.mov(12, 1n)[0]!,
      a64.add(8, 8, 1),
      a64.ldadd(12, 13, 7),
      a64.add(15, 7, SHARED_STRIDE),
      a64.ldxr(14, 15),
      a64.add(14, 14, 1),
      a64.stxr(16, 14, 15),
      a64.cbnz(16, -3),
      a64.add(9, 9, 1),
      at,
      a64.str(2, 12),
    ],
    rewrite: [
      a64.ubfx(13, 2, 40, 16),
      ...a64.mov(14, BigInt(MOV_X12)),
      a64.orrReg(14, 14, 13, 5),
      a64.strw(14, 21),
      a64.dcCvau(21),
      a64.DSB,
      a64.icIvau(21),
      a64.DSB,
      a64.ISB,
      a64.blr(21),
      ...expectEqual(),
      at13(),
      a64.str(2, 17),
    ],
    // Within the page, by address.
    calls: [a64.adr(16, 3), a64.blr(16), a64.b(4), at, a64.str(2, 12), a64.RET],
    patched: [
      a64.blr(22),
      subsReg(31, 12, 23),
      a64.bhs(2),
      a64.brk(2),
      a64.addReg(23, 12, 31),
      at,
      a64.str(2, 12),
    ],
    descriptors: [
      // The page's own descriptor becomes clean and unaccessed; the store makes hardware set it.
      a64.subReg(13, 10, 0),
      a64.lsr(13, 13, shift),
      addReg(13, 24, 13, 3),
      a64.ldr(14, 13),
      a64.orrReg(14, 14, 25),
      a64.bicReg(14, 14, 18),
      a64.str(14, 13),
      a64.DSB,
      a64.TLBI_ALL,
      a64.DSB,
      a64.ISB,
      at,
      a64.str(2, 12),
    ],
    stride: [a64.str(2, 0), addReg(0, 0, 26)],
  };
}

/** x12 is x13, or the guest says so. */
const expectEqual = (): number[] => [a64.subsReg(31, 12, 13), a64.beq(2), a64.brk(1)];
const at13 = (): number => a64.addReg(17, 10, 11);

/** Now and then rewrites an instruction of its own loop, which must always do as it says. */
function rewriteHere(): number[] {
  const patch = [
    a64.ubfx(13, 2, 40, 16),
    ...a64.mov(14, BigInt(MOV_X12)),
    a64.orrReg(14, 14, 13, 5),
    a64.strw(14, 16),
    // CTR_EL0.IDC and DIC: no cache has to be cleaned or invalidated.
    a64.DSB,
    a64.ISB,
  ];
  return [
    a64.adr(16, 3 + patch.length),
    a64.ubfx(13, 2, 58, 6),
    a64.cbnz(13, 1 + patch.length),
    ...patch,
    MOV_X12,
    a64.ldrw(13, 16),
    a64.ubfx(13, 13, 5, 16),
    ...expectEqual(),
    at13(),
    a64.str(2, 17),
  ];
}

/** One round after the other, then the doorbell. @param doorbell its distance in instructions */
function loop(shift: number, body: readonly number[], doorbell: number): number[] {
  const words = [
    a64.madd(2, 2, 5, 6),
    a64.lsr(10, 2, 32),
    a64.madd(10, 10, 1, 31),
    a64.lsr(10, 10, 32),
    a64.addReg(10, 0, 10, shift),
    a64.ubfx(11, 2, 20, shift - 3),
    a64.addReg(11, 31, 11, 3),
  ];
  words.push(...body, a64.subs(3, 3, 1));
  words.push(a64.bne(-words.length));
  words.push(a64.b(doorbell - words.length));
  return words;
}
const LOOP_HEAD = 7;

export interface GuestCode {
  /** By offset in the slot. */
  readonly parts: readonly { readonly at: number; readonly bytes: Uint8Array }[];
  /** Offset where a vCPU begins. */
  readonly begin: number;
  /** That of rewriteHere is vCPU 0's; the others' are PLACE.ownBytes apart. */
  readonly entries: Readonly<Record<Routine, number>>;
  /** Offset of the LDADD, and of the CBNZ behind the STXR. */
  readonly atomics: { readonly ldadd: number; readonly retry: number };
}

const VECTORS = 16;
const VCPUS_MAX = 4;
/** Within a vCPU's own code. */
const OWN_LOOP = 0x100;
const VECTOR_BYTES = 0x80;

/** @param shift log2 of the guest's page */
export function guestCode(shift: number): GuestCode {
  const words: number[] = [a64.str(2, 19), a64.br(20)];
  const entries = {} as Record<Routine, number>;
  for (const [name, body] of Object.entries(bodies(shift)) as [Shared, readonly number[]][]) {
    entries[name] = PLACE.routines + 4 * words.length;
    words.push(...loop(shift, body, -words.length));
  }
  entries.rewriteHere = PLACE.own + OWN_LOOP;
  const vector = a64.bytesOf([
    a64.mrs(28, "ESR_EL1"),
    a64.mrs(29, "FAR_EL1"),
    a64.mrs(27, "ELR_EL1"),
    a64.str(28, 19, 8),
    a64.b(-1),
  ]);
  const parts: { at: number; bytes: Uint8Array }[] = [
    { at: PLACE.routines, bytes: a64.bytesOf(words) },
  ];
  for (let n = 0; n < VECTORS; n++) parts.push({ at: n * VECTOR_BYTES, bytes: vector });
  parts.push({ at: PLACE.patched, bytes: a64.bytesOf(constant(1)) });
  for (let n = 0; n < VCPUS_MAX; n++) {
    const at = PLACE.own + n * PLACE.ownBytes;
    const own = loop(shift, rewriteHere(), (PLACE.routines - at - OWN_LOOP) / 4);
    parts.push({ at, bytes: a64.bytesOf(constant(0)) });
    parts.push({ at: at + OWN_LOOP, bytes: a64.bytesOf(own) });
  }
  const atomics = entries.atomics + 4 * LOOP_HEAD;
  return {
    parts,
    begin: PLACE.routines + 4,
    entries,
    atomics: { ldadd: atomics + 4 * 2, retry: atomics + 4 * 7 },
  };
}
