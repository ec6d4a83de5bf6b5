// Owns: shapes of irqfds. HTTP thread.
import Type from "typebox";
import { closed, nullable, pageOf, text, u32, vmParams } from "./common.schema.js";

const eventfd = Type.String({
  maxLength: 64,
  description: "Id of the eventfd; what is none is EBADF.",
  examples: ["efd_01hqs4ym8x"],
});
const gsi = u32("Global system interrupt.", 32);

/** On every call that may put work off: whether it is done before the answer. */
export const drain = Type.Optional(
  Type.Boolean({
    default: true,
    description:
      "Whether work that KVM puts off (injection by a worker, detaching) is done before the " +
      "answer. With false it waits until another call drains, or a vCPU enters its guest.",
    examples: [true],
  }),
);
export const DrainQuery = Type.Object({ drain }, closed);

export const IrqfdCreate = Type.Object(
  {
    eventfd,
    gsi,
    flags: Type.Optional(u32("1 DEASSIGN, 2 RESAMPLE. By default 2 with resampleEventfd.", 0)),
    resampleEventfd: Type.Optional(eventfd),
  },
  {
    ...closed,
    $id: "IrqfdCreate",
    examples: [{ eventfd: "efd_01hqs4ym8x", gsi: 32 }],
  },
);
export const Irqfd = Type.Object(
  {
    id: text("Ours: KVM itself knows eventfd and gsi.", "irq_01hqs4ym8x"),
    eventfd: nullable(
      Type.String({
        description: "null: nobody has it open, or it is an input log's.",
        examples: ["efd_01hqs4ym8x"],
      }),
    ),
    gsi,
    flags: u32("2: RESAMPLE.", 0),
    resampleEventfd: nullable(
      Type.String({
        description: "Counted up by each end of interrupt.",
        examples: ["efd_01hqs4yp2c"],
      }),
    ),
  },
  { ...closed, $id: "Irqfd" },
);
export const Irqfds = pageOf("IrqfdPage", Irqfd);
export const IrqfdQuery = Type.Object({ eventfd, gsi, drain }, closed);
export const IrqfdParams = vmParams(
  "id",
  Type.String({
    minLength: 1,
    maxLength: 64,
    description: "Id of the irqfd.",
    examples: ["irq_01hqs4ym8x"],
  }),
);
