// Owns: shapes of assigned devices. HTTP thread.
import Type from "typebox";
import { closed, hexU64, pageOf, u32, u64, vmParams } from "./common.schema.js";

const eventfd = (description: string) =>
  Type.String({ maxLength: 64, description, examples: ["efd_01hqs4ym8x"] });

export const AssignedCreate = Type.Object(
  {
    base: u64("Guest-physical address of its registers, 16 bytes.", "0xa000000"),
    triggerEventfd: eventfd("Signalled when the host takes the device's interrupt."),
    unmaskEventfd: eventfd("A signal unmasks the interrupt on the host: the irqfd's resamplefd."),
    isHigh: Type.Optional(
      Type.Boolean({
        description: "Its line, as whoever had the device before left it. By default low.",
        examples: [false],
      }),
    ),
  },
  {
    ...closed,
    $id: "AssignedDeviceCreate",
    examples: [
      { base: "0xa000000", triggerEventfd: "efd_01hqs4ym8x", unmaskEventfd: "efd_01hqs4yp2c" },
    ],
  },
);
export const Assigned = Type.Object(
  {
    id: u32("By order of assignment.", 0),
    base: hexU64("Registers: +0 the line, +4 a store lowers it, +8 raises it.", "0xa000000"),
    isHigh: Type.Boolean({ description: "Level of its line.", examples: [true] }),
    isMasked: Type.Boolean({
      description: "VFIO has masked its interrupt on the host.",
      examples: [true],
    }),
    interrupts: u32("Interrupts that the host took of it.", 1),
    unmasks: u32("How often it was unmasked.", 0),
  },
  { ...closed, $id: "AssignedDevice" },
);
export const AssignedPage = pageOf("AssignedDevicePage", Assigned);
export const AssignedParams = vmParams(
  "id",
  Type.Integer({ minimum: 0, maximum: 0xffff_ffff, description: "Its number.", examples: [0] }),
);
