// Owns: the optional features of the architecture that the PE may have. Data only. Any thread.
// @source Arm ARM (DDI 0487) A2, "Armv8.x architecture extensions"

/** Features beyond Armv8.0-A, and those that v8.0 leaves optional, by the Arm ARM's names. */
export const FEATURES = [
  "FEAT_CRC32",
  "FEAT_AES",
  "FEAT_PMULL",
  "FEAT_SHA1",
  "FEAT_SHA256",
  "FEAT_LSE",
  "FEAT_LRCPC",
  "FEAT_LRCPC2",
  "FEAT_DotProd",
  "FEAT_RDM",
  "FEAT_FlagM",
  "FEAT_FlagM2",
  "FEAT_FP16",
  "FEAT_FHM",
  "FEAT_FCMA",
  "FEAT_BF16",
  "FEAT_I8MM",
  "FEAT_FRINTTS",
  "FEAT_JSCVT",
  "FEAT_SHA512",
  "FEAT_SHA3",
  "FEAT_SM3",
  "FEAT_SM4",
] as const;
export type Feature = (typeof FEATURES)[number];

/** What our PE has; the ID registers tell exactly these. Our choice: cheap, or what LSE guests ask. */
export const IMPLEMENTED: ReadonlySet<Feature> = new Set<Feature>([
  "FEAT_CRC32",
  "FEAT_AES",
  "FEAT_PMULL",
  "FEAT_SHA1",
  "FEAT_SHA256",
  "FEAT_LSE",
  "FEAT_LRCPC",
  "FEAT_DotProd",
  "FEAT_RDM",
]);
