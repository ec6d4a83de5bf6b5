// Owns: shapes of a VM's trace. HTTP thread.
import Type from "typebox";
import { TRACE_EVENTS_MAX } from "../../base/limits.js";
import { TRACE_CATEGORIES, TRACE_CATEGORY_NAMES } from "../../base/trace.table.js";
import { closed } from "./common.schema.js";

const held = TRACE_CATEGORY_NAMES.map((name) => `${name}: ${TRACE_CATEGORIES[name].join(", ")}`);
const categories = Type.Array(Type.Union(TRACE_CATEGORY_NAMES.map((name) => Type.Literal(name))), {
  description: `What is recorded. ${held.join("; ")}.`,
  maxItems: TRACE_CATEGORY_NAMES.length,
  examples: [["exit", "mmio"]],
});

export const TraceStart = Type.Object(
  { categories: Type.Optional(categories) },
  { ...closed, $id: "TraceStart", examples: [{ categories: ["exit", "mmio"] }] },
);

export const Trace = Type.Object(
  {
    isOn: Type.Boolean({ description: "Whether it records.", examples: [true] }),
    categories,
    recorded: Type.Integer({ minimum: 0, description: "Events since it began.", examples: [9] }),
    dropped: Type.Integer({
      minimum: 0,
      description: `Of them, those that gave way: the newest ${TRACE_EVENTS_MAX} are kept.`,
      examples: [0],
    }),
  },
  { ...closed, $id: "Trace" },
);

const TraceRow = Type.Object(
  {
    name: Type.String({ description: "Of the tracepoint or ioctl.", examples: ["kvm_exit"] }),
    ph: Type.String({ description: "M, X, i, b or e.", examples: ["i"] }),
    pid: Type.Integer({ description: "1: the VM.", examples: [1] }),
    tid: Type.Integer({ description: "0: ioctls; n + 1: vCPU n.", examples: [1] }),
    cat: Type.Optional(Type.String({ description: "Its category.", examples: ["exit"] })),
    id: Type.Optional(Type.Integer({ description: "Of an ioctl.", examples: [4] })),
    s: Type.Optional(Type.String({ description: "t: of the track.", examples: ["t"] })),
    ts: Type.Optional(
      Type.Number({ description: "Microseconds of the VM's clock.", examples: [1.25] }),
    ),
    dur: Type.Optional(Type.Number({ description: "Microseconds.", examples: [0.5] })),
    args: Type.Record(Type.String(), Type.Unknown(), {
      description: "The tracepoint's fields; a u64 is a text.",
      examples: [{ ret: "TRAP", esr_ec: 36, vcpu_pc: "0x40080000" }],
    }),
  },
  { ...closed, $id: "TraceRow" },
);

export const TraceFile = Type.Object(
  {
    displayTimeUnit: Type.Literal("ns"),
    otherData: Type.Object(
      {
        clock: Type.String({ description: "wall or virtual.", examples: ["virtual"] }),
        dropped: Type.Integer({ minimum: 0, description: "As in Trace.", examples: [0] }),
      },
      closed,
    ),
    traceEvents: Type.Array(TraceRow),
  },
  { ...closed, $id: "TraceFile" },
);
