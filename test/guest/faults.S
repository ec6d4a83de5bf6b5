// Covers: every class of synchronous exception that EL1 and EL0 can take to EL1 here, with its ESR
// and FAR: faults of stage 1 at every level, alignment, instruction aborts, PC and SP alignment,
// undefined, SVC, BRK, illegal state, FP and WFI traps; MMIO and PSCI exits on the way. Ours.
//
//   each test: begin, code that faults, end: the handler comes back behind it with ESR and FAR
//   prints a line per test, then EXIT: STATUS=1 (STATUS=3 when one of them was wrong)
        .equ    UART, 0x09000000
        .equ    SYSTEM_OFF, 0x84000008
        .equ    ANY, -1                 // FAR is UNKNOWN
        .equ    L1, 0x40500000
        .equ    L2, 0x40501000
        .equ    L3, 0x40502000
        .equ    PAGE, 0x40510000
        .equ    NORMAL, 0x701           // block: AF, inner shareable, attribute 0
        .equ    NORMAL_PAGE, 0x703
        .equ    NO_AF, 0x301
        .equ    DEVICE, 0x60000000000405
        .equ    RO, 0x80
        .equ    EL0_RW, 0x40
        .equ    PXN, 0x20000000000000
        .equ    FAR_OUT, 0x1000000000   // beyond the 32 bits of TCR_EL1.IPS

        .macro  entry table, index, value
        ldr     x1, =\table + 8 * \index
        ldr     x2, =\value
        str     x2, [x1]
        .endm
        .macro  begin
        adr     x28, 9f
        mov     x20, #0
        mov     x21, #0
        .endm
        .macro  end name, esr, far
9:      ldr     x23, =\esr
        ldr     x24, =\far
        adr     x0, 8f
        bl      verdict
        b       7f
8:      .asciz  "\name"
        .balign 4
7:
        .endm
        // What follows runs at EL0.
        .macro  user
        begin
        adr     x1, 6f
        msr     ELR_EL1, x1
        msr     SPSR_EL1, xzr
        ldr     x0, =PAGE
        eret
6:
        .endm
        // A load, or a store, of one address at EL1.
        .macro  loads name, address, esr
        begin
        ldr     x0, =\address
        ldr     x1, [x0]
        end     "\name", \esr, \address
        .endm
        .macro  stores name, address, esr
        begin
        ldr     x0, =\address
        str     x1, [x0]
        end     "\name", \esr, \address
        .endm
        .macro  jumps name, address, esr
        begin
        ldr     x0, =\address
        br      x0
        end     "\name", \esr, \address
        .endm

        .globl  _start
_start: ldr     x26, =UART
        mov     x27, #0
        adr     x0, vectors
        msr     VBAR_EL1, x0
        ldr     x1, =L1
        ldr     x2, =L1 + 0x3000
