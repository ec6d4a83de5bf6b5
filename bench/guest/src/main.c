// Owns: which phases there are, the order they run in, and the lines that they print.
#include "bench.h"

#define UART_DR (*(volatile u8 *)0x09000000UL)

struct parameters {
  u32 phases, repetitions, waiting, shift;
};

extern void uart_wait(void);

/* The compiler calls it for records. */
void *memset(void *to, int value, u64 bytes)
{
  u8 *at = to;
  while (bytes-- != 0) *at++ = (u8)value;
  return to;
}

static void put(const char *text)
{
  while (*text != 0) UART_DR = (u8)*text++;
}

static void put_decimal(u64 value)
{
  char text[24];
  int at = sizeof text - 1;
  text[at] = 0;
  do {
    text[--at] = (char)('0' + value % 10);
    value /= 10;
  } while (value != 0);
  put(text + at);
}

static void put_hex(u64 value)
{
  for (int shift = 60; shift >= 0; shift -= 4) {
    UART_DR = (u8)"0123456789abcdef"[(value >> shift) & 15];
  }
}

static inline u64 counter(void)
{
  u64 value;
  __asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(value) : : "memory");
  return value;
}

static inline u64 frequency(void)
{
  u64 value;
  __asm__ volatile("mrs %0, cntfrq_el0" : "=r"(value));
  return value;
}

/* A bit of the host's masks is an index here. */
static const struct {
  const char *name;
  phase_fn *run;
} phases[] = {
    {"alu", alu},           {"dhrystone", dhrystone}, {"calls", calls},
    {"indirect", indirect}, {"sum", sum},             {"memcpy", copy},
    {"sha256", sha256},     {"matrix", matrix},       {"vectoradd", vector_add},
    {"memchr", find_byte},  {"touch", touch},         {"retouch", retouch},
    {"random", touch_random}, {"hot4m", hot_large},   {"hot512k", hot_small},
};

static void run_phase(u32 index, const struct parameters *host)
{
  if ((host->waiting >> index) & 1) {
    put("wait ");
    put(phases[index].name);
    UART_DR = '\n';
    uart_wait();
  }
  put("begin ");
  put(phases[index].name);
  UART_DR = '\n';
  invalidate_tlb();
  u64 start = counter();
  u64 result = phases[index].run(host->shift);
  u64 end = counter();
  put("phase ");
  put(phases[index].name);
  put(" ticks ");
  put_decimal(end - start);
  put(" freq ");
  put_decimal(frequency());
  put(" sum ");
  put_hex(result);
  UART_DR = '\n';
}

void bench(const struct parameters *host)
{
  for (u32 repetition = 0; repetition < host->repetitions; repetition++) {
    for (u32 index = 0; index < sizeof phases / sizeof phases[0]; index++) {
      if ((host->phases >> index) & 1) run_phase(index, host);
    }
  }
  put("end\n");
}
