// Owns: shapes of vCPUs, their programs and runs. HTTP thread.
import Type from "typebox";
import { closed, count, hexU64, nullable, pageOf, text, u32, u64, wait } from "./common.schema.js";

export const mpState = Type.Integer({
  minimum: 0,
  maximum: 0xffff_ffff,
  description: "KVM_MP_STATE_*: 0 runnable, 5 stopped, 10 suspended.",
  examples: [0],
});

const progress = {
  completed: count("Accesses of the present program that have retired.", 12),
  finished: Type.Boolean({ description: "The program came to its end." }),
};
const programKind = Type.String({
  description: "none, accesses or pattern.",
  examples: ["accesses"],
});

export const ProgramProgress = Type.Object(progress, { ...closed, $id: "ProgramProgress" });

export const Vcpu = Type.Object(
  {
    id: u32("vCPU id."),
    index: count("Creation order, from 0."),
    engine: Type.String({
      description: "What executes: synthetic, or a64 once it is initialised.",
      examples: ["synthetic"],
    }),
    state: Type.String({ description: "idle, running or blocked.", examples: ["idle"] }),
    mpState,
    hostCpu: nullable(count("Host CPU that it is loaded on.", 0)),
    retired: count("Accesses or instructions retired since creation.", 12),
    lastExit: nullable(text("KVM_EXIT_… of its last run.", "KVM_EXIT_HLT")),
    program: Type.Object({ ...progress, kind: programKind }, closed),
    dirtyRing: nullable(
      Type.Object(
        {
          entries: count("Entries of the ring.", 4096),
          dirtyIndex: count("Next entry that KVM writes; absolute.", 3),
          resetIndex: count("Next entry that a reset looks at; absolute.", 0),
          harvestIndex: count("Next entry that userspace harvests; absolute.", 1),
          softFull: Type.Boolean({ description: "Runs exit with KVM_EXIT_DIRTY_RING_FULL." }),
        },
        closed,
      ),
    ),
  },
  { ...closed, $id: "Vcpu" },
);
export const VcpuPage = pageOf("VcpuPage", Vcpu);

export const VcpuCreate = Type.Object(
  {},
  { ...closed, $id: "VcpuCreate", description: "Nothing to say yet.", examples: [{}] },
);

export const MpState = Type.Object({ mpState }, { ...closed, $id: "MpState" });

const ACCESSES_MAX = 65_536;
const access = Type.Object(
  {
    op: Type.Union([Type.Literal("read"), Type.Literal("write")]),
    address: u64("Guest-physical address.", "0x4000"),
    length: Type.Integer({ minimum: 1, maximum: 8, description: "Bytes.", examples: [8] }),
    value: Type.Optional(u64("What a write stores, little-endian.", "0x2a")),
  },
  closed,
);

export const Program = Type.Union(
  [
    Type.Object(
      {
        kind: Type.Literal("accesses"),
        accesses: Type.Array(access, { maxItems: ACCESSES_MAX }),
      },
      closed,
    ),
    Type.Object(
      {
        kind: Type.Literal("pattern"),
        pattern: Type.Union([
          Type.Literal("uniform"),
          Type.Literal("zipf"),
          Type.Literal("sequential"),
          Type.Literal("hot-set"),
        ]),
        base: u64("First guest-physical byte of the window.", "0x0"),
        bytes: u64("Size of the window.", "0x100000"),
        count: Type.Optional(count("Accesses to do; 0 means without end.", 1000)),
        writePercent: Type.Optional(
          Type.Integer({ minimum: 0, maximum: 100, default: 100, description: "Share of stores." }),
        ),
        length: Type.Optional(
          Type.Union([Type.Literal(1), Type.Literal(2), Type.Literal(4), Type.Literal(8)], {
            default: 8,
            description: "Bytes of one access.",
          }),
        ),
        stride: Type.Optional(
          Type.Integer({
            minimum: 1,
            maximum: 0xffff_ffff,
            description: "Bytes between neighbours of `sequential`; the page size by default.",
            examples: [4096],
          }),
        ),
        skew: Type.Optional(
          Type.Integer({
            minimum: 0,
            maximum: 10_000,
            description:
              "zipf: exponent times 100, 100 by default; hot-set: percent of the window that is " +
              "hot, 10 by default.",
            examples: [100],
          }),
        ),
        seed: Type.Optional(u64("Seeds the pattern; the VM's seed by default.", "0x1")),
      },
      closed,
    ),
  ],
  {
    $id: "Program",
    description: "What a synthetic vCPU does.",
    examples: [
      {
        kind: "accesses",
        accesses: [{ op: "write", address: "0x4000", length: 8, value: "0x2a" }],
      },
    ],
  },
);

export const ProgramState = Type.Object(
  {
    ...progress,
    kind: programKind,
    from: count("Index of the first load in `loads`."),
    loads: Type.Array(hexU64("", "0x2a"), {
      description: "Values that the program's loads read, in order.",
    }),
  },
  { ...closed, $id: "ProgramState" },
);

const LOADS_MAX = 65_536;
export const ProgramQuery = Type.Object(
  {
    from: Type.Optional(count("Index of the first load to answer.")),
    limit: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: LOADS_MAX,
        default: 1000,
        description: "Loads at most.",
      }),
    ),
  },
  closed,
);