1:      str     xzr, [x1], #8
        cmp     x1, x2
        b.ne    1b
        entry   L1, 0, DEVICE
        entry   L1, 1, L2 + 3
        entry   L1, 3, 0x40000000 + NO_AF
        entry   L1, 4, 0x40000000 + NORMAL + RO
        entry   L1, 5, FAR_OUT + NORMAL
        entry   L2, 0, 0x40000000 + NORMAL
        entry   L2, 1, 0x40200000 + NORMAL
        entry   L2, 2, 0x40400000 + NORMAL
        entry   L2, 3, L3 + 3
        entry   L2, 5, 0x40000000 + NO_AF
        entry   L2, 6, 0x40000000 + NORMAL + RO
        entry   L2, 7, FAR_OUT + NORMAL
        entry   L3, 0, PAGE + NORMAL_PAGE
        entry   L3, 2, PAGE + NO_AF + 2
        entry   L3, 3, PAGE + NORMAL_PAGE + RO
        entry   L3, 4, FAR_OUT + NORMAL_PAGE
        entry   L3, 5, PAGE + NORMAL_PAGE + EL0_RW
        entry   L3, 6, PAGE + NORMAL_PAGE + PXN
        ldr     x0, =0x04ff             // normal; device nGnRE
        msr     MAIR_EL1, x0
        ldr     x0, =0x803519           // T0SZ 25, write-back, inner; no TTBR1; IPS 32 bits
        msr     TCR_EL1, x0
        ldr     x0, =L1
        msr     TTBR0_EL1, x0
        dsb     sy
        tlbi    vmalle1
        dsb     sy
        isb
        mrs     x0, SCTLR_EL1
        mov     x1, #0x19               // M, SA, SA0
        orr     x0, x0, x1
        bic     x0, x0, #2              // A
        bic     x0, x0, #(1 << 16)      // nTWI
        msr     SCTLR_EL1, x0
        msr     CPACR_EL1, xzr
        isb

        loads   "EL1 load: translation, level 0", 0x10000000000, 0x96000004
        loads   "EL1 load: translation, level 1", 0x80000000, 0x96000005
        loads   "EL1 load: translation, level 2", 0x40800008, 0x96000006
        loads   "EL1 load: translation, level 3", 0x40601010, 0x96000007
        stores  "EL1 store: translation, level 1", 0x80000000, 0x96000045
        stores  "EL1 store: translation, level 3", 0x40601010, 0x96000047
        loads   "EL1 load: access flag, level 1", 0xc0000000, 0x96000009
        loads   "EL1 load: access flag, level 2", 0x40a00000, 0x9600000a
        loads   "EL1 load: access flag, level 3", 0x40602000, 0x9600000b
        stores  "EL1 store: permission, level 1", 0x100000000, 0x9600004d
        stores  "EL1 store: permission, level 2", 0x40c00000, 0x9600004e
        stores  "EL1 store: permission, level 3", 0x40603ff8, 0x9600004f
        loads   "EL1 load: address size, level 1", 0x140000000, 0x96000001
        loads   "EL1 load: address size, level 2", 0x40e00000, 0x96000002
        loads   "EL1 load: address size, level 3", 0x40604000, 0x96000003
        loads   "EL1 load: alignment, device", 0x09000001, 0x96000021
        begin
        ldr     x0, =0x4060000d
        ldxr    x1, [x0]
        end     "EL1 exclusive: alignment", 0x96000021, 0x4060000d
        begin
        ldr     x0, =0x40600ffc
        ldr     x1, [x0]
        end     "EL1 load into the next page", 0x96000007, 0x40601000
        jumps   "EL1 fetch: translation, level 1", 0x80000000, 0x86000005
        jumps   "EL1 fetch: translation, level 3", 0x40601000, 0x86000007
        jumps   "EL1 fetch: access flag, level 2", 0x40a00000, 0x8600000a
        jumps   "EL1 fetch: address size, level 3", 0x40604000, 0x86000003
        jumps   "EL1 fetch: permission, PXN", 0x40606000, 0x8600000f
        jumps   "EL1 fetch: permission, EL0 may write", 0x40605000, 0x8600000f
        jumps   "EL1 PC alignment", 0x40080002, 0x8a000000
        begin
        mov     x0, #8
        mov     sp, x0
        ldr     x1, [sp]
        end     "EL1 SP alignment", 0x9a000000, ANY
        begin
        .inst   0
        end     "EL1 undefined", 0x02000000, ANY
        begin
        svc     #0x1234
        end     "EL1 SVC", 0x56001234, ANY
        begin
        brk     #0x4321
        end     "EL1 BRK", 0xf2004321, ANY
        begin
        fmov    d0, xzr
        end     "EL1 floating point is off", 0x1fe00000, ANY
        begin
        mov     x0, #9                  // EL2h
        msr     SPSR_EL1, x0
        adr     x0, 1f
        msr     ELR_EL1, x0
        eret
