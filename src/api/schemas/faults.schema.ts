// Owns: shapes of faults to inject and of mistakes that the machine reports. HTTP thread.
import Type from "typebox";
import { DIRTY_FAULTS } from "../../service/index.js";
import { closed, count, nullable, text, U32_MAX, vmParams } from "./common.schema.js";

const NTH_MAX = 1_000_000_000;
const DELAY_MAX = 1_000_000;

const kind = Type.Unsafe<string>({
  type: "string",
  enum: Object.keys(DIRTY_FAULTS),
  description: Object.entries(DIRTY_FAULTS)
    .map(([name, says]) => `\`${name}\`: ${says}`)
    .join(" "),
  examples: ["hdbss-append-abort"],
});
const nth = Type.Integer({
  minimum: 1,
  maximum: NTH_MAX,
  description: "The event that goes wrong, counted from 1 on from when the fault was armed.",
  examples: [5],
});
const vcpu = nullable(
  Type.Integer({
    minimum: 0,
    maximum: U32_MAX,
    description: "Only events of this vCPU count; null: everybody's.",
    examples: [0],
  }),
);
const times = nullable(
  Type.Integer({
    minimum: 1,
    maximum: NTH_MAX,
    description: "How often it hits, at multiples of `nth`; null: as long as it is armed.",
    examples: [1],
  }),
);
const delay = Type.Integer({
  minimum: 0,
  maximum: DELAY_MAX,
  description: "Scheduler steps; only for `kick-delayed`.",
  examples: [0],
});

export const FaultCreate = Type.Object(
  {
    kind,
    nth: Type.Optional(nth),
    vcpu: Type.Optional(vcpu),
    times: Type.Optional(times),
    delay: Type.Optional(delay),
  },
  {
    ...closed,
    $id: "FaultCreate",
    description: "By default the next event of anybody's goes wrong, once.",
    examples: [{ kind: "hdbss-append-abort", nth: 5 }],
  },
);

export const Fault = Type.Object(
  {
    id: count("", 1),
    kind,
    nth,
    vcpu,
    times,
    delay,
    seen: count("Events that counted.", 5),
    hits: count("Events that went wrong.", 1),
    isArmed: Type.Boolean({ description: "false: it has done all it was armed for." }),
  },
  { ...closed, $id: "Fault" },
);
export const Faults = Type.Object(
  { items: Type.Array(Fault), nextCursor: Type.Null() },
  { ...closed, $id: "Faults", description: "Armed ones and the last that are spent, by id." },
);
export const FaultParams = vmParams("fault", count("Id of the fault.", 1));

export const Diagnostics = Type.Object(
  {
    items: Type.Array(
      Type.Object(
        {
          kind: text("", "hdbss-write-outside-owned-buffer"),
          says: text("What software did.", "HDBSS wrote an entry outside of its buffer."),
          count: count("How often since the VM's thread began.", 0),
          last: nullable(text("The last one.", "0x0, vCPU 2")),
        },
        closed,
      ),
    ),
    nextCursor: Type.Null(),
  },
  { ...closed, $id: "Diagnostics", description: "Mistakes that real hardware would not report." },
);
