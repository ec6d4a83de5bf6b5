// Owns: phases of floating point and Advanced SIMD.
#include <arm_neon.h>
#include "bench.h"

#define SIDE 160UL
#define VECTOR_BYTES (1UL << 20)
#define FIND_BYTES (4UL << 20)

/* Doubles: c = a * b, row by row, so that the inner loop is load, multiply, add, store. */
NOINLINE static void multiply(double *c, const double *a, const double *b, u64 rows)
{
  for (u64 i = 0; i < rows; i++) {
    for (u64 j = 0; j < SIDE; j++) c[i * SIDE + j] = 0;
    for (u64 k = 0; k < SIDE; k++) {
      double factor = a[i * SIDE + k];
      for (u64 j = 0; j < SIDE; j++) c[i * SIDE + j] += factor * b[k * SIDE + j];
    }
  }
}

NOINLINE u64 matrix(u32 shift)
{
  double *a = (double *)POOL_A, *b = (double *)POOL_B, *c = (double *)POOL_C;
  for (u64 i = 0; i < SIDE * SIDE; i++) {
    a[i] = (double)(i % 97) / 7.0 - 3.5;
    b[i] = (double)(i % 89) / 11.0 - 2.25;
  }
  u64 rows = SIDE >> shift, check = 0;
  if (rows == 0) rows = 1;
  multiply(c, a, b, rows);
  for (u64 i = 0; i < rows * SIDE; i++) {
    union { double value; u64 bits; } cell = {c[i]};
    check = mix(check, cell.bits);
  }
  return check;
}

/* Floats of 1 MiB: c = a + b, four lanes at once, eight times. */
NOINLINE static void add_floats(float *c, const float *a, const float *b, u64 count)
{
  for (u64 i = 0; i < count; i += 8) {
    float32x4_t low = vaddq_f32(vld1q_f32(a + i), vld1q_f32(b + i));
    float32x4_t high = vaddq_f32(vld1q_f32(a + i + 4), vld1q_f32(b + i + 4));
    vst1q_f32(c + i, low);
    vst1q_f32(c + i + 4, high);
  }
}

NOINLINE u64 vector_add(u32 shift)
{
  float *a = (float *)POOL_A, *b = (float *)POOL_B, *c = (float *)POOL_C;
  u64 count = (VECTOR_BYTES / 4) >> shift, check = 0;
  for (u64 i = 0; i < count; i++) {
    a[i] = (float)(i & 1023) * 0.375f;
    b[i] = (float)(i & 511) * 1.1f;
  }
  for (int turn = 0; turn < 8; turn++) {
    add_floats(c, a, b, count);
    add_floats(a, c, b, count);
  }
  for (u64 i = 0; i < count; i += 64) {
    union { float value; u32 bits; } cell = {a[i]};
    check = mix(check, cell.bits);
  }
  return check;
}

/* The first of these bytes, 16 compared at once. */
NOINLINE static u64 find(const u8 *from, u64 bytes, u8 wanted)
{
  uint8x16_t all = vdupq_n_u8(wanted);
  for (u64 at = 0; at < bytes; at += 16) {
    uint8x16_t same = vceqq_u8(vld1q_u8(from + at), all);
    uint8x8_t nibbles = vshrn_n_u16(vreinterpretq_u16_u8(same), 4);
    u64 found = vget_lane_u64(vreinterpret_u64_u8(nibbles), 0);
    if (found != 0) return at + (u64)(__builtin_ctzl(found) >> 2);
  }
  return bytes;
}

NOINLINE u64 find_byte(u32 shift)
{
  u64 bytes = FIND_BYTES >> shift, check = 0;
  u64 *words = (u64 *)POOL_A;
  for (u64 i = 0; i < bytes / 8; i++) words[i] = 0x0102030405060708UL + (i & 15) * 0x10;
  POOL_A[bytes - 3] = 0xee;
  for (int turn = 0; turn < 8; turn++) check = mix(check, find(POOL_A, bytes, 0xee));
  return mix(check, find(POOL_A, bytes, 0xef));
}