1:      nop
        end     "EL1 illegal state", 0x3a000000, ANY

        user
        ldr     x1, [x0]
        end     "EL0 load: permission, level 2", 0x9200000e, PAGE
        user
        movz    x0, #0x8000, lsl #16
        ldr     x1, [x0]
        end     "EL0 load: translation, level 1", 0x92000005, 0x80000000
        user
        movz    x0, #0x4060, lsl #16
        movk    x0, #0x2008
        str     x1, [x0]
        end     "EL0 store: access flag, level 3", 0x9200004b, 0x40602008
        user
        movz    x0, #0x4060, lsl #16
        movk    x0, #0x4000
        str     x1, [x0]
        end     "EL0 store: address size, level 3", 0x92000043, 0x40604000
        user
        movz    x0, #0x4060, lsl #16
        movk    x0, #0x500d
        ldxr    x1, [x0]
        end     "EL0 exclusive: alignment", 0x92000021, 0x4060500d
        user
        movz    x0, #0x4060, lsl #16
        movk    x0, #0x5000
        str     x1, [x0]
        svc     #7
        end     "EL0 SVC, behind a store that may", 0x56000007, ANY
        user
        movz    x0, #0x4080, lsl #16
        br      x0
        end     "EL0 fetch: translation, level 2", 0x82000006, 0x40800000
        user
        movz    x0, #0x0900, lsl #16
        br      x0
        end     "EL0 fetch: permission, level 1", 0x8200000d, 0x09000000
        user
        add     x0, x0, #1
        br      x0
        end     "EL0 PC alignment", 0x8a000000, PAGE + 1
        mov     x0, #4
        msr     SP_EL0, x0
        user
        ldr     x1, [sp]
        end     "EL0 SP alignment", 0x9a000000, ANY
        user
        .inst   0
        end     "EL0 undefined", 0x02000000, ANY
        user
        mrs     x0, SCTLR_EL1
        end     "EL0 reads SCTLR_EL1", 0x02000000, ANY
        user
        hvc     #0
        end     "EL0 HVC", 0x02000000, ANY
        user
        brk     #1
        end     "EL0 BRK", 0xf2000001, ANY
        user
        fmov    d0, xzr
        end     "EL0 floating point is off", 0x1fe00000, ANY
        user
        wfi
        end     "EL0 WFI", 0x07e00000, ANY

        adr     x0, good
        cbz     x27, 1f
        adr     x0, failed
1:      bl      print
        ldr     x0, =SYSTEM_OFF
        hvc     #0
        b       .

// x0: the test's name; x20, x21: what came; x23, x24: what should have
verdict: mov    x25, x30
        bl      print
        cmp     x20, x23
        b.ne    1f
        cmn     x24, #1
        b.eq    2f
        cmp     x21, x24
        b.ne    1f
2:      adr     x0, right
        bl      print
        ret     x25
1:      mov     x27, #1
        adr     x0, wrong
        bl      print
        mov     x2, x20
        bl      hex
        mov     x2, x21
        bl      hex
        adr     x0, newline
        bl      print
        ret     x25

// x2: 16 digits and a space
hex:    mov     x3, #60
1:      lsr     x4, x2, x3
        and     x4, x4, #15
        cmp     x4, #10
        add     x5, x4, #'0'
        add     x4, x4, #('a' - 10)
        csel    x4, x5, x4, lo
        strb    w4, [x26]
        subs    x3, x3, #4
        b.ge    1b
        mov     x4, #' '
        strb    w4, [x26]
        ret

// x0: text that ends with a zero byte
print:  ldrb    w1, [x0], #1
        cbz     w1, 1f
        strb    w1, [x26]
        b       print
1:      ret

right:  .asciz  ": right\n"
wrong:  .asciz  ": WRONG, ESR and FAR "
newline: .asciz "\n"
good:   .asciz  "EXIT: STATUS=1\n"
failed: .asciz  "EXIT: STATUS=3\n"

        .balign 0x800
vectors:
        .rept   16
        .balign 0x80
        mrs     x20, ESR_EL1
        mrs     x21, FAR_EL1
        msr     ELR_EL1, x28
        mov     x19, #0x3c5             // EL1h, DAIF masked
        msr     SPSR_EL1, x19
        eret
        .endr
        .balign 8
        .ltorg
