// Owns: shapes of GDB stubs. HTTP thread.
import Type from "typebox";
import { closed, count, nullable, text } from "./common.schema.js";

const PORT_MAX = 65_535;

/** Where a VM's socket is to be. */
export const Listen = Type.Union(
  [
    Type.Literal("unix"),
    Type.Object(
      {
        port: Type.Integer({
          minimum: 0,
          maximum: PORT_MAX,
          description: "Port of 127.0.0.1; 0: a free one.",
          examples: [0],
        }),
      },
      closed,
    ),
  ],
  {
    description: "A Unix socket that only the service's own user can open, or a port.",
    examples: ["unix"],
  },
);

export const GdbCreate = Type.Object(
  { listen: Listen },
  { ...closed, $id: "GdbCreate", examples: [{ listen: "unix" }] },
);

export const Gdb = Type.Object(
  {
    vmId: text("The VM.", "vm_0001"),
    path: nullable(text("Of the Unix socket.", "/var/lib/tidemark/gdb/vm_0001.sock")),
    port: nullable(count("Of 127.0.0.1.", 1234)),
    connect: text("What to type in GDB.", "target remote 127.0.0.1:1234"),
    attached: Type.Boolean({ description: "A debugger is there.", examples: [false] }),
    counts: Type.Object(
      {
        connections: count("Debuggers that came."),
        refused: count("Of those that came while another was there."),
        packets: count("Packets taken."),
        damaged: count("Packets whose checksum was wrong."),
        stops: count("Stops that were told."),
      },
      { ...closed, description: "Since it was opened." },
    ),
  },
  { ...closed, $id: "Gdb", description: "What listens for a VM's debugger." },
);
