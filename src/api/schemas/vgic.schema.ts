// Owns: shapes of the interrupt controller decoded. HTTP thread.
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
  u32,
  word,
} from "./common.schema.js";

const vcpu = (description: string) => nullable(count(description, 0));
const yes = (description: string) => Type.Boolean({ description });
const small = (description: string, example = 0) =>
  Type.Integer({ minimum: 0, description, examples: [example] });

export const VgicIrq = Type.Object(
  {
    intid: count("INTID.", 33),
    kind: text("sgi, ppi, spi or lpi.", "spi"),
    vcpu: vcpu("vCPU whose private interrupt it is; null: shared."),
    state: text("inactive, pending, active or active-and-pending.", "pending"),
    config: text("edge or level.", "level"),
    enabled: yes("ISENABLER."),
    lineLevel: yes("The input wire as last told."),
    pendingLatch: yes("Memory of an edge, or of ISPENDR."),
    pending: yes("The latch, or of a level-sensitive one the wire."),
    active: yes("ISACTIVER."),
    priority: small("0 is the highest.", 160),
    group: small("0 or 1.", 1),
    target: vcpu("vCPU that it would be delivered to; null: nobody."),
    targets: hexU64("GICD_ITARGETSR of a GICv2: vCPU indexes, a bit each.", "0x1"),
    mpidr: hexU64("GICD_IROUTER of a GICv3, lower word.", "0x0"),
    source: hexU64("SGI of a GICv2: vCPU indexes that asked for it, a bit each.", "0x0"),
    activeSource: small("Who asked for the active one."),
    list: vcpu("vCPU on whose AP list it is, so waits for or is being handled; null: none."),
    owner: nullable(text("timer or pmu: KVM's own device drives the wire.", "timer")),
    isHardware: yes("Mapped to a physical interrupt of the host."),
  },
  { ...closed, $id: "VgicInterrupt" },
);
export const VgicIrqPage = pageOf("VgicInterruptPage", VgicIrq);

const INTID_MAX = 65_535;
const intid = (description: string, example: number) =>
  Type.Optional(Type.Integer({ minimum: 0, maximum: INTID_MAX, description, examples: [example] }));
export const VgicIrqQuery = Type.Object(
  {
    limit,
    cursor,
    from: intid("First INTID; 0 by default.", 0),
    to: intid("Last INTID.", 1019),
    vcpu: Type.Optional(
      u32("Its private interrupts, and shared ones that it is the target of.", 0),
    ),
    state: Type.Optional(
      word(
        ["pending", "active", "enabled", "queued", "idle"],
        "queued: on some vCPU's AP list.",
        "pending",
      ),
    ),
  },
  closed,
);

const Vmcr = Type.Object(
  {
    raw: hexU64("ICH_VMCR_EL2 as KVM keeps it.", "0xf04c0002"),
    enableGroup0: yes("VENG0."),
    enableGroup1: yes("VENG1."),
    ackCtl: yes("VAckCtl, GICv2."),
    fiqEnable: yes("VFIQEn."),
    commonBpr: yes("VCBPR."),
    eoiMode: small("VEOIM: 1 splits priority drop and deactivation."),
    bpr0: small("VBPR0.", 2),
    bpr1: small("VBPR1.", 3),
    priorityMask: small("VPMR.", 240),
  },
  closed,
);
const CpuInterface = Type.Object(
  {
    vcpu: count("vCPU id.", 0),
    index: count("Order of creation.", 0),
    affinity: hexU64("Aff3 to Aff0, a byte each.", "0x0"),
    vmcr: Vmcr,
    ap0r0: hexU64("Active priorities of group 0.", "0x0"),
    ap1r0: hexU64("Active priorities of group 1.", "0x0"),
    apList: Type.Array(count("INTID.", 27), {
      description: "Pending and active interrupts that are its to deliver.",
    }),
    redistributor: nullable(
      Type.Object(
        { base: hexU64("Of its two frames.", "0x80a0000"), region: count("Index.", 0) },
        closed,
      ),
    ),
    lpisEnabled: yes("GICR_CTLR.EnableLPIs."),
    pendbaser: hexU64("GICR_PENDBASER.", "0x0"),
  },
  { ...closed, $id: "VgicCpuInterface" },
);
const address = (description: string) => nullable(hexU64(description, "0x8000000"));
export const Vgic = Type.Object(
  {
    model: text("v2 or v3.", "v3"),
    isInitialized: yes("INIT was done."),
    isReady: yes("Its frames are mapped: a vCPU has run."),
    distributor: Type.Object(
      {
        base: address("null: not set."),
        cpuBase: address("GICv2's CPU interfaces; null: not set."),
        nrIrqs: count("SGIs, PPIs and SPIs; 32 while SPIs are not there.", 96),
        enabled: yes("GICD_CTLR's enable."),
        nAssgiReq: yes("GICD_CTLR.nASSGIreq."),
        implementationRev: count("GICD_IIDR.Revision.", 3),
        hasIts: yes("LPIs are possible."),
        lpis: count("LPIs that are mapped.", 0),
        propbaser: hexU64("GICR_PROPBASER, one for all redistributors.", "0x0"),
        maintenanceIrq: count("PPI.", 25),
      },
      closed,
    ),
    redistributorRegions: Type.Array(
      Type.Object(
        {
          index: count("", 0),
          base: hexU64("", "0x80a0000"),
          count: count("Redistributors that it has room for; 0: as many as vCPUs.", 4),
          used: count("Redistributors that are in it.", 1),
          isLegacy: yes("Set by v3-redist: it grows with the vCPUs."),
        },
        closed,
      ),
    ),
    cpuInterfaces: Type.Array(CpuInterface, { description: "In order of creation." }),
  },
  { ...closed, $id: "Vgic", description: "What KVM keeps; the guest's view is in its registers." },
);
