// Owns: registers that point at the GIC's tables in guest memory: which attributes of memory they
// take, and their addresses. VM thread.
// @source arch/arm64/kvm/vgic/vgic-mmio-v3.c, vgic-its.c by behaviour; Arm IHI 0069 12.11, 12.19

/** Where a register has its attributes; all are three bits but shareability's two. */
interface Layout {
  readonly inner: bigint;
  readonly outer: bigint;
  /** Bits that read as zero. */
  readonly res0: bigint;
}

const SHAREABILITY = 10n;
const SHARE = { inner: 1n, outer: 2n } as const;
/** Cacheability: same as inner, non-cacheable, read-allocate write-back. */
const CACHE = { sameAsInner: 0n, nC: 1n, raWb: 3n } as const;

/** Bits `high` to `low` set. */
export function mask(high: number, low: number): bigint {
  return ((1n << BigInt(high - low + 1)) - 1n) << BigInt(low);
}

const PROPBASER: Layout = {
  inner: 7n,
  outer: 56n,
  res0: mask(63, 59) | mask(55, 52) | mask(6, 5),
};
const PENDBASER: Layout = {
  inner: 7n,
  outer: 56n,
  res0: mask(63, 63) | mask(61, 59) | mask(55, 52) | mask(15, 12) | mask(6, 0),
};
/** CBASER points at 64 KiB. */
const CBASER: Layout = { inner: 59n, outer: 53n, res0: mask(15, 12) };
const BASER: Layout = { inner: 59n, outer: 53n, res0: 0n };

function field(value: bigint, at: bigint, bits: bigint): bigint {
  return (value >> at) & ((1n << bits) - 1n);
}

function withField(value: bigint, at: bigint, bits: bigint, to: bigint): bigint {
  return (value & ~(((1n << bits) - 1n) << at)) | (to << at);
}

/** KVM reads these tables as the CPU does: attributes that don't fit that become ones that do. */
function sanitise(value: bigint, { inner, outer, res0 }: Layout): bigint {
  let out = value;
  if (field(out, SHAREABILITY, 2n) === SHARE.outer) {
    out = withField(out, SHAREABILITY, 2n, SHARE.inner);
  }
  if (field(out, inner, 3n) <= CACHE.nC) out = withField(out, inner, 3n, CACHE.raWb);
  if (field(out, outer, 3n) > CACHE.nC) out = withField(out, outer, 3n, CACHE.sameAsInner);
  return out & ~res0;
}

export const sanitisePropbaser = (value: bigint): bigint => sanitise(value, PROPBASER);
export const sanitisePendbaser = (value: bigint): bigint => sanitise(value, PENDBASER);
export const sanitiseCbaser = (value: bigint): bigint => sanitise(value, CBASER);
export const sanitiseBaser = (value: bigint): bigint => sanitise(value, BASER);

/** GICR_PROPBASER once there is an ITS. */
export const PROPBASER_INITIAL = (CACHE.raWb << PROPBASER.inner) | (SHARE.inner << SHAREABILITY);
/** GITS_BASER without type and size. */
export const BASER_INITIAL = (CACHE.raWb << BASER.inner) | (SHARE.inner << SHAREABILITY);

/** GICR_PENDBASER.PTZ: the table is all zeros. */
export const PENDBASER_PTZ = 1n << 62n;

export function propbaserAddress(value: bigint): number {
  return Number(value & mask(51, 12));
}

export function pendbaserAddress(value: bigint): number {
  return Number(value & mask(51, 16));
}
