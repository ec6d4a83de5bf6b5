// Owns: entry of the benchmark image: the words that the host patches, stack, EL1 set-up, MMU.
// Flat at 0x4008_0000, entered at EL1 with the MMU off.

#define TABLES      0x41000000      // level 1, level 2 of RAM, level 2 of devices, level 3s
#define RAM_L2      0x41001000
#define DEVICE_L2   0x41002000
#define DEVICE_L3   0x41003000
#define RAM_L3      0x41004000
#define RAM_BASE    0x40000000
#define RAM_PAGES   0x20000         // 512 MiB
#define UART        0x09000000

#define TABLE       3
#define PAGE        3
#define AF          (1 << 10)
#define INNER       (3 << 8)
#define NORMAL      (1 << 2)        // MAIR index 1
#define DEVICE      (0 << 2)        // MAIR index 0
#define XN          (3 << 53)

    .section .text.start, "ax"
    .global _start
_start:
    b       enter
    .word   0x6b6d6474              // "tdmk"
    .word   1                       // version of these words
    .word   0
    // +16: what the host may patch.
    .global parameters
parameters:
    .word   0xffffffff              // +16 phases to run, a bit each
    .word   3                       // +20 repetitions
    .word   0                       // +24 phases that wait for a byte on the UART, a bit each
    .word   0                       // +28 every phase does 2^-n of its work
enter:
    ldr     x0, =stack_top
    mov     sp, x0
    adr     x0, vectors
    msr     vbar_el1, x0
    mov     x0, #(3 << 20)          // CPACR_EL1.FPEN: nothing traps
    msr     cpacr_el1, x0

    ldr     x0, =__bss_start
    ldr     x1, =__bss_end
1:  cmp     x0, x1
    b.hs    2f
    str     xzr, [x0], #8
    b       1b

    // Tables: 39 bits of address, 4 KiB pages, identity.
2:  ldr     x0, =TABLES
    ldr     x1, =DEVICE_L2 + TABLE
    str     x1, [x0]
    ldr     x1, =RAM_L2 + TABLE
    str     x1, [x0, #8]
    ldr     x0, =DEVICE_L2
    ldr     x1, =DEVICE_L3 + TABLE
    str     x1, [x0, #((UART >> 21) * 8)]
    ldr     x0, =DEVICE_L3
    ldr     x1, =UART + PAGE + AF + DEVICE
    ldr     x2, =XN
    orr     x1, x1, x2
    str     x1, [x0]
    ldr     x0, =RAM_L2
    ldr     x1, =RAM_L3 + TABLE
    mov     x2, #(RAM_PAGES / 512)
3:  str     x1, [x0], #8
    add     x1, x1, #4096
    subs    x2, x2, #1
    b.ne    3b
    ldr     x0, =RAM_L3
    ldr     x1, =RAM_BASE + PAGE + AF + INNER + NORMAL
    ldr     x2, =RAM_PAGES
4:  str     x1, [x0], #8
    add     x1, x1, #4096
    subs    x2, x2, #1
    b.ne    4b

    ldr     x0, =0xff00             // 0: Device-nGnRnE, 1: Normal write-back
    msr     mair_el1, x0
    ldr     x0, =(25 | (1 << 8) | (1 << 10) | (3 << 12) | (1 << 23) | (2 << 32))
    msr     tcr_el1, x0
    ldr     x0, =TABLES
    msr     ttbr0_el1, x0
    dsb     sy
    tlbi    vmalle1
    dsb     sy
    isb
    mrs     x0, sctlr_el1
    ldr     x1, =((1 << 0) | (1 << 2) | (1 << 12))
    orr     x0, x0, x1
    msr     sctlr_el1, x0
    isb
    adr     x0, parameters
    bl      bench
    ldr     w0, =0x84000008         // PSCI SYSTEM_OFF
    hvc     #0
    b       .

    .global uart_wait
// Returns when a byte came in, and takes it.
uart_wait:
    ldr     x1, =UART
5:  ldr     w0, [x1, #0x18]
    tbnz    w0, #4, 5b
    ldr     w0, [x1]
    ret

    // Nothing here expects an exception: say "!" and end.
    .balign 2048
vectors:
    .rept   16
    .balign 128
    ldr     x1, =UART
    mov     w0, #'!'
    strb    w0, [x1]
    mov     w0, #10
    strb    w0, [x1]
    ldr     w0, =0x84000008
    hvc     #0
    b       .
    .endr
    .balign 128
    .ltorg
