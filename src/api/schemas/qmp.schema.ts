// Owns: shapes of QMP sockets. HTTP thread.
import Type from "typebox";
import { closed, count, nullable, text } from "./common.schema.js";
import { Listen } from "./gdb.schema.js";

export const QmpCreate = Type.Object(
  { listen: Listen },
  { ...closed, $id: "QmpCreate", examples: [{ listen: "unix" }] },
);

export const Qmp = Type.Object(
  {
    vmId: text("The VM.", "vm_0001"),
    path: nullable(text("Of the Unix socket.", "/var/lib/tidemark/qmp/vm_0001.sock")),
    port: nullable(count("Of 127.0.0.1.", 4444)),
    clients: count("Clients that are there."),
    counts: Type.Object(
      {
        connections: count("Clients that came."),
        refused: count("Clients that came while too many were there."),
        commands: count("Commands taken."),
        errors: count("Commands that were answered by an error."),
        events: count("Events that there were."),
        cut: count("Clients that were cut because they didn't read."),
      },
      { ...closed, description: "Since it was opened." },
    ),
  },
  { ...closed, $id: "Qmp", description: "What listens for a VM's QMP clients." },
);
