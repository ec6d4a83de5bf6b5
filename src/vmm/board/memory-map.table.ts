// Owns: where a board's RAM and devices are, and their interrupts: QEMU `virt`'s addresses.
// Data only. Any thread. @source guest-payloads.md 3.1

export const RAM_BASE = 0x4000_0000;
export const MIB = 2 ** 20;

/** PL011: base address, bytes, and the clock that its divisors count. */
export const UART = { base: 0x0900_0000, size: 0x1000, clockHz: 24_000_000 } as const; // tidy: a device's registers

/** PL031. */
export const RTC = { base: 0x0901_0000, size: 0x1000 } as const; // tidy: a device's registers

/** virtio-mmio: transports, one behind the other. */
export const VIRTIO = { base: 0x0a00_0000, size: 0x200, count: 8 } as const;

/** fw_cfg: selector, data and DMA. */
export const FW_CFG = { base: 0x0902_0000, size: 0x18 } as const;

/** NOR flash: two banks of two 16-bit chips side by side, each bank of so many blocks. */
export const FLASH = { base: 0, bankBytes: 64 * MIB, banks: 2, blockBytes: 2 ** 18 } as const;

/** Interrupt controllers: registers of each kind. */
export const GIC = {
  distributor: { base: 0x0800_0000, size: 0x1_0000 },
  cpuInterface: { base: 0x0801_0000, size: 0x1_0000 },
  its: { base: 0x0808_0000, size: 0x2_0000 },
  redistributors: { base: 0x080a_0000, size: 0xf6_0000 },
  /** Configuration frame of a GICv5's IRS; KVM keeps the 64 KiB behind it for its SETLPI frame. */
  irs: { base: 0x0801_0000, size: 0x1_0000 },
} as const;

/** PCIe: configuration space by ECAM, and windows with what they begin with on the bus. */
export const PCIE = {
  ecam: { base: 0x3f00_0000, size: 16 * MIB },
  memory: { base: 0x1000_0000, size: 0x2eff_0000, bus: 0x1000_0000 },
  io: { base: 0x3eff_0000, size: 0x1_0000, bus: 0 },
} as const;

/** SPIs of devices, counted from 0. */
export const SPI = { uart: 1, rtc: 2, virtio: 16 } as const; // tidy: SPIs

/** Offset of a flat binary in RAM. */
export const FLAT_OFFSET = 0x8_0000;
/** A Linux Image starts at a multiple of this plus its text_offset; QEMU leaves the first one. */
export const IMAGE_ALIGN = 2 * MIB;
/** The initrd, or without one the device tree, is at half of RAM, but never above this. */
export const UPPER_OFFSET_MAX = 128 * MIB;

/** Guest addresses of a board's RAM fit 32 bits and are all backed (DESIGN 5). */
export const BOARD_LIMITS = { memoryMiBMin: 2, memoryMiBMax: 3584, vcpusMax: 512 } as const;
