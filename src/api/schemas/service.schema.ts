// Owns: shapes of events, health, version and problem pages. HTTP thread.
import Type from "typebox";
import { closed, count, text, time } from "./common.schema.js";

const EVENTS_MAX = 1000;

export const Event = Type.Object(
  {
    id: count("Counts up by one; the id in the stream.", 42),
    type: text("Kind of event; new ones may appear.", "vm.created"),
    time: time("When it happened."),
    subject: text("What it is about.", "vms/vm_01hqs4ym8x"),
    data: Type.Record(Type.String(), Type.Unknown(), { examples: [{ state: "active" }] }),
  },
  { ...closed, $id: "Event", description: "One line of the history; CloudEvents field names." },
);
export const Events = Type.Object(
  {
    items: Type.Array(Event),
    gap: Type.Boolean({ description: "Events after `after` are lost." }),
    oldest: count("Oldest id still kept.", 1),
    newest: count("Newest id.", 42),
  },
  { ...closed, $id: "Events" },
);
export const EventsQuery = Type.Object(
  {
    after: Type.Optional(count("Only events behind this id.", 41)),
    limit: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: EVENTS_MAX,
        default: 100,
        description: "Events at most.",
      }),
    ),
  },
  closed,
);

export const Live = Type.Object({ status: Type.Literal("ok") }, { ...closed, $id: "Live" });
export const Ready = Type.Object(
  {
    ready: Type.Literal(true),
    checks: Type.Record(
      Type.String(),
      Type.Object({ ok: Type.Boolean(), detail: Type.String() }, closed),
      { examples: [{ store: { ok: true, detail: "open" } }] },
    ),
  },
  { ...closed, $id: "Ready" },
);
export const Version = Type.Object(
  {
    name: text("", "tidemark"),
    version: text("", "0.1.0"),
    api: text("Prefix of the paths.", "v1"),
    kvmApiVersion: Type.Literal(12),
    node: text("", "v20.20.2"),
  },
  { ...closed, $id: "Version" },
);

export const ProblemPage = Type.Object(
  {
    code: text("", "destructive-read"),
    type: text("", "/problems/destructive-read"),
    status: Type.Integer({ minimum: 400, maximum: 599, examples: [409] }),
    title: text("", "A GET must not destroy what it reads"),
    page: text("When it happens and what to do.", "POST to the harvests instead."),
  },
  { ...closed, $id: "ProblemPage" },
);
export const ProblemPages = Type.Object(
  { items: Type.Array(ProblemPage), nextCursor: Type.Null() },
  { ...closed, $id: "ProblemPages" },
);
export const ProblemParams = Type.Object(
  { code: Type.String({ minLength: 1, maxLength: 64, examples: ["destructive-read"] }) },
  closed,
);
