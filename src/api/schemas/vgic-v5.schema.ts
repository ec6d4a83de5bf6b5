// Owns: shapes of a GICv5 decoded. HTTP thread.
import Type from "typebox";
import { V5_COUNTERS } from "../../base/v5-counters.table.js";
import {
  closed,
  count,
  cursor,
  hexU64,
  limit,
  nullable,
  pageOf,
  text,
  word,
} from "./common.schema.js";

const yes = (description: string) => Type.Boolean({ description });
const small = (description: string, example = 0) =>
  Type.Integer({ minimum: 0, description, examples: [example] });

const Iste = Type.Object(
  {
    raw: hexU64("The entry's word as it lies in memory.", "0xf80d"),
    pending: yes("Bit 0."),
    active: yes("Bit 1."),
    handling: text("Bit 2: level, and an acknowledge leaves Pending as it is; or edge.", "level"),
    enabled: yes("Bit 3."),
    oneOfN: yes("Bit 4: any CPU, instead of `iaffid`."),
    hwu: small("Bits 10:9, hardware's own."),
    priority: small("Bits 15:11; 0 is the most urgent.", 31),
    iaffid: small("Bits 31:16: the CPU interface that it is routed to.", 0),
  },
  { ...closed, $id: "InterruptStateTableEntry" },
);

export const VgicV5Spi = Type.Object(
  {
    id: count("Its ID; a GSI of the default routing.", 1),
    intid: hexU64("With its type: 0x60000000 and the ID.", "0x60000001"),
    state: text("inactive, pending, active or active-and-pending, by its entry.", "pending"),
    config: text("edge or level: the trigger mode of IRS_SPI_CFGR.", "level"),
    lineLevel: yes("The wire as KVM was last told."),
    pendingLatch: yes("Memory of an edge."),
    pending: yes("Of wire or latch: what KVM tells the hardware by GIC VDPEND."),
    active: yes("As tracking last read it from the hardware."),
    isListed: yes("On the VM's list of SPIs in flight (the AP list of SPI tracking)."),
    hasNotifier: yes("A resampling irqfd listens to it."),
    isUnacknowledged: yes("Deactivated while level and listened to, and nobody was told."),
    target: nullable(count("vCPU that it would be delivered to; null: no vCPU is that.", 0)),
    iste: nullable(Iste),
  },
  { ...closed, $id: "VgicV5Spi" },
);
export const VgicV5SpiPage = pageOf("VgicV5SpiPage", VgicV5Spi);

const ID_MAX = 1023;
const id = (description: string, example: number) =>
  Type.Optional(Type.Integer({ minimum: 0, maximum: ID_MAX, description, examples: [example] }));
export const VgicV5SpiQuery = Type.Object(
  {
    limit,
    cursor,
    from: id("First ID; 0 by default.", 0),
    to: id("Last ID.", ID_MAX),
    state: Type.Optional(
      word(
        ["pending", "active", "enabled", "listed", "idle"],
        "listed: in flight, as SPI tracking has it.",
        "pending",
      ),
    ),
  },
  closed,
);
export const SPI_ID_MAX = ID_MAX;

const Ist = Type.Object(
  {
    baser: hexU64("IRS_IST_BASER.", "0x41000001"),
    cfgr: hexU64("IRS_IST_CFGR.", "0x10"),
    isValid: yes("BASER.VALID: the guest has a table for its LPIs."),
    address: hexU64("BASER.ADDR: where the guest wants it. KVM's own is elsewhere.", "0x41000000"),
    lpiIdBits: small("Bits of an LPI's ID; 0: there are none.", 16),
    bytes: small("CFGR.ISTSZ, of an entry.", 4),
    isTwoLevel: yes("CFGR.STRUCTURE."),
  },
  closed,
);
const Ppi = Type.Object(
  {
    id: count("Its ID, which is the INTID of older controllers.", 27),
    enabled: yes("ICC_PPI_ENABLER."),
    pending: yes("ICC_PPI_SPENDR; of a level-sensitive one the line."),
    active: yes("ICC_PPI_SACTIVER."),
    level: yes("ICC_PPI_HMR: level-sensitive."),
    priority: small("ICC_PPI_PRIORITYR.", 31),
    lineLevel: yes("The input line."),
    owner: nullable(text("timer or pmu: KVM's own device drives the line.", "timer")),
  },
  closed,
);
const CpuInterface = Type.Object(
  {
    vcpu: count("vCPU id.", 0),
    index: count("Order of creation.", 0),
    iaffid: count("ICC_IAFFIDR_EL1.", 0),
    cr0: hexU64("ICC_CR0_EL1: EN, LINK, LINK_IDLE.", "0x7"),
    pcr: small("ICC_PCR_EL1: priorities up to it pass.", 31),
    apr: hexU64("ICC_APR_EL1: a bit for each active priority.", "0x0"),
    icsr: hexU64("ICC_ICSR_EL1: the last answer of GIC CDRCFG.", "0x0"),
    ppis: Type.Array(Ppi, { description: "Those that KVM offers." }),
  },
  { ...closed, $id: "VgicV5CpuInterface" },
);
const counters = Object.fromEntries(
  Object.entries(V5_COUNTERS).map(([name, description]) => [name, count(description, 0)]),
) as Record<keyof typeof V5_COUNTERS, ReturnType<typeof count>>;

export const VgicV5 = Type.Object(
  {
    isInitialized: yes("INIT was done."),
    isReady: yes("The IRS is mapped: a vCPU has run."),
    irs: Type.Object(
      {
        base: nullable(hexU64("Of its configuration frame; null: not set.", "0x8010000")),
        enabled: yes("IRS_CR0.IRSEN: SPIs and LPIs are delivered."),
        cr1: hexU64("IRS_CR1.", "0x0"),
        nrSpis: count("SPIs.", 256),
        ist: Ist,
      },
      closed,
    ),
    tracking: text("The VM's setting vgicV5.spiTracking.", "exact"),
    inFlight: Type.Array(count("ID.", 1), { description: "SPIs in flight, in their order." }),
    counters: Type.Object(counters, { ...closed, $id: "VgicV5Counters" }),
    cpuInterfaces: Type.Array(CpuInterface, { description: "In order of creation." }),
  },
  {
    ...closed,
    $id: "VgicV5",
    description: "A vGICv5: what KVM keeps, and what the silicon works on while no vCPU runs.",
  },
);
