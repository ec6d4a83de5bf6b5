// Owns: where the state of one PE lies in its window of the VM's memory. VM thread.
//
//   0       x0…x30, ZERO, SP, SINK      8 bytes each
//   272     PC, flags, FPCR, FPSR
//   304     v0…v31                      16 bytes each
//   816     what the tiers keep beside  (below)
//   1024    jump cache                  1024 entries of 16 bytes: tag, record, first record of page
//   17408   system registers            8 bytes each
//   32768   TLB, two banks              4096 entries of 32 bytes: read tag, write tag, addend
//
// Every offset fits the 16 bits of a record's operand. Bytes, not objects: both tiers and
// TypeScript read and write the same words (DESIGN 5).

/** Reads 0, and nothing writes it: register 31 as a source. */
export const SLOT_ZERO = 31 * 8;
/** The stack pointer in use: SP_EL0 or SP_EL1, as PSTATE.SP says. */
export const SLOT_SP = 32 * 8;
/** Written, and nothing reads it: register 31 as a destination. */
export const SLOT_SINK = 33 * 8;
export const slotX = (n: number): number => n * 8;
/** Valid between two runs; within one, the record says where it is. */
export const PC = 272;
/** N in bit 31; Z is "this word is 0"; C is 0 or 1; V in bit 31. */
export const FLAG_N = 280;
export const FLAG_Z = 284;
export const FLAG_C = 288;
export const FLAG_V = 292;
export const FPCR = 296;
export const FPSR = 300;
export const V0 = 304;
export const slotV = (n: number): number => V0 + n * 16;
/** Virtual address of the page whose records are in use. */
export const CODE_VA = 816;
/** Host address of that page's first record. */
export const CODE_BASE = 824;
/** Why the run was left: EXIT below. */
export const EXIT = 828;
/** Record of the instruction that is in a slow path, or that comes next after a slice. */
export const RECORD = 832;
/** Records passed that were no instructions: page ends and words decoded on the way. */
export const REFUND = 836;
/** Bits 63:52 of every valid TLB tag. */
export const TLB_GENERATION = 840;
/** Host address of the TLB bank of the present exception level. */
export const TLB_BANK = 848;
/** Bits 1:0 of a jump-cache tag: the exception level. */
export const FETCH_TAG = 852;
/** The exclusive monitor: virtual address (all ones: open), size in bytes, value loaded. */
export const EXCLUSIVE_VA = 856;
export const EXCLUSIVE_LOW = 864;
export const EXCLUSIVE_HIGH = 872;
export const EXCLUSIVE_SIZE = 880;
/** Not 0: FP and SIMD instructions trap (CPACR_EL1.FPEN at this exception level). */
export const FP_TRAP = 884;
/** What TPIDR_EL0 and TPIDRRO_EL0 hold. */
export const TPIDR_EL0 = 888;
export const TPIDRRO_EL0 = 896;
/** 64 bytes that stand in for memory where an access crosses a page. */
export const BOUNCE = 912;

/** PSTATE without NZCV, as SPSR_EL1 has it: SS, IL, DAIF, EL, SP. */
export const PSTATE = 976;
/** Not 0: the event register is set (SEV, and what counts as an event). */
export const EVENT = 980;

/** What the run may still do, this instruction not counted. */
export const BUDGET = 984;
/**
 * Flags that tier 1 left as what they come from (lib/flags.ts): kind, and the operands. Not 0:
 * the flag words are out of date. Tier 0 and TypeScript never see that.
 */
export const FLAGS_PENDING = 988;
export const FLAGS_X = 992;
export const FLAGS_Y = 1000;

/** Not 0: DC ZVA traps (SCTLR_EL1.DZE at EL0). */
export const ZVA_TRAP = 1008;

/** What the PE's state is: the rest is made from it, or means something within a run only. */
export const STATE: readonly (readonly [from: number, to: number])[] = [
  [0, CODE_VA],
  [EXCLUSIVE_VA, BOUNCE],
  [PSTATE, BUDGET],
];

