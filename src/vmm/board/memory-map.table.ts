// Owns: where a board's RAM and devices are, and their interrupts: QEMU `virt`'s addresses.
// Data only. Any thread. @source guest-payloads.md 3.1

export const RAM_BASE = 0x4000_0000;
export const MIB = 2 ** 20;

/** PL011: base address, bytes, and the clock that its divisors count. */
export const UART = { base: 0x0900_0000, size: 0x1000, clockHz: 24_000_000 } as const; // tidy: a device's registers

/** Offset of a flat binary in RAM. */
export const FLAT_OFFSET = 0x8_0000;
/** A Linux Image starts at a multiple of this plus its text_offset; QEMU leaves the first one. */
export const IMAGE_ALIGN = 2 * MIB;
/** The initrd, or without one the device tree, is at half of RAM, but never above this. */
export const UPPER_OFFSET_MAX = 128 * MIB;

/** Guest addresses of a board's RAM fit 32 bits and are all backed (DESIGN 5). */
export const BOARD_LIMITS = { memoryMiBMin: 2, memoryMiBMax: 3584, vcpusMax: 512 } as const;
