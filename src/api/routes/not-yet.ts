// Owns: the operations of not-yet.table.ts: 404 for an unknown VM, 501 for the rest. HTTP thread.
import Type, { type TObject, type TSchema } from "typebox";
import { ERRNO } from "../../base/errno.table.js";
import { ServiceError } from "../../base/errors.js";
import type { ApiDeps } from "../deps.js";
import { type Operation, operation } from "../operation.js";
import { binary, closed, VcpuParams } from "../schemas/common.schema.js";
import { NOT_YET, type NotYetRow } from "./not-yet.table.js";

const AnyBody = Type.Unknown({ description: "Not looked at yet.", examples: [{}] });
const AnyBytes = binary("Not looked at yet.");
const OTHER = Type.String({ minLength: 1, maxLength: 64, examples: ["0"] });

function paramsOf(path: string): TObject {
  const properties: Record<string, TSchema> = {};
  for (const [, name = ""] of path.matchAll(/\{(\w+)\}/g)) {
    const { vm, n } = VcpuParams.properties;
    properties[name] = name === "vm" ? vm : name === "n" ? n : OTHER;
  }
  return Type.Object(properties, closed);
}

function notYet({ services, options }: ApiDeps, row: NotYetRow): Operation {
  const hasBody = row.method !== "GET" && row.method !== "DELETE";
  return operation({
    id: row.id,
    method: row.method,
    path: row.path,
    tag: "not-yet",
    scope: row.method === "GET" ? "vm:read" : "vm:write",
    summary: `Not on arm64: ${row.summary[0]?.toLowerCase() ?? ""}${row.summary.slice(1)}`,
    description: `${row.ioctl}, of other architectures: 501 here, and its capability reads 0.`,
    params: paramsOf(row.path),
    ...(hasBody
      ? {
          body: AnyBody,
          bodyOptional: true,
          octets: { schema: AnyBytes, limit: options.jsonBodyBytes },
        }
      : {}),
    answers: {},
    problems: ["vm-not-found", "not-implemented"],
    handle: async ({ params }) => {
      await services.vms.get(String((params as Record<string, unknown>)["vm"]));
      throw new ServiceError("not-implemented", `${row.ioctl} is not implemented on this host.`, {
        ioctl: row.ioctl,
        errno: "ENOTTY",
        errnoValue: ERRNO.ENOTTY,
      });
    },
  });
}

export function notYetOperations(deps: ApiDeps): readonly Operation[] {
  return NOT_YET.map((row) => notYet(deps, row));
}
