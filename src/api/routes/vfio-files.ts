// Owns: VFIO files: what a KVM-VFIO device is told of. HTTP thread.
import type { ApiDeps } from "../deps.js";
import { empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { PageQuery, VmParams } from "../schemas/common.schema.js";
import {
  VfioFile,
  VfioFileCreate,
  VfioFilePage,
  VfioFileParams,
} from "../schemas/devices.schema.js";
import { created, LOCATION, NEXT_LINK, pageOfList, sendPage } from "../support.js";
import { vmPath } from "../views/vm.js";

const path = "/v1/vms/{vm}/vfio-files";

export function vfioFileOperations({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const at = { path, tag: "devices", params: VmParams } as const;
  return [
    operation({
      ...at,
      id: "openVfioFile",
      method: "POST",
      scope: "vm:write",
      summary: "Open a VFIO file",
      description:
        "An emulated file in the VMM's process that stands for an assigned device. KVM is told " +
        "of it by attribute 1/1 (FILE_ADD) of a KVM-VFIO device, whose value is the descriptor.",
      body: VfioFileCreate,
      bodyOptional: true,
      answers: { 201: withHeaders(json("The file.", VfioFile), LOCATION) },
      problems: ["vm-not-found", "vm-not-active"],
      handle: async ({ params, reply }) => {
        const { value } = await vms.command(params.vm, "openVfioFile", {});
        return created(reply, `${vmPath(params.vm)}/vfio-files/${value.fd}`).send(value);
      },
    }),
    operation({
      ...at,
      id: "listVfioFiles",
      method: "GET",
      scope: "vm:read",
      summary: "List VFIO files",
      description: "The open ones, in order of their descriptors.",
      query: PageQuery,
      answers: { 200: withHeaders(json("One page.", VfioFilePage), NEXT_LINK) },
      problems: ["vm-not-found", "vm-not-active", "cursor-invalid"],
      handle: async (call) => {
        const { value } = await vms.command(call.params.vm, "listVfioFiles", {});
        const page = pageOfList(value, call.query, ({ fd }) => BigInt(fd));
        return sendPage(call, page, (file) => file);
      },
    }),
    operation({
      ...at,
      id: "closeVfioFile",
      method: "DELETE",
      path: `${path}/{fd}`,
      scope: "vm:write",
      summary: "Close a VFIO file",
      description: "KVM holds the file until its device is closed, if it was told of it.",
      params: VfioFileParams,
      answers: { 204: empty("Closed.") },
      problems: ["vm-not-found", "vfio-file-not-found", "vm-not-active"],
      handle: async ({ params, reply }) => {
        await vms.command(params.vm, "closeVfioFile", { fd: params.fd });
        return reply.code(204).send();
      },
    }),
  ];
}
