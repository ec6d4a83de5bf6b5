// Covers: PSCI CPU_ON of a second core with entry and context, its entry state, a spin on a flag
// in shared memory, PSCI AFFINITY_INFO, CPU_OFF and SYSTEM_OFF. Ours.
//
//   core 0 switches core 1 on; core 1 prints and goes off; core 0 sees it off and powers off
        .equ    UART, 0x09000000
        .equ    CPU_OFF, 0x84000002
        .equ    CPU_ON, 0xc4000003
        .equ    AFFINITY_INFO, 0xc4000004
        .equ    SYSTEM_OFF, 0x84000008
        .equ    CONTEXT, 0x1234

        .globl  _start
_start: ldr     x21, =UART
        adr     x0, first
        bl      print
        ldr     x0, =CPU_ON
        mov     x1, #1
        adr     x2, second
        mov     x3, #CONTEXT
        hvc     #0
        cbnz    x0, bad
wait:   adr     x1, flag
        ldar    w0, [x1]
        cbz     w0, wait
still:  ldr     x0, =AFFINITY_INFO
        mov     x1, #1
        mov     x2, #0
        hvc     #0
        cmp     x0, #1                  // off
        b.ne    still
        adr     x0, good
        b       leave
bad:    adr     x0, failed
leave:  bl      print
        ldr     x0, =SYSTEM_OFF
        hvc     #0
        b       .

// The second core: x0 is the context, nothing else is promised.
second: ldr     x21, =UART
        mov     x1, #CONTEXT
        cmp     x0, x1
        b.ne    bad
        mrs     x1, MPIDR_EL1
        and     x1, x1, #0xff
        cmp     x1, #1
        b.ne    bad
        adr     x0, awake
        bl      print
        adr     x1, flag
        mov     w0, #1
        stlr    w0, [x1]
        ldr     x0, =CPU_OFF
        hvc     #0
        b       bad

// x0: text that ends with a zero byte
print:  ldrb    w1, [x0], #1
        cbz     w1, 1f
        strb    w1, [x21]
        b       print
1:      ret

first:  .asciz  "core 0 is up\n"
awake:  .asciz  "core 1 is up\n"
good:   .asciz  "core 1 is off\nEXIT: STATUS=1\n"
failed: .asciz  "EXIT: STATUS=3\n"
        .balign 8
        .ltorg
flag:   .word   0
