// Owns: phases of integer code without much memory: arithmetic, records and strings, calls.
#include "bench.h"

/* 10 operations a turn, one result feeding the next. */
NOINLINE u64 alu(u32 shift)
{
  u64 a = 0x0123456789abcdefUL, b = 0xfedcba9876543210UL, c = 1;
  for (u64 left = 20000000UL >> shift; left != 0; left--) {
    a += b ^ c;
    b = (b << 7) | (b >> 57);
    c = (a & b) + (c >> 3);
    a ^= c << 11;
    b -= a;
    c |= left;
  }
  return mix(mix(a, b), c);
}

/* fib(n) the slow way: calls and returns, stack frames. */
__attribute__((noipa, optimize("no-optimize-sibling-calls"))) static u64 fib(u64 n)
{
  return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

NOINLINE u64 calls(u32 shift)
{
  /* A step of n is a factor of 1.6: two for three halvings is near enough. */
  return fib(31 - (shift * 10) / 7);
}

/* 16 functions, each in a page of its own. */
#define FAR(n) \
  __attribute__((noipa, aligned(4096))) static u64 far_##n(u64 x, u64 y) \
  { \
    return (x >> (n & 3)) + y * (2 * n + 1); \
  }
FAR(0) FAR(1) FAR(2) FAR(3) FAR(4) FAR(5) FAR(6) FAR(7)
FAR(8) FAR(9) FAR(10) FAR(11) FAR(12) FAR(13) FAR(14) FAR(15)

typedef u64 far_fn(u64, u64);
static far_fn *const volatile far_table[16] = {
    far_0, far_1, far_2,  far_3,  far_4,  far_5,  far_6,  far_7,
    far_8, far_9, far_10, far_11, far_12, far_13, far_14, far_15,
};

NOINLINE u64 indirect(u32 shift)
{
  u64 x = 1, y = 0;
  for (u64 left = 3200000UL >> shift; left != 0; left--) {
    x = far_table[(left + (left >> 4) * 5) & 15](x, left);
    y ^= x;
  }
  return mix(x, y);
}

/* Records that point at each other, strings that are copied and compared, small functions. */
enum kind { FIRST, SECOND, THIRD };

struct record {
  struct record *next;
  enum kind kind;
  int number;
  char text[32];
  int table[8];
};

static struct record pair[2];
static int matrix_of[16][16];
static int total;

NOINLINE static char *copy_text(char *to, const char *from)
{
  char *start = to;
  while ((*to++ = *from++) != 0) {
  }
  return start;
}

NOINLINE static int compare_text(const char *a, const char *b)
{
  while (*a == *b && *a != 0) a++, b++;
  return (u8)*a - (u8)*b;
}

NOINLINE static enum kind next_kind(enum kind kind, int number)
{
  switch (kind) {
  case FIRST: return number > 100 ? FIRST : THIRD;
  case SECOND: return number & 1 ? FIRST : SECOND;
  default: return SECOND;
  }
}

NOINLINE static void fill_row(int row[16], int table[8], int at, int value)
{
  row[at & 15] = value;
  row[(at + 1) & 15] = row[at & 15] + table[at & 7];
  table[at & 7] = value / (1 + (at & 7));
  table[(at + 3) & 7] += row[(at + 5) & 15] % 7;
  total += 5;
}

NOINLINE static void follow(struct record *record, int turn)
{
  struct record *next = record->next;
  *next = *record;
  next->number = turn;
  next->kind = next_kind(record->kind, turn & 255);
  next->next = record;
  if (next->kind == FIRST) record->number += 6;
  else record->number = next->number - record->number;
}

NOINLINE u64 dhrystone(u32 shift)
{
  static const char *const texts[2] = {
      "a text of thirty signs, FIRST", "a text of thirty signs, OTHER"};
  char local[32];
  u64 check = 0;
  total = 0;
  for (int i = 0; i < 16; i++) {
    for (int j = 0; j < 16; j++) matrix_of[i][j] = i - j;
  }
  pair[0] = (struct record){&pair[1], FIRST, 40, "the first of the two records", {1, 2, 3}};
  pair[1] = (struct record){&pair[0], THIRD, 10, "and the second one", {4, 5, 6}};
  int turns = 400000 >> shift;
  for (int turn = 0; turn < turns; turn++) {
    copy_text(local, texts[turn & 1]);
    int order = compare_text(local, texts[0]);
    follow(&pair[0], turn);
    if (order != 0) copy_text(pair[1].text, local);
    fill_row(matrix_of[turn & 15], pair[turn & 1].table, turn, order + turn);
    for (int i = 0; i <= (turn & 3); i++) total += pair[1].number * i - order;
    check = mix(check, (u64)(u32)total + (u64)pair[1].text[turn & 15]);
  }
  return check;
}
