// Owns: a VM's QMP socket: opening, looking at, closing. HTTP thread.
import type { ApiDeps } from "../deps.js";
import { empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { VmParams } from "../schemas/common.schema.js";
import { Qmp, QmpCreate } from "../schemas/qmp.schema.js";
import { created, LOCATION } from "../support.js";

const at = { tag: "qmp", path: "/v1/vms/{vm}/qmp", params: VmParams } as const;

export function qmpOperations({ services }: ApiDeps): readonly Operation[] {
  const { qmp } = services;
  return [
    operation({
      ...at,
      id: "openQmp",
      method: "POST",
      scope: "vm:write",
      summary: "Open a QMP socket",
      description:
        "Listens for clients of QEMU's machine protocol: the VM's state, power, migration and " +
        "dirty pages. It is gone when the VM stops, and stays when it moves to another host.",
      body: QmpCreate,
      answers: { 201: withHeaders(json("The socket.", Qmp), LOCATION) },
      problems: [
        "vm-not-found",
        "vm-not-active",
        "no-board",
        "qmp-off",
        "qmp-open",
        "qmp-listen-failed",
      ],
      handle: async ({ params, body, reply }) => {
        const port = body.listen === "unix" ? null : body.listen.port;
        const opened = await qmp.open(params.vm, port);
        return created(reply, `/v1/vms/${params.vm}/qmp`).send(opened);
      },
    }),
    operation({
      ...at,
      id: "getQmp",
      method: "GET",
      scope: "vm:read",
      summary: "Read a QMP socket",
      description: "Where it listens, how many clients are there, what they did.",
      answers: { 200: json("The socket.", Qmp) },
      problems: ["vm-not-found", "qmp-not-found"],
      handle: async ({ params }) => qmp.get(params.vm),
    }),
    operation({
      ...at,
      id: "closeQmp",
      method: "DELETE",
      scope: "vm:write",
      summary: "Close a QMP socket",
      description: "Its clients are cut off, and a dirty limit that one of them set ends.",
      answers: { 204: empty("Closed; the VM goes on as it was.") },
      problems: ["vm-not-found", "qmp-not-found"],
      handle: async ({ params, reply }) => {
        await qmp.close(params.vm);
        return reply.code(204).send();
      },
    }),
  ];
}
