// Covers: every way in which a guest ends KVM_RUN: MMIO of each size, accesses without a syndrome,
// calls that are forwarded, PSCI, guest debugging, timers, kicks, dirty rings, deferred CLEARs,
// memory that isn't there; and what ends no run: HLT, WFI, WFE, cache maintenance, coalesced
// stores. Ours.
//
//   X0: 0 all but deferred CLEARs, 1 those alone   X1: a page's bytes   X2: pages to dirty
//   what the guest finds out goes to TELL, where it has got to goes to MARK: stores of MMIO both.
//   test/guest/exits.test.ts is the VMM that answers
        .equ    MMIO, 0x09000000
        .equ    TELL, 0x09001000
        .equ    MARK, 8                 // behind TELL
        .equ    ZONE, 0x09002000        // coalesced
        .equ    BELL, 0x09003000        // an ioeventfd of 4 bytes
        .equ    ROM, 0x50000000
        .equ    LOG, 0x60000000
        .equ    MEMFD, 0x80000000
        .equ    UNBACKED, 0x90000000
        .equ    HOLE, 0xa0000000
        .equ    DATA, 0x40008000
        .equ    VECTORS, 0x1000
        .equ    DEBUGGED, 0x1800
        .equ    FORWARDED, 0xc6000001
        .equ    PSCI_VERSION, 0x84000000
        .equ    SYSTEM_OFF, 0x84000008
        .equ    SYSTEM_RESET, 0x84000009
        .equ    SYSTEM_SUSPEND, 0xc400000e
        .equ    SYSTEM_RESET2, 0xc4000012
        .equ    SYSTEM_OFF2, 0xc4000015
        .equ    VENDOR_RESET, 0x80000001
        .equ    ROUNDS, 200             // 64 make code hot

        .macro  tell reg
        str     \reg, [x20]
        .endm
        .macro  mark number
        mov     w9, #\number
        str     w9, [x20, #MARK]
        .endm
        // A load into X2, over ones, and what it left there.
        .macro  loads insn:vararg
        mov     x2, #-1
        \insn
        tell    x2
        .endm
        .macro  call function, how=hvc
        ldr     x0, =\function
        \how    #0
        tell    x0
        .endm
        // A store to each of X28 pages of LOG.
        .macro  dirty
        ldr     x10, =LOG
        mov     x11, x28
1:      str     x11, [x10]
        add     x10, x10, x27
        subs    x11, x11, #1
        b.ne    1b
        .endm

        .globl  _start
_start: adr     x3, vectors
        msr     VBAR_EL1, x3
        mov     x27, x1
        mov     x28, x2
        ldr     x19, =MMIO
        ldr     x20, =TELL
        ldr     x21, =ROM
        ldr     x22, =DATA
        cbnz    x0, cleaned

        // Stores of each size, with release too; then loads, extended with zeros and with the sign.
        ldr     x1, =0x8877665544332211
        strb    w1, [x19]
        strh    w1, [x19, #2]
        str     w1, [x19, #4]
        str     x1, [x19, #8]
        str     xzr, [x19, #16]
        stlr    w1, [x19]
        str     w1, [x21, #4]           // memory that is read-only
        loads   ldrb w2, [x19]
        loads   ldrh w2, [x19, #2]
        loads   ldr w2, [x19, #4]
        loads   ldr x2, [x19, #8]
        loads   ldrsb w2, [x19]
        loads   ldrsb x2, [x19]
        loads   ldrsh w2, [x19, #2]
        loads   ldrsh x2, [x19, #2]
        loads   ldrsw x2, [x19, #4]
        loads   ldar x2, [x19]
        ldr     xzr, [x19, #8]

        // No syndrome describes these. The VMM does the first four itself; the last one aborts.
        mark    1
        stp     x1, x2, [x19]
        loads   ldp x2, x3, [x19]
        loads   ldxr x2, [x19]
        stp     x1, x2, [x21]
        loads   ldr x2, [x19], #8
        tell    x19

        // Nobody but the guest hears of this one, nobody but KVM of those behind it.
        hlt     #0xf000
        mark    2
        ldr     x3, =ZONE
        strh    w1, [x3, #2]
        ldr     x3, =BELL
        str     w1, [x3]
        dc      cvac, x19
        ldr     x0, =PSCI_VERSION
        hvc     #0
        mov     x2, x0
        mark    3                       // IRQ is high from here on, and masked
        wfi
        sevl
        wfe
        wfe
        tell    x2

        call    FORWARDED
        tell    x3
        call    FORWARDED, smc
        call    SYSTEM_OFF
        mov     x1, #1                  // hibernate
        mov     x2, #0
        call    SYSTEM_OFF2
        call    SYSTEM_RESET
        ldr     x1, =VENDOR_RESET
        mov     x2, #0x55
        call    SYSTEM_RESET2
        call    SYSTEM_SUSPEND

        // Memory of a closed file, of nobody, and of a host that doesn't answer.
        ldr     x3, =MEMFD + 0x1230
        loads   ldr x2, [x3]
        ldr     x3, =HOLE + 0x1230
        loads   ldr x2, [x3]
        ldr     x3, =UNBACKED + 0x1238
        msr     DAIFClr, #4
        loads   ldr x2, [x3]            // an SError
        mark    4
        loads   ldr x2, [x3]            // userspace's

        // The virtual timer, asleep and on the way; then a kick.
        msr     DAIFClr, #2
        mov     x9, #0
        bl      alarm
        wfi
        mov     x9, #0
        bl      alarm
1:      cbz     x9, 1b
        msr     DAIFSet, #2
        mark    5
        mov     x9, #0
1:      cbz     x9, 1b
        tell    x9

        mark    6
        b       debugged
        .ltorg

alarm:  mov     x10, #10000
        msr     CNTV_TVAL_EL0, x10
        mov     x10, #1
        msr     CNTV_CTL_EL0, x10
        ret

        .org    VECTORS
vectors:
        .org    VECTORS + 0x200         // synchronous: behind the instruction, with ESR and FAR
abort:  mrs     x10, ESR_EL1
        tell    x10
        mrs     x10, FAR_EL1
        tell    x10
        mrs     x10, ELR_EL1
        add     x10, x10, #4
        msr     ELR_EL1, x10
        eret
        .org    VECTORS + 0x280         // IRQ: the timer is masked
        mrs     x10, ISR_EL1
        tell    x10
        mov     x10, #3
        msr     CNTV_CTL_EL0, x10
        mov     x9, #1
        eret
        .org    VECTORS + 0x380         // SError
        b       abort

        .org    DEBUGGED
debugged:
        nop
        add     x5, x5, #1
        str     x5, [x22]
        ldxr    x6, [x22]
        brk     #0x77

        // What was quiet for a long time, until the code was hot, leaves it in the last round.
        mark    7
        mov     x13, #0
        mov     x14, #ROUNDS - 1
1:      str     x13, [x22, x13, lsl #3]
        cmp     x13, x14
        csel    x11, x19, x22, eq
        str     x13, [x11]
        ldr     x15, [x11]
        ldr     x2, =PSCI_VERSION
        ldr     x3, =FORWARDED
        csel    x0, x3, x2, eq
        hvc     #0
        add     x13, x13, #1
        cmp     x13, #ROUNDS
        b.ne    1b
        tell    x15

        dirty
        mark    8
        ldr     x0, =SYSTEM_OFF
        hvc     #0

cleaned:
        dirty
        mark    9
        mov     x9, #0
1:      str     x10, [x22]
        cbz     x9, 1b
        tell    x9
        ldr     x0, =SYSTEM_OFF
        hvc     #0
        .ltorg
