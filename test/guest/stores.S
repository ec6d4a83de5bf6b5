// Covers: a workload for experiments: cores that store to pages of their own without end, each store
// of a value that its page has never held. Ours.
//
//   core n, 0 to 3: 1024 pages from 4 MiB * (n + 1) of RAM, chosen by a linear congruence; 16 steps of
//   arithmetic between stores. Core 0 switches the others on. RAM: 64 MiB or more.
        .equ    UART, 0x09000000
        .equ    CPU_ON, 0xc4000003
        .equ    CORES, 4

        .globl  _start
_start: ldr     x21, =UART
        adr     x0, hello
print:  ldrb    w1, [x0], #1
        cbz     w1, 1f
        strb    w1, [x21]
        b       print
1:      mov     x22, #1
next:   cmp     x22, #CORES
        b.eq    first
        ldr     x0, =CPU_ON
        mov     x1, x22
        adr     x2, work
        mov     x3, x22
        hvc     #0
        add     x22, x22, #1
        b       next
first:  mov     x0, #0

// x0: which core
work:   add     x1, x0, #1
        mov     x20, #0x40000000        // RAM
        add     x20, x20, x1, lsl #22
        ldr     x23, =6364136223846793005
        ldr     x24, =1442695040888963407
        mov     x25, x1                 // state of the congruence
        mov     x26, #0                 // stores so far
store:  madd    x25, x25, x23, x24
        ubfx    x2, x25, #40, #10       // page
        ubfx    x3, x25, #50, #9        // word of the page
        lsl     x2, x2, #12
        add     x2, x2, x3, lsl #3
        add     x26, x26, #1
        str     x26, [x20, x2]
        mov     x4, #16
spin:   subs    x4, x4, #1
        b.ne    spin
        b       store

hello:  .asciz  "storing\n"
        .balign 8
        .ltorg
