// Owns: phases of loads and stores: sum, copy, SHA-256 over memory, page writes.
#include "bench.h"

#define SUM_BYTES (8UL << 20)
#define COPY_BYTES (64UL << 20)

static void fill(u8 *at, u64 bytes, u64 seed)
{
  u64 *words = (u64 *)at;
  for (u64 i = 0; i < bytes / 8; i++) words[i] = next_random(&seed);
}

NOINLINE static u64 sum_words(const u64 *from, u64 count)
{
  u64 total = 0;
  for (u64 i = 0; i < count; i++) total = (total ^ from[i]) + (total >> 63);
  return total;
}

/* 8 MiB, read eight times: 2048 pages. */
NOINLINE u64 sum(u32 shift)
{
  u64 bytes = SUM_BYTES >> shift, total = 0;
  u64 *words = (u64 *)POOL_A;
  /* Every 512th word, so that the phase is the sum and not the filling. */
  for (u64 i = 0; i < bytes / 8; i += 512) words[i] = i * 0x9e3779b97f4a7c15UL;
  for (int turn = 0; turn < 8; turn++) total = mix(total, sum_words(words, bytes / 8));
  return total;
}

NOINLINE static void copy_words(u64 *to, const u64 *from, u64 bytes)
{
  __asm__ volatile("1:\n\t"
                   "ldp x9, x10, [%1], #16\n\t"
                   "subs %2, %2, #16\n\t"
                   "stp x9, x10, [%0], #16\n\t"
                   "b.ne 1b"
                   : "+r"(to), "+r"(from), "+r"(bytes)
                   :
                   : "x9", "x10", "cc", "memory");
}

/* 64 MiB to where a direct-mapped TLB has the same index. */
NOINLINE u64 copy(u32 shift)
{
  u64 bytes = COPY_BYTES >> shift;
  u64 *from = (u64 *)POOL_A, *to = (u64 *)POOL_B;
  for (u64 i = 0; i < bytes / 8; i += 512) from[i] = i ^ 0x5bd1e9955bd1e995UL;
  copy_words(to, from, bytes);
  u64 check = 0;
  for (u64 i = 0; i < bytes / 8; i += 512) check = mix(check, to[i]);
  return check;
}

/* FIPS 180-4. */
static const u32 round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
    0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
    0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
    0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
    0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
    0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
    0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
    0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2};

static inline u32 ror(u32 x, int by)
{
  return (x >> by) | (x << (32 - by));
}

NOINLINE static void sha256_block(u32 state[8], const u32 *block)
{
  u32 w[64];
  for (int i = 0; i < 16; i++) w[i] = __builtin_bswap32(block[i]);
  for (int i = 16; i < 64; i++) {
    u32 s0 = ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ (w[i - 15] >> 3);
    u32 s1 = ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ (w[i - 2] >> 10);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  u32 a = state[0], b = state[1], c = state[2], d = state[3];
  u32 e = state[4], f = state[5], g = state[6], h = state[7];
  for (int i = 0; i < 64; i++) {
    u32 big1 = ror(e, 6) ^ ror(e, 11) ^ ror(e, 25);
    u32 t1 = h + big1 + ((e & f) ^ (~e & g)) + round_constants[i] + w[i];
    u32 big0 = ror(a, 2) ^ ror(a, 13) ^ ror(a, 22);
    u32 t2 = big0 + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + t1;
    d = c, c = b, b = a, a = t1 + t2;
  }
  state[0] += a, state[1] += b, state[2] += c, state[3] += d;
  state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

/* 64 KiB, as often as makes 8 MiB. */
NOINLINE u64 sha256(u32 shift)
{
  u32 state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  fill(POOL_C, 65536, 0x243f6a8885a308d3UL);
  const u32 *words = (const u32 *)POOL_C;
  u64 blocks = 131072UL >> shift;
  for (u64 at = 0; at < blocks; at++) sha256_block(state, words + (at & 1023) * 16);
  u64 check = 0;
  for (int i = 0; i < 8; i++) check = mix(check, state[i]);
  return check;
}

/* One 8-byte store to each page, in order. */
NOINLINE u64 touch(u32 shift)
{
  u64 pages = PAGE_COUNT >> shift;
  for (u64 page = 0; page < pages; page++) {
    *(volatile u64 *)(PAGES + page * PAGE_BYTES) = page;
  }
  return pages;
}

/* Again, four times: every page was stored to before. */
NOINLINE u64 retouch(u32 shift)
{
  u64 pages = 0;
  for (int turn = 0; turn < 4; turn++) pages += touch(shift);
  return pages;
}

/* The same few pages, the TLB invalidated 16 times on the way. */
NOINLINE static u64 store_around(u64 pages, u64 stores)
{
  u64 page = 0;
  for (int turn = 0; turn < 16; turn++) {
    for (u64 left = stores / 16; left != 0; left--) {
      *(volatile u64 *)(PAGES + page * PAGE_BYTES) = left;
      page++;
      if (page == pages) page = 0;
    }
    invalidate_tlb();
  }
  return mix(pages, stores);
}

NOINLINE u64 hot_large(u32 shift)
{
  return store_around(1024, 8000000UL >> shift);
}

NOINLINE u64 hot_small(u32 shift)
{
  return store_around(128, 16000000UL >> shift);
}

NOINLINE u64 touch_random(u32 shift)
{
  u64 state = 0x9e3779b97f4a7c15UL, check = 0;
  for (u64 left = 500000UL >> shift; left != 0; left--) {
    u64 value = next_random(&state);
    u64 page = value & (PAGE_COUNT - 1);
    *(volatile u64 *)(PAGES + page * PAGE_BYTES + 8) = value;
    check += page;
  }
  return check;
}
