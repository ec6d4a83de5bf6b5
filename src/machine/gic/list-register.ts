// Owns: the bits of a list register, as two words; of ICH_VMCR_EL2 and ICH_HCR_EL2. Any thread.
// @source Arm IHI 0069 (GICv3) 12.4: ICH_LR<n>_EL2, ICH_VMCR_EL2, ICH_HCR_EL2

/** List registers of a CPU interface: as many as a GIC-400 and most cores have. */
export const NR_LRS = 4;

/** Upper word of ICH_LR<n>_EL2. */
export const LR = {
  PENDING: 1 << 30,
  ACTIVE: 1 << 31,
  /** Both of the above. */
  STATE: (3 << 30) | 0,
  HW: 1 << 29,
  GROUP1: 1 << 28,
  PRIORITY_SHIFT: 16,
  PRIORITY: 0xff << 16,
  /** Without HW: deactivation asks for a maintenance interrupt. */
  EOI: 1 << 9,
  /** With HW: the physical INTID. */
  PHYSICAL: 0x1fff,
} as const;

/** Lower word for a GICv2 guest's SGI: who sent it, above the INTID. */
export const LR_CPUID_SHIFT = 10;
export const INTID_V2 = 0x3ff;

export const VMCR = {
  VENG0: 1 << 0,
  VENG1: 1 << 1,
  VACKCTL: 1 << 2,
  VFIQEN: 1 << 3,
  VCBPR: 1 << 4,
  VEOIM: 1 << 9,
  VBPR1_SHIFT: 18,
  VBPR0_SHIFT: 21,
  VBPR: 7,
  VPMR_SHIFT: 24,
} as const;

export const HCR = {
  EN: 1 << 0,
  /** At most one list register is in use. */
  UIE: 1 << 1,
  /** EOIcount isn't 0. */
  LRENPIE: 1 << 2,
  /** No list register is pending. */
  NPIE: 1 << 3,
  EOICOUNT_SHIFT: 27,
  EOICOUNT: 0x1f,
} as const;

/** Bits of a priority that exist, its highest ones. */
export const PRIORITY_BITS = 5;
export const PRIORITY_MASK = 0xf8;
/** Preemption bits as ICH_VTR_EL2 tells: none of the priority bits is a subpriority's. */
export const BPR0_MIN = 7 - PRIORITY_BITS;
export const BPR1_MIN = BPR0_MIN + 1;
export const IDLE_PRIORITY = 0xff;
export const INTID_SPURIOUS = 1023;
export const INTID_SPECIAL = 1020;
export const INTID_LPI = 8192;
