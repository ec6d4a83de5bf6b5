// Owns: shapes of coalesced zones, eventfds, ioeventfds, irqfds, routing and devices. HTTP thread.
import Type from "typebox";
import {
  closed,
  count,
  cursor,
  hexU64,
  limit,
  nullable,
  pageOf,
  text,
  time,
  u32,
  u64,
  vmParams,
  wait,
} from "./common.schema.js";

const zone = { size: u32("Bytes.", 4096), pio: u32("0 MMIO, 1 port I/O.", 0) };

export const CoalescedZoneCreate = Type.Object(
  {
    addr: u64("First guest-physical byte.", "0x9000000"),
    size: zone.size,
    pio: Type.Optional(zone.pio),
  },
  { ...closed, $id: "CoalescedZoneCreate" },
);
export const CoalescedZone = Type.Object(
  { addr: hexU64("First guest-physical byte.", "0x9000000"), ...zone },
  { ...closed, $id: "CoalescedZone" },
);
export const CoalescedZones = pageOf("CoalescedZonePage", CoalescedZone);
export const CoalescedZoneQuery = Type.Object(
  {
    addr: u64("First guest-physical byte.", "0x9000000"),
    size: zone.size,
    pio: Type.Optional(zone.pio),
  },
  closed,
);
export const Drain = Type.Object(
  {
    id: text("Name it in `after` of the next drain.", "h1"),
    repeated: Type.Boolean({ description: "It was given out before." }),
    entries: Type.Array(
      Type.Object(
        {
          physAddr: hexU64("", "0x9000000"),
          len: Type.Integer({ minimum: 0, maximum: 8, examples: [4] }),
          pio: Type.Integer({ minimum: 0, examples: [0] }),
          data: Type.String({
            pattern: "^([0-9a-f]{2})*$",
            description: "Bytes in memory order.",
            examples: ["2a000000"],
          }),
        },
        closed,
      ),
      { description: "Stores, oldest first." },
    ),
  },
  { ...closed, $id: "CoalescedDrain" },
);

const eventfdId = Type.String({
  minLength: 1,
  maxLength: 64,
  description: "Id of an eventfd.",
  examples: ["efd_01hqs4ym8x"],
});
export const EventfdParams = Type.Object({ id: eventfdId }, closed);
export const EventfdCreate = Type.Object(
  {
    count: Type.Optional(u64("Initial count.", "0x0")),
    semaphore: Type.Optional(
      Type.Boolean({ default: false, description: "EFD_SEMAPHORE: each read takes 1." }),
    ),
  },
  { ...closed, $id: "EventfdCreate", examples: [{ count: "0x0" }] },
);
export const Eventfd = Type.Object(
  {
    id: eventfdId,
    count: hexU64("Present count.", "0x0"),
    semaphore: Type.Boolean({ description: "EFD_SEMAPHORE." }),
    createdAt: time(""),
  },
  { ...closed, $id: "Eventfd" },
);
export const EventfdPage = pageOf("EventfdPage", Eventfd);
export const EventfdWrite = Type.Object(
  { value: u64("Added to the count.", "0x1") },
  { ...closed, $id: "EventfdWrite" },
);
export const EventfdRead = Type.Object(
  {
    id: text("Name it in `after` of the next read.", "r1"),
    value: hexU64("The count that was taken.", "0x3"),
    repeated: Type.Boolean({ description: "It was given out before." }),
  },
  { ...closed, $id: "EventfdRead" },
);
export const WaitQuery = Type.Object({ wait }, closed);
export const EventfdListQuery = Type.Object({ limit, cursor }, closed);

