// Owns: a VM's GDB stub: opening, looking at, closing. HTTP thread.
import type { ApiDeps } from "../deps.js";
import { empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { VmParams } from "../schemas/common.schema.js";
import { Gdb, GdbCreate } from "../schemas/gdb.schema.js";
import type { GdbResource } from "../services.js";
import { created, LOCATION } from "../support.js";

const at = { tag: "gdb", path: "/v1/vms/{vm}/gdb", params: VmParams } as const;

function gdbView(gdb: GdbResource) {
  const place = gdb.path ?? `127.0.0.1:${gdb.port}`;
  return { ...gdb, connect: `target remote ${place}` };
}

export function gdbOperations({ services }: ApiDeps): readonly Operation[] {
  const { gdb } = services;
  return [
    operation({
      ...at,
      id: "openGdb",
      method: "POST",
      scope: "vm:write",
      summary: "Open a GDB stub",
      description:
        "Listens for a debugger, which sees vCPUs as threads. While one is attached, it says " +
        "when they run. The stub is gone when the VM stops.",
      body: GdbCreate,
      answers: { 201: withHeaders(json("The stub.", Gdb), LOCATION) },
      problems: [
        "vm-not-found",
        "vm-not-active",
        "gdb-off",
        "gdb-open",
        "gdb-listen-failed",
        "vcpu-not-initialised",
      ],
      handle: async ({ params, body, reply }) => {
        const port = body.listen === "unix" ? null : body.listen.port;
        const opened = await gdb.open(params.vm, port);
        return created(reply, `/v1/vms/${params.vm}/gdb`).send(gdbView(opened));
      },
    }),
    operation({
      ...at,
      id: "getGdb",
      method: "GET",
      scope: "vm:read",
      summary: "Read a GDB stub",
      description: "Where it listens, whether a debugger is attached, what it did.",
      answers: { 200: json("The stub.", Gdb) },
      problems: ["vm-not-found", "gdb-not-found"],
      handle: async ({ params }) => gdbView(await gdb.get(params.vm)),
    }),
    operation({
      ...at,
      id: "closeGdb",
      method: "DELETE",
      scope: "vm:write",
      summary: "Close a GDB stub",
      description: "A debugger that is attached is sent away; the VM stays halted.",
      answers: { 204: empty("Closed; breakpoints are gone from the guest.") },
      problems: ["vm-not-found", "gdb-not-found"],
      handle: async ({ params, reply }) => {
        await gdb.close(params.vm);
        return reply.code(204).send();
      },
    }),
  ];
}
