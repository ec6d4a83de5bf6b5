// Owns: what the files of the benchmark image share.
#ifndef BENCH_H
#define BENCH_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;

/* Memory that phases use; the rest of the 512 MiB is image and tables. */
#define POOL_A ((u8 *)0x44000000UL) /* 64 MiB */
#define POOL_B ((u8 *)0x48000000UL) /* 64 MiB, 64 MiB behind POOL_A */
#define POOL_C ((u8 *)0x4c000000UL) /* 64 MiB */
#define PAGES ((u8 *)0x50000000UL)  /* 256 MiB: 65536 pages */
#define PAGE_COUNT 65536UL
#define PAGE_BYTES 4096UL

/* Nobody draws conclusions from what is inside. */
#define NOINLINE __attribute__((noipa))

/* Each phase: how much is left of its work after `shift` halvings, a checksum out. */
typedef u64 phase_fn(u32 shift);

phase_fn alu, dhrystone, calls, indirect, sum, copy, sha256;
phase_fn touch, retouch, hot_small, hot_large, touch_random;
phase_fn matrix, vector_add, find_byte;

/* A guest that never invalidates never lets an emulator size its TLB anew. */
static inline void invalidate_tlb(void)
{
  __asm__ volatile("dsb sy\n\ttlbi vmalle1\n\tdsb sy\n\tisb" : : : "memory");
}

/* Next number of a 64-bit xorshift sequence. */
static inline u64 next_random(u64 *state)
{
  u64 x = *state;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  *state = x;
  return x;
}

static inline u64 mix(u64 sum, u64 value)
{
  return (sum ^ value) * 0x9e3779b97f4a7c15UL + (sum >> 29);
}

#endif
