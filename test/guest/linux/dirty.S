// Goal: `dirty W R S`, a Linux program: rewrites R pages a second (0: as fast as it can) round robin
// over W MiB for S seconds (0: for ever), and finds any page that has lost what was written to it.
// Method: each rewrite leaves a stamp of page and round in 16 bytes, somewhere else in each page, and
// checks the one before it. A line per second: `dirty t=S writes=N bad=N`; `bad` must stay 0.
// Exit status: 0, or 1 when any was bad, 2 when it is called wrongly.
//
// The file is flat and its own ELF header, so assembler and objcopy make the whole program.
//   x19 memory  x20 its pages  x21 rate  x22 seconds  x23 next page  x24 round
//   x25 writes  x26 bad        x27 start, ms          x28 next report, s
.set LOAD_AT, 0x400000
.set PAGE_SHIFT, 12
.set SYS_WRITE, 64
.set SYS_EXIT_GROUP, 94
.set SYS_CLOCK_GETTIME, 113
.set SYS_NANOSLEEP, 101
.set SYS_MMAP, 222
.set CLOCK_MONOTONIC, 1
.set TICK_NS, 10000000
.set BATCH, 4096

.text
header:
  .ascii "\177ELF"
  .byte 2, 1, 1, 0                      // 64 bits, little endian, version 1, System V
  .quad 0
  .hword 2, 183                         // ET_EXEC, EM_AARCH64
  .word 1
  .quad LOAD_AT + (_start - header)
  .quad segments - header
  .quad 0
  .word 0
  .hword 64, 56, 1, 0, 0, 0             // header's size, segment's size, one segment, no sections
segments:
  .word 1, 5                            // PT_LOAD, R+X; buffers are on the stack
  .quad 0, LOAD_AT, LOAD_AT
  .quad end - header, end - header
  .quad 0x10000

_start:
  ldr x0, [sp]
  cmp x0, #4
  b.ne usage
  ldr x0, [sp, #16]
  bl number
  cbz x0, usage
  lsl x20, x0, #(20 - PAGE_SHIFT)
  ldr x0, [sp, #24]
  bl number
  mov x21, x0
  ldr x0, [sp, #32]
  bl number
  mov x22, x0
  mov x0, #0
  lsl x1, x20, #PAGE_SHIFT
  mov x2, #3                            // PROT_READ | PROT_WRITE
  mov x3, #0x22                         // MAP_PRIVATE | MAP_ANONYMOUS
  mov x4, #-1
  mov x5, #0
  mov x8, #SYS_MMAP
  svc #0
  cmn x0, #4095
  b.hs usage
  mov x19, x0
  mov x23, #0
  mov x24, #1
  mov x25, #0
  mov x26, #0
  mov x28, #1
  bl milliseconds
  mov x27, x0

loop:
  bl milliseconds
  sub x9, x0, x27
  mov x10, #1000
  udiv x11, x9, x10
  cmp x11, x28
  b.lo 1f
  mov x28, x11
  bl report
  cbz x22, 0f
  cmp x28, x22
  b.hs done
0:
  add x28, x28, #1
1:
  cbnz x21, paced
  mov x0, #BATCH
  bl rewrite
  b loop

paced:
  bl milliseconds
  sub x9, x0, x27
  mul x9, x9, x21
  mov x10, #1000
  udiv x9, x9, x10
  subs x0, x9, x25
  b.ls 2f
  mov x10, #BATCH
  cmp x0, x10
  csel x0, x0, x10, lo
  bl rewrite
2:
  sub sp, sp, #16
  ldr x1, =TICK_NS
  stp xzr, x1, [sp]
  mov x0, sp
  mov x1, #0
  mov x8, #SYS_NANOSLEEP
  svc #0
  add sp, sp, #16
  b loop

done:
  cmp x26, #0
  cset x0, ne
leave:
  mov x8, #SYS_EXIT_GROUP
  svc #0

usage:
  adr x1, usage_text
  mov x2, #(usage_end - usage_text)
  mov x0, #2
  mov x8, #SYS_WRITE
  svc #0
  mov x0, #2
  b leave

// Rewrites x0 pages. A stamp is page << 32 | round and its complement; memory starts as zeros.
rewrite:
  mov x9, x0
3:
  cbz x9, 5f
  and x10, x23, #0xff
  lsl x10, x10, #4
  add x10, x10, x23, lsl #PAGE_SHIFT
  add x10, x10, x19
  ldp x11, x12, [x10]
  lsl x13, x23, #32
  sub x14, x24, #1
  orr x14, x13, x14
  mvn x15, x14
  cmp x24, #1
  csel x14, xzr, x14, eq
  csel x15, xzr, x15, eq
  cmp x11, x14
  ccmp x12, x15, #0, eq
  cinc x26, x26, ne
  orr x14, x13, x24
  mvn x15, x14
  stp x14, x15, [x10]
  add x25, x25, #1
  add x23, x23, #1
  cmp x23, x20
  b.lo 4f
  mov x23, #0
  add x24, x24, #1
4:
  sub x9, x9, #1
  b 3b
5:
  ret

// x0: milliseconds of CLOCK_MONOTONIC
milliseconds:
  sub sp, sp, #16
  mov x0, #CLOCK_MONOTONIC
  mov x1, sp
  mov x8, #SYS_CLOCK_GETTIME
  svc #0
  ldp x0, x1, [sp], #16
  mov x2, #1000
  mul x0, x0, x2
  ldr x2, =1000000
  udiv x1, x1, x2
  add x0, x0, x1
  ret

// x0: the decimal number at x0; whatever else is there ends it
number:
  mov x1, x0
  mov x0, #0
6:
  ldrb w2, [x1], #1
  sub w2, w2, #'0'
  cmp w2, #9
  b.hi 7f
  mov x3, #10
  madd x0, x0, x3, x2
  b 6b
7:
  ret

// The line of this second, put together backwards.
report:
  stp x29, x30, [sp, #-16]!
  mov x29, sp
  sub sp, sp, #128
  mov x1, x29
  mov w2, #'\n'
  strb w2, [x1, #-1]!
  mov x0, x26
  adr x2, bad_text
  bl field
  mov x0, x25
  adr x2, writes_text
  bl field
  mov x0, x28
  adr x2, seconds_text
  bl field
  sub x2, x29, x1
  mov x0, #1
  mov x8, #SYS_WRITE
  svc #0
  mov sp, x29
  ldp x29, x30, [sp], #16
  ret

// Puts a text, its length first, and the number x0 before x1.
field:
  mov x3, #10
8:
  udiv x4, x0, x3
  msub x5, x4, x3, x0
  add w5, w5, #'0'
  strb w5, [x1, #-1]!
  mov x0, x4
  cbnz x0, 8b
  ldrb w3, [x2], #1
9:
  sub w3, w3, #1
  ldrb w4, [x2, x3]
  strb w4, [x1, #-1]!
  cbnz w3, 9b
  ret

  .ltorg
bad_text:
  .ascii "\005 bad="
writes_text:
  .ascii "\010 writes="
seconds_text:
  .ascii "\010dirty t="
usage_text:
  .ascii "usage: dirty MIB PAGES-PER-SECOND SECONDS\n"
usage_end:
  .balign 4
end:
