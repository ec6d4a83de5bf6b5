// Owns: looking at the registers of HDBSS and HACDBS and at what lies in a buffer. HTTP thread.
import { hex } from "../../base/hex.js";
import { JSON_TYPE, negotiate, OCTETS, sendBytes } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { json, type Operation, operation } from "../operation.js";
import { VcpuParams } from "../schemas/common.schema.js";
import {
  Hacdbs,
  Hdbss,
  HdbssBytes,
  HdbssQuery,
  SLOTS_DEFAULT,
} from "../schemas/dirty-registers.schema.js";
import { HostCpuParams } from "../schemas/io.schema.js";
import type { ResultOf } from "../services.js";

type View = ResultOf<"readHdbss">;
const ENTRY_BYTES = 8;

function baseView<T extends View["br"]>({ raw, baddr, base, ...rest }: T) {
  return { raw: hex(raw), baddr: hex(baddr), base: hex(base), ...rest };
}

function hdbssView({ from, entries, br, prod, ...view }: View) {
  const next = from + entries.length;
  return {
    ...view,
    br: baseView(br),
    prod: { ...prod, raw: hex(prod.raw) },
    entries: entries.map(({ index, address, raw, ipa, ...entry }) => ({
      index,
      address: hex(address),
      raw: hex(raw),
      ipa: hex(ipa),
      ...entry,
    })),
    nextFrom: entries.length > 0 && next < br.capacity ? next : null,
  };
}

function bytesOf(entries: View["entries"]): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(entries.length * ENTRY_BYTES));
  for (const [at, { raw }] of entries.entries()) bytes.setBigUint64(at * ENTRY_BYTES, raw, true);
  return new Uint8Array(bytes.buffer);
}

function hacdbsView({ br, cons, ...view }: ResultOf<"readHacdbs">) {
  return { ...view, br: baseView(br), cons: { ...cons, raw: hex(cons.raw) } };
}

export function dirtyRegisterOperations({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const common = { method: "GET", tag: "dirty-hardware", scope: "vm:read" } as const;
  return [
    operation({
      ...common,
      id: "getVcpuHdbss",
      path: "/v1/vms/{vm}/vcpus/{n}/hdbss",
      summary: "Look into a vCPU's dirty-state buffer",
      description:
        "HDBSSBR_EL2 and HDBSSPROD_EL2 field by field, and slots of the buffer; by Accept the " +
        "slots alone, byte for byte. Nothing is drained by it.",
      params: VcpuParams,
      query: HdbssQuery,
      answers: {
        200: {
          description: "Registers and slots.",
          content: { ...json("", Hdbss).content, [OCTETS]: { schema: HdbssBytes } },
        },
      },
      problems: ["vm-not-found", "vcpu-not-found", "vm-not-active", "not-acceptable"],
      handle: async ({ params, query, request, reply }) => {
        const type = negotiate(request, [JSON_TYPE, OCTETS]);
        const { from = 0, limit = SLOTS_DEFAULT } = query;
        const { value } = await vms.command(params.vm, "readHdbss", {
          vcpu: params.n,
          from,
          limit,
        });
        return type === OCTETS ? sendBytes(reply, bytesOf(value.entries)) : hdbssView(value);
      },
    }),
    operation({
      ...common,
      id: "getHostCpuHacdbs",
      path: "/v1/vms/{vm}/host-cpus/{n}/hacdbs",
      summary: "Look at a host CPU's cleaning hardware",
      description:
        "HACDBSBR_EL2 and HACDBSCONS_EL2 field by field, the level of HACDBSIRQ, what it did.",
      params: HostCpuParams,
      answers: { 200: json("The registers.", Hacdbs) },
      problems: ["vm-not-found", "host-cpu-not-found", "vm-not-active"],
      handle: async ({ params }) =>
        hacdbsView((await vms.command(params.vm, "readHacdbs", { hostCpu: params.n })).value),
    }),
  ];
}