const RUN_MS_MAX = 86_400_000;
export const RunCreate = Type.Object(
  {
    immediateExit: Type.Optional(
      Type.Boolean({ default: false, description: "kvm_run.immediate_exit: EINTR at once." }),
    ),
    mmioData: Type.Optional(
      Type.String({
        pattern: "^([0-9a-fA-F]{2}){1,8}$",
        description: "Bytes that complete the load of the last KVM_EXIT_MMIO, in memory order.",
        examples: ["a0a1a2a3"],
      }),
    ),
    timeoutMs: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: RUN_MS_MAX,
        description: "The service kicks the vCPU after this time.",
        examples: [1000],
      }),
    ),
  },
  { ...closed, $id: "RunCreate", examples: [{ timeoutMs: 1000 }] },
);

const RunResult = Type.Object(
  {
    errno: nullable(Type.String({ description: "null: KVM_RUN returned 0.", examples: ["EINTR"] })),
    errnoValue: Type.Integer({ minimum: 0, description: "0 when errno is null.", examples: [4] }),
    exitReason: Type.String({ description: "KVM_EXIT_…", examples: ["KVM_EXIT_INTR"] }),
    mmio: Type.Optional(
      Type.Object(
        {
          physAddr: hexU64("Guest-physical address.", "0x9000000"),
          len: Type.Integer({ minimum: 1, maximum: 8, examples: [4] }),
          isWrite: Type.Boolean(),
          data: Type.String({
            pattern: "^([0-9a-f]{2})*$",
            description: "Bytes in memory order.",
            examples: ["2a000000"],
          }),
        },
        closed,
      ),
    ),
    systemEvent: Type.Optional(
      Type.Object(
        {
          type: Type.Integer({
            description: "KVM_SYSTEM_EVENT_*: 1 shutdown, 2 reset, 5 suspend.",
            examples: [1],
          }),
          data: Type.Array(hexU64("", "0x0"), { description: "data[0…ndata-1]." }),
        },
        closed,
      ),
    ),
    hypercall: Type.Optional(
      Type.Object(
        {
          nr: hexU64("Function identifier; arguments are in X1 to X17.", "0xc6000000"),
          flags: hexU64("Bit 0: by SMC.", "0x0"),
        },
        closed,
      ),
    ),
    debug: Type.Optional(
      Type.Object(
        {
          hsr: hexU64(
            "ESR_EL2: class 0x30 breakpoint, 0x32 step, 0x34 watchpoint, 0x3c BRK.",
            "0xca000022",
          ),
          far: hexU64("Address that a watchpoint saw; else 0.", "0x0"),
        },
        closed,
      ),
    ),
    armNisv: Type.Optional(
      Type.Object(
        {
          esrIss: hexU64("Of ESR_EL2: CM, WnR, FSC.", "0x46"),
          faultIpa: hexU64("Guest-physical address.", "0x9000000"),
        },
        closed,
      ),
    ),
    armSea: Type.Optional(
      Type.Object(
        {
          flags: hexU64("Bit 0: gpa is valid.", "0x1"),
          esr: hexU64("Of ESR_EL2: EC, IL, FnV, EA, CM, WnR, FSC.", "0x92000010"),
          gva: hexU64("Guest-virtual address.", "0x4000"),
          gpa: hexU64("Guest-physical page.", "0x4000"),
        },
        closed,
      ),
    ),
    memoryFault: Type.Optional(
      Type.Object(
        {
          flags: hexU64("", "0x0"),
          gpa: hexU64("", "0x4000"),
          size: hexU64("", "0x1000"),
        },
        closed,
      ),
    ),
    cleaned: Type.Optional(
      Type.Object(
        {
          slot: u32("Of KVM_EXIT_CLEANED.", 0),
          firstPage: count("Window of the deferred CLEAR, in pages.", 0),
          numPages: count("", 512),
        },
        closed,
      ),
    ),
    deviceIrqLevel: Type.Integer({
      minimum: 0,
      description:
        "kvm_run.s.regs.device_irq_level without an in-kernel controller: bit 0 virtual timer, " +
        "bit 1 physical timer, bit 2 PMU. A change ends a run with EINTR.",
      examples: [0],
    }),
    retired: count("Accesses or instructions retired during this run.", 12),
    program: ProgramProgress,
  },
  { ...closed, $id: "RunResult", description: "What one KVM_RUN gave; a failure is a result." },
);

export const Run = Type.Object(
  {
    id: text("", "run_01hqs4ym8x"),
    vmId: text("", "vm_01hqs4ym8x"),
    vcpu: u32("vCPU id."),
    state: Type.String({ description: "running or exited.", examples: ["exited"] }),
    kickRequested: Type.Boolean(),
    result: nullable(RunResult),
  },
  { ...closed, $id: "Run" },
);
export const RunPage = pageOf("RunPage", Run);

export const RunGetQuery = Type.Object({ wait }, closed);

export const Kick = Type.Object(
  { run: nullable(Run) },
  { ...closed, $id: "Kick", description: "The run that was kicked; null when none was active." },
);