const ioeventfd = {
  eventfd: Type.String({
    maxLength: 64,
    description: "Id of the eventfd; what is none is EBADF.",
    examples: ["efd_01hqs4ym8x"],
  }),
  addr: u64("Guest-physical address; need not be aligned.", "0x9000000"),
  len: u32("0, 1, 2, 4 or 8; 0 matches any length.", 4),
};
const IOEVENTFD_FLAGS = "1 DATAMATCH, 2 PIO, 4 DEASSIGN.";
const datamatch = u64("Value that the store must have.", "0x1");
export const IoeventfdCreate = Type.Object(
  {
    ...ioeventfd,
    datamatch: Type.Optional(datamatch),
    flags: Type.Optional(u32(`${IOEVENTFD_FLAGS} By default 1 with datamatch, else 0.`, 1)),
  },
  {
    ...closed,
    $id: "IoeventfdCreate",
    examples: [{ eventfd: "efd_01hqs4ym8x", addr: "0x9000000", len: 4, datamatch: "0x1" }],
  },
);
export const Ioeventfd = Type.Object(
  {
    id: text("", "ioe_01hqs4ym8x"),
    eventfd: nullable(
      Type.String({
        description: "null: nobody has it open, or it is an input log's.",
        examples: ["efd_01hqs4ym8x"],
      }),
    ),
    addr: hexU64("", "0x9000000"),
    len: ioeventfd.len,
    datamatch: nullable(hexU64("null without DATAMATCH.", "0x1")),
    flags: u32(IOEVENTFD_FLAGS, 1),
  },
  { ...closed, $id: "Ioeventfd" },
);
export const Ioeventfds = pageOf("IoeventfdPage", Ioeventfd);
export const IoeventfdParams = vmParams(
  "id",
  Type.String({
    minLength: 1,
    maxLength: 64,
    description: "Id of the ioeventfd.",
    examples: ["ioe_01hqs4ym8x"],
  }),
);
export const IoeventfdQuery = Type.Object(
  {
    ...ioeventfd,
    datamatch: Type.Optional(datamatch),
    flags: Type.Optional(u32(`${IOEVENTFD_FLAGS} DEASSIGN is added.`, 1)),
  },
  closed,
);

const ROUTES_MAX = 65_536;
const word = (description: string, example = 0) => Type.Optional(u32(description, example));
const RoutingEntryIn = Type.Object(
  {
    gsi: u32("Global system interrupt.", 32),
    type: u32("1 irqchip, 2 MSI.", 1),
    flags: word("1 with an MSI: devid is valid."),
    irqchip: word("irqchip entries: 0."),
    pin: word("irqchip entries: SPI 32 + pin."),
    addressLo: word("MSI entries."),
    addressHi: word("MSI entries."),
    data: word("MSI entries."),
    devid: word("MSI entries."),
  },
  { ...closed, $id: "RoutingEntryInput" },
);
export const RoutingSet = Type.Object(
  {
    flags: Type.Optional(u32("KVM wants 0.", 0)),
    entries: Type.Array(RoutingEntryIn, { maxItems: ROUTES_MAX }),
  },
  {
    ...closed,
    $id: "GsiRoutingSet",
    examples: [{ entries: [{ gsi: 32, type: 1, irqchip: 0, pin: 0 }] }],
  },
);
export const RoutingEntry = Type.Object(
  {
    gsi: u32("", 32),
    type: u32("", 1),
    flags: u32(""),
    irqchip: u32(""),
    pin: u32(""),
    addressLo: u32(""),
    addressHi: u32(""),
    data: u32(""),
    devid: u32(""),
  },
  { ...closed, $id: "RoutingEntry" },
);
export const Routing = Type.Object(
  { entries: Type.Array(RoutingEntry) },
  { ...closed, $id: "GsiRouting", description: "The last table that KVM took." },
);

export const Msi = Type.Object(
  {
    addressLo: u32("Address of the doorbell, low half.", 134545472),
    addressHi: u32("High half.", 0),
    data: u32("EventID.", 0),
    flags: Type.Optional(u32("1: devid is valid.", 0)),
    devid: Type.Optional(u32("DeviceID.", 0)),
  },
  { ...closed, $id: "Msi" },
);
export const MsiResult = Type.Object(
  { delivered: Type.Boolean({ description: "false: blocked by the guest." }) },
  { ...closed, $id: "MsiResult" },
);