export const JUMP_CACHE = 1024;
export const JUMP_ENTRIES = 4096; // tidy: entries, not a page
export const JUMP_ENTRY_BYTES = 16;

/** System registers with storage, 8 bytes each, in the order of pe/sysreg.table.ts. */
export const SYSREGS = JUMP_CACHE + JUMP_ENTRIES * JUMP_ENTRY_BYTES;
export const SYSREGS_BYTES = 4096; // tidy: room for 512 registers

export const TLB = 73_728;
export const TLB_BANKS = 2;
export const TLB_ENTRIES = 4096; // tidy: entries, not a page
export const TLB_ENTRY_BYTES = 32;
export const TLB_BANK_BYTES = TLB_ENTRIES * TLB_ENTRY_BYTES;
/** The TLB's own granule, whatever the guest's and the host's are: the smallest of all. */
export const TLB_PAGE_SHIFT = 12; // tidy: the TLB's granule, not the host's page
/** Offsets within an entry. */
export const TLB_READ = 0;
export const TLB_WRITE = 8;
export const TLB_ADDEND = 16;

export const WINDOW_BYTES = TLB + TLB_BANKS * TLB_BANK_BYTES;

/** Bits of the flags that a slow path of memory gets: bytes in 6:0, log2 of the element above. */
export const SLOW = {
  bytes: 0x7f,
  write: 1 << 8,
  unprivileged: 1 << 9,
  aligned: 1 << 10,
  /** From tier 1: only plain memory in one page will do; else 0, and nothing has happened. */
  attempt: 1 << 11,
} as const;
export const SLOW_ELEMENT_SHIFT = 12; // tidy: a bit position

/** What the system side is asked for. */
export const WHY = { instruction: 0, undefined: 1, fpTrap: 2 } as const;

/**
 * A record is an instruction word, decoded: 32 bytes.
 *   +0 handler   +2 slot of tier 1, or 0   +4 six operand slots   (16 bits each)
 *   +16 word   +20 imm32   +24 imm64
 */
export const RECORD_BYTES = 32;
export const RECORD_SLOT = 2;
export const RECORD_REGS = 4;
export const RECORD_REGS_MAX = 6;
export const RECORD_WORD = 16;
export const RECORD_IMM32 = 20;
export const RECORD_IMM64 = 24;

/** Handlers that no row makes. A record of zeros is one that is not decoded yet. */
export const HANDLER = { decode: 0, pageEnd: 1, undefined: 2, first: 3 } as const;
/** Records of one page of code, without the one that leads to the next page. */
export const RECORDS_PER_PAGE = 2 ** (TLB_PAGE_SHIFT - 2);
/** How often each record was jumped to in tier 0, 16 bits each, behind the records. */
export const COUNTERS = (RECORDS_PER_PAGE + 1) * RECORD_BYTES;
/** Where the function in a record's slot is entered for it, 16 bits each, behind the counters. */
export const LABELS = COUNTERS + RECORDS_PER_PAGE * 2;
/** With room that keeps blocks a multiple of a record. */
export const BLOCK_BYTES = LABELS + (RECORDS_PER_PAGE + RECORD_BYTES / 2) * 2;
/** Bit of a record's address that tier 1 returns: execute it in tier 0 first. */
export const STEP = 1;
/**
 * Jumps to a record until it is worth translating: a translated instruction gains 4 ns a time and
 * costs some 40 us once. Booting a kernel, most code runs less often than that.
 */
export const HOT = 32_768;
/** The same for a guest's first pages of code. */
export const HOT_FIRST = 64;

/** Why a run ended. */
export const EXIT_REASON = {
  /** Its budget is used up. */
  slice: 0,
  /** The memory system or a system instruction wants the caller; PC says where to go on. */
  left: 1,
} as const;
