// Owns: shapes of dirty tracking's settings, made from the tables of the rooms below: each setting
// is a property with its sentence and its values. HTTP thread.
import Type, { type TSchema } from "typebox";
import { defaultOf, type SettingRow, type SettingValue } from "../../base/settings.js";
import {
  DIRTY_DEFECTS,
  DIRTY_DIAGNOSTICS,
  DIRTY_FAULTS,
  DIRTY_SETTINGS,
} from "../../service/index.js";
import { closed, nullable, text } from "./common.schema.js";

type Values = Readonly<Record<string, SettingValue>>;

const UNTIL: Readonly<Record<SettingRow["changeable"], string>> = {
  "at-creation": "Fixed when the VM is created.",
  "before-vcpus": "May change while the VM has no vCPU.",
  always: "May change at any time.",
};

function valueSchema(row: SettingRow): TSchema {
  const more = {
    description: `${row.says} ${UNTIL[row.changeable]} By default ${defaultOf(row)}.`,
    examples: [defaultOf(row)],
  };
  const values = row.values as readonly unknown[] | { readonly min: number; readonly max: number };
  if ("min" in values) return Type.Integer({ minimum: values.min, maximum: values.max, ...more });
  if (values.every((value) => typeof value === "boolean")) return Type.Boolean(more);
  return Type.Unsafe<string>({ type: "string", enum: values, ...more });
}

/** One property per setting. */
function properties(wrap: (schema: TSchema) => TSchema): Record<string, TSchema> {
  const rows = Object.entries(DIRTY_SETTINGS);
  return Object.fromEntries(rows.map(([key, row]) => [key, wrap(valueSchema(row))]));
}

/** Static types of so many optional properties would say less than this one. */
function typed<T>(schema: TSchema) {
  return Type.Unsafe<T>(schema);
}

export const seedBugs = Type.Array(
  Type.Unsafe<string>({
    type: "string",
    enum: Object.keys(DIRTY_DEFECTS),
    description: "A defect of the seeds: B of message 001, D of message 002.",
    examples: ["B12"],
  }),
  {
    uniqueItems: true,
    maxItems: Object.keys(DIRTY_DEFECTS).length,
    description: "Defects that are switched on; GET /v1/dirty-settings says what each does.",
    examples: [["B12"]],
  },
);

export const given = typed<Values>(
  Type.Object(properties(Type.Optional), {
    ...closed,
    $id: "DirtySettingsGiven",
    description: "What is left out keeps its default.",
    examples: [{ "hdbss.sync": "wait-drain", "hacdbs.completion": "irq-wfi" }],
  }),
);

/** `dirty` in the body that creates a VM. */
export const DirtyCreate = Type.Object(
  { settings: Type.Optional(given), seedBugs: Type.Optional(seedBugs) },
  {
    ...closed,
    description: "Dirty tracking's hardware, KVM's use of it, and defects switched on.",
  },
);

/** `dirty` in a VM's definition: what differs from the defaults. */
export const DirtyDefinition = Type.Object({ settings: given, seedBugs }, closed);

/** Every setting as it is in force. */
export const DirtySettings = Type.Object(
  {
    settings: typed<Values>(
      Type.Object(
        properties((schema) => schema),
        { ...closed, $id: "DirtySettingValues" },
      ),
    ),
    seedBugs,
  },
  { ...closed, $id: "DirtySettings", description: "What is in force in this VM now." },
);

export const DirtyPatch = Type.Object(
  {
    settings: Type.Optional(
      typed<Readonly<Record<string, SettingValue | null>>>(
        Type.Object(
          properties((schema) => Type.Optional(nullable(schema))),
          {
            ...closed,
            $id: "DirtySettingsPatch",
            description: "Absent stays; null goes back to the default.",
            examples: [{ "hacdbs.completion": "poll-tight", "hdbss.size": null }],
          },
        ),
      ),
    ),
    seedBugs: Type.Optional(seedBugs),
  },
  {
    ...closed,
    $id: "DirtyPatch",
    description: "RFC 7396 merge patch; a list of defects replaces the one before.",
    examples: [{ settings: { "hacdbs.completion": "poll-tight" }, seedBugs: [] }],
  },
);

const value = Type.Union([Type.String(), Type.Integer(), Type.Boolean()]);
const says = text("One sentence.", "When a vCPU's buffer is drained.");
const named = (description: string) =>
  Type.Array(Type.Object({ name: text("", "hdbss-append-abort"), says }, closed), { description });

const setting = Type.Object(
  {
    key: text("", "hdbss.flushAt"),
    of: Type.String({
      description: '"hardware": a choice of silicon; "kvm": of the kernel.',
      examples: ["kvm"],
    }),
    says,
    values: nullable(Type.Array(value, { description: "The first one is the default." })),
    range: nullable(
      Type.Object(
        { min: Type.Integer(), max: Type.Integer() },
        { ...closed, examples: [{ min: -1, max: 9 }] },
      ),
    ),
    default: value,
    changeable: Type.String({
      description: "at-creation, before-vcpus or always.",
      examples: ["always"],
    }),
    source: text("Where it comes from.", "S1, H3-L, HL"),
  },
  { ...closed, $id: "DirtySettingRow" },
);

/** The tables as one answer. */
export const DirtyCatalogue = Type.Object(
  {
    settings: Type.Array(setting),
    seedBugs: Type.Array(
      Type.Object(
        {
          name: text("", "B12"),
          says,
          test: nullable(text("Cases of the specification that fail with it.", "T-21, T-40")),
        },
        closed,
      ),
    ),
    faultKinds: named("What POST /v1/vms/{vm}/faults can arm."),
    diagnostics: named("Mistakes of software that the machine reports."),
  },
  { ...closed, $id: "DirtyCatalogue", description: "Everything that can be chosen or injected." },
);

/** @returns the catalogue's answer */
export function dirtyCatalogue() {
  const list = (table: Readonly<Record<string, string>>) =>
    Object.entries(table).map(([name, sentence]) => ({ name, says: sentence }));
  return {
    settings: Object.entries(DIRTY_SETTINGS).map(([key, row]) => ({
      key,
      of: key.startsWith("hardware.") ? "hardware" : "kvm",
      says: row.says,
      values: "min" in row.values ? null : row.values,
      range: "min" in row.values ? row.values : null,
      default: defaultOf(row),
      changeable: row.changeable,
      source: row.source,
    })),
    seedBugs: Object.entries(DIRTY_DEFECTS).map(([name, row]) => ({ name, ...row })),
    faultKinds: list(DIRTY_FAULTS),
    diagnostics: list(DIRTY_DIAGNOSTICS),
  };
}