/** type, vCPU and number as the fields of kvm_irq_level.irq are wide. */
const U4 = "(1[0-5]|[0-9])";
const U12 = "(40[0-8][0-9]|409[0-5]|[0-3]?[0-9]{1,3})";
const U16 = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[0-5]?[0-9]{1,4})";
export const IrqLineParams = vmParams(
  "line",
  Type.String({
    pattern: `^${U4}:${U12}:${U16}$`,
    description:
      "`type:vcpu:number`. Type 0: number 0 is the vCPU's IRQ, 1 its FIQ; 1: an SPI by its " +
      "INTID, on a GICv5 by its ID, which begins with 0; 2: a PPI of the vCPU, on a GICv5 SW_PPI.",
    examples: ["0:0:0"],
  }),
);
export const IrqLineLevel = Type.Object(
  { level: Type.Union([Type.Literal(0), Type.Literal(1)], { examples: [1] }) },
  { ...closed, $id: "IrqLineLevel" },
);
export const IrqLineQuery = Type.Object(
  {
    status: Type.Optional(
      Type.Boolean({
        default: false,
        description: "KVM_IRQ_LINE_STATUS: the answer has `status`.",
      }),
    ),
  },
  closed,
);
export const IrqLine = Type.Object(
  {
    ...IrqLineLevel.properties,
    status: Type.Optional(
      u32(
        "First word of struct kvm_irq_level as it came back; on arm64 the line it went in with.",
        0,
      ),
    ),
  },
  { ...closed, $id: "IrqLine", examples: [{ level: 1 }] },
);
export const IrqLinePulse = Type.Object(
  {},
  { ...closed, $id: "IrqLinePulse", description: "Nothing to say.", examples: [{}] },
);

export const HostCpu = Type.Object(
  {
    index: count("", 0),
    loadedVcpu: nullable(count("vCPU that is loaded on it.", 0)),
    vttbr: hexU64("VTTBR_EL2.", "0x1000000010000"),
    vtcr: hexU64("VTCR_EL2.", "0x80023558"),
    hcr: hexU64("HCR_EL2.", "0x0"),
    tlbEntries: count("Entries in its TLB.", 12),
  },
  { ...closed, $id: "HostCpu" },
);
export const HostCpus = pageOf("HostCpuPage", HostCpu);
export const HostCpuParams = vmParams("n", u32("Index of the host CPU.", 0));

export const Stage2Query = Type.Object(
  { ipa: u64("Intermediate physical address to walk.", "0x4000") },
  closed,
);
const state = text(
  "read-only, writable-clean, writable-dirty or writable-unmanaged",
  "writable-dirty",
);
const bits = Type.Object(
  {
    valid: Type.Boolean({ description: "Bit 0." }),
    type: Type.Boolean({ description: "Bit 1: a table, or a page at level 3." }),
    memAttr: Type.Integer({ description: "Bits 5:2.", examples: [15] }),
    read: Type.Boolean({ description: "S2AP[0], bit 6." }),
    write: Type.Boolean({ description: "S2AP[1], bit 7: what hardware sets when it dirties." }),
    shareability: Type.Integer({ description: "Bits 9:8.", examples: [3] }),
    accessFlag: Type.Boolean({ description: "AF, bit 10." }),
    outputAddress: hexU64("Host physical address of the next table, or of the leaf.", "0x20000"),
    dbm: Type.Boolean({ description: "Bit 51." }),
    contiguous: Type.Boolean({ description: "Bit 52." }),
    executeNever: Type.Integer({ description: "Bits 54:53.", examples: [0] }),
    software: Type.Integer({ description: "Bits 58:55.", examples: [0] }),
  },
  { ...closed, $id: "Stage2Bits", description: "A leaf's fields mean nothing in a table." },
);
export const Stage2Walk = Type.Object(
  {
    ipa: hexU64("", "0x4000"),
    startLevel: Type.Integer({ examples: [1] }),
    steps: Type.Array(
      Type.Object(
        {
          level: Type.Integer({ examples: [1] }),
          tableAddress: hexU64("Host physical address of the table.", "0x10000"),
          index: count("Descriptor in the table.", 0),
          descriptor: hexU64("The 64-bit word.", "0x11003"),
          kind: text("invalid, table, block or page", "table"),
          descriptorAddress: hexU64("Host physical address of the descriptor.", "0x10000"),
          bits,
          state: nullable(state),
        },
        closed,
      ),
    ),
    leaf: nullable(
      Type.Object(
        {
          outputAddress: hexU64("Host physical address.", "0x20000"),
          level: Type.Integer({ examples: [3] }),
          size: hexU64("Bytes that the leaf maps.", "0x1000"),
          state,
          accessFlag: Type.Boolean(),
          dbm: Type.Boolean(),
          contiguous: Type.Boolean(),
          executeNever: Type.Integer({ examples: [0] }),
        },
        closed,
      ),
    ),
  },
  { ...closed, $id: "Stage2Walk", description: "Every step of a walk; leaf null if unmapped." },
);
