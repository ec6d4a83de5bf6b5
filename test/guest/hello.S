// Covers: the flat loader's entry state (x0 = device tree, EL1h, DAIF masked, x1 to x3 zero),
// PL011 output by byte stores, polled PL011 input, PSCI SYSTEM_OFF, the EXIT line. Ours.
//
//   prints a greeting, waits for a line, prints it back, powers off with EXIT: STATUS=1
//   (STATUS=3 when the entry state is not what a flat binary is promised)
        .equ    UART, 0x09000000
        .equ    FR, 0x18
        .equ    FR_RXFE_BIT, 4
        .equ    SYSTEM_OFF, 0x84000008

        .globl  _start
_start: mov     x19, x0
        orr     x20, x1, x2
        orr     x20, x20, x3
        ldr     x21, =UART
        adr     x0, greeting
        bl      print
        cbnz    x20, bad
        mrs     x1, CurrentEL
        cmp     x1, #(1 << 2)
        b.ne    bad
        mrs     x1, SPSel
        cmp     x1, #1
        b.ne    bad
        mrs     x1, DAIF
        cmp     x1, #0x3c0
        b.ne    bad
        ldr     w1, [x19]               // magic of the device tree, big-endian
        ldr     w2, =0xedfe0dd0
        cmp     w1, w2
        b.ne    bad
        adr     x0, prompt
        bl      print
        adr     x22, line
read:   ldr     w1, [x21, #FR]
        tbnz    w1, #FR_RXFE_BIT, read
        ldrb    w1, [x21]
        cmp     w1, #'\r'
        mov     w2, #'\n'
        csel    w1, w2, w1, eq
        strb    w1, [x22], #1
        cmp     w1, #'\n'
        b.ne    read
        strb    wzr, [x22]
        adr     x0, echo
        bl      print
        adr     x0, line
        bl      print
        adr     x0, good
        b       leave
bad:    adr     x0, failed
leave:  bl      print
        ldr     x0, =SYSTEM_OFF
        hvc     #0
        b       .

// x0: text that ends with a zero byte
print:  ldrb    w1, [x0], #1
        cbz     w1, 1f
        strb    w1, [x21]
        b       print
1:      ret

greeting: .asciz "hello from a flat binary\n"
prompt: .asciz  "type a line\n"
echo:   .asciz  "you typed: "
good:   .asciz  "EXIT: STATUS=1\n"
failed: .asciz  "entry state is wrong\nEXIT: STATUS=3\n"
        .balign 8
        .ltorg
line:   .space  256
