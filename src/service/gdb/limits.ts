// Owns: the bounds of the GDB stub, with unit and reason. HTTP thread.

/** Bytes of a packet's body, both ways: what PacketSize tells; a page as hexadecimal text fits. */
export const PACKET_BYTES_MAX = 0x4000; // tidy: bytes of a packet

/** Software breakpoints at once: each is remembered with the word that it replaced. */
export const BREAKPOINTS_MAX = 1024;

/** Hardware breakpoints and watchpoints of the emulated PE (ID_AA64DFR0_EL1). */
export const HARDWARE = { breakpoints: 6, watchpoints: 4 } as const;
