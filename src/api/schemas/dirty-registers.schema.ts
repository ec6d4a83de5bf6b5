// Owns: shapes of the registers of HDBSS and HACDBS, decoded beside their raw values. HTTP thread.
import Type from "typebox";
import { binary, closed, count, hexU64, nullable, text } from "./common.schema.js";

const base = {
  raw: hexU64("The register as it is.", "0x4000000"),
  baddr: hexU64("BADDR, bits 55:12, as written.", "0x4000000"),
  sz: Type.Integer({ description: "SZ, bits 3:0; 0 is 4 KiB.", examples: [0] }),
  isReservedSize: Type.Boolean({ description: "SZ is 10 to 15: the buffer counts as full." }),
  base: hexU64("Where hardware goes: BADDR aligned down to the size.", "0x4000000"),
  capacity: count("Entries.", 512),
  bytes: count("Bytes.", 4096),
};
const index = count("INDEX, bits 18:0.", 3);

const HdbssEntry = Type.Object(
  {
    index: count("Slot.", 0),
    address: hexU64("Host physical address of the slot.", "0x4000000"),
    raw: hexU64("The entry as it is.", "0x12345007"),
    valid: Type.Boolean({ description: "VALID, bit 0." }),
    ttwl: Type.Integer({ description: "TTWL, bits 3:1.", examples: [3] }),
    level: nullable(
      Type.Integer({ description: "Level that TTWL means; null: reserved.", examples: [3] }),
    ),
    ipa: hexU64("IPA, bits 55:12.", "0x12345000"),
    nsIpa: Type.Boolean({ description: "NSIPA, bit 11." }),
    isProduced: Type.Boolean({ description: "Below INDEX: what is beyond means nothing." }),
  },
  { ...closed, $id: "HdbssEntry" },
);

export const Hdbss = Type.Object(
  {
    vcpu: count("vCPU id.", 0),
    isOn: Type.Boolean({ description: "HDBSS is enabled in this VM." }),
    source: text("live: of the host CPU; saved: KVM's copy; none: it has no buffer.", "live"),
    hostCpu: nullable(count("Host CPU that the vCPU is loaded on.", 0)),
    isOwned: Type.Boolean({ description: "The base lies in a buffer of this vCPU." }),
    br: Type.Object(base, { ...closed, description: "HDBSSBR_EL2." }),
    prod: Type.Object(
      {
        raw: hexU64("The register as it is.", "0x3"),
        index,
        fsc: Type.Integer({ description: "FSC, bits 31:26.", examples: [0] }),
        fscName: text("NONE, EXTERNAL_ABORT, GPF or reserved.", "NONE"),
      },
      { ...closed, description: "HDBSSPROD_EL2." },
    ),
    isFull: Type.Boolean({ description: "INDEX has reached the capacity." }),
    entries: Type.Array(HdbssEntry, { description: "Slots from `from` on, whatever they hold." }),
    nextFrom: nullable(count("`from` of the next page; null at the end.", 512)),
  },
  { ...closed, $id: "Hdbss", description: "A vCPU's dirty-state buffer." },
);
export const HdbssBytes = binary("The slots byte for byte: 8 bytes each, little-endian.");

const SLOT_MAX = 262_143;
const SLOTS_MAX = 4096; // tidy: entries of a page
export const SLOTS_DEFAULT = 512;
export const HdbssQuery = Type.Object(
  {
    from: Type.Optional(
      Type.Integer({ minimum: 0, maximum: SLOT_MAX, default: 0, description: "First slot." }),
    ),
    limit: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: SLOTS_MAX,
        default: SLOTS_DEFAULT,
        description: "Slots at most in the answer.",
      }),
    ),
  },
  closed,
);

export const Hacdbs = Type.Object(
  {
    hostCpu: count("Index of the host CPU.", 0),
    loadedVcpu: nullable(count("vCPU whose registers are loaded.", 0)),
    br: Type.Object(
      { ...base, en: Type.Boolean({ description: "EN, bit 11, as written." }) },
      { ...closed, description: "HACDBSBR_EL2." },
    ),
    cons: Type.Object(
      {
        raw: hexU64("The register as it is.", "0x0"),
        index,
        err: Type.Integer({ description: "ERR_REASON, bits 63:62.", examples: [0] }),
        errName: text("NOF, STRUCTF, IPAF or IPAHACF.", "NOF"),
      },
      { ...closed, description: "HACDBSCONS_EL2." },
    ),
    isEnabled: Type.Boolean({ description: "EN as it takes effect: EL3 may withhold it." }),
    isRunning: Type.Boolean({ description: "It would take another entry." }),
    isFinished: Type.Boolean({ description: "INDEX has reached the capacity." }),
    irq: Type.Boolean({ description: "Level of HACDBSIRQ." }),
    counts: Type.Object(
      {
        entries: count("Entries looked at.", 0),
        cleaned: count("Leaves that lost write permission.", 0),
        alreadyClean: count("Leaves that were clean before.", 0),
        skipped: count("Entries without VALID.", 0),
        terminators: count("Entries with a reserved TTWL.", 0),
      },
      { ...closed, description: "Since the VM's thread began." },
    ),
  },
  { ...closed, $id: "Hacdbs", description: "A host CPU's cleaning hardware." },
);
